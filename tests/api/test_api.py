"""Finding and loading models as a user names them, and the three ways to get text out of one."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import ingot
from ingot.api import locate
from ingot.artifact import publish, write_record
from ingot.errors import ArtifactError, ConfigError, RequestError
from ingot.inference.ingot import Ingot
from ingot.inference.load import load_model
from ingot.models import huggingface
from ingot.models.decoder import DecoderConfig
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.chat import render


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with two base models, one finetuned, and an aligned one that was left out."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    folder.mkdir()
    make(folder, "base", 1)
    make(folder, "base", 2)
    make(folder, "finetuned", 1)
    make(folder, "aligned", 1, left_out="no reward can be mined")
    make(folder, "int8", 1)
    return folder


def make(run: Path, name: str, version: int, left_out: str | None = None) -> None:
    with publish(run / f"{name}@{version}") as folder:
        if left_out is None:
            tokenizer = Tokenizer.train(["def add(a, b): return a + b. Grüße 日本語 " * 20], vocabulary=320)
            tokenizer.save(folder)
            config = DecoderConfig(
                vocabulary=tokenizer.vocab_size,
                width=32,
                layers=2,
                heads=4,
                kv_heads=2,
                head_width=8,
                feed_forward=64,
                context=128,
            )
            model = config.build(seed=version)
            if name == "int8":
                from ingot.compress import quantize, save_int8

                save_int8(folder, quantize(model))
            else:
                huggingface.save(folder, model)
        write_record(folder, kind="model", name=name, version=version, left_out=left_out)


def test_the_best_model_that_was_made_is_meant(run: Path) -> None:
    assert locate(run).name == "finetuned@1"
    assert locate(run, "base").name == "base@2"
    assert locate(run, "base@1").name == "base@1"
    assert locate(run, "int8").name == "int8@1"
    assert locate(run / "base@1") == run / "base@1"


@pytest.mark.parametrize(
    ("folder", "model", "words"),
    [
        (".", "bas", r"no model 'bas'.*did you mean 'base'"),
        (".", "base@7", r"no model 'base@7'.*base@"),
        (".", "aligned", "left out: no reward can be mined"),
        ("base@1", "int8", r"one model.*run folder"),
        ("nowhere", None, "no such folder"),
        ("base@1/config.json", None, "a file, not a folder"),
        ("aligned@1", None, "holds no model"),
    ],
)
def test_what_is_not_there_is_said(run: Path, folder: str, model: str | None, words: str) -> None:
    with pytest.raises(ArtifactError, match=words) as caught:
        locate(run / folder, model)
    assert "\n" not in str(caught.value)


def test_text_comes_whole_and_in_pieces(run: Path) -> None:
    model = ingot.load(run)
    assert model.name == "finetuned@1"
    text = model.generate("def add", max_new_tokens=30, temperature=1.0, seed=4)
    assert "".join(model.stream("def add", max_new_tokens=30, temperature=1.0, seed=4)) == text
    assert model.last is not None
    assert model.last.text == text
    assert model.last.tokens_per_second > 0
    assert model.engine.generate([model.encode("def add")], stop_ids=model.stop_ids)[0].prompt_tokens > 1


def test_prompts_begin_with_bos_and_chats_with_the_template(run: Path) -> None:
    model = ingot.load(run)
    assert model.encode("x") == [model.tokenizer.bos_id, *model.tokenizer.encode("x")]
    messages = [{"role": "user", "content": "Grüße"}]
    assert model.tokenizer.decode(model.encode(messages)) == render(messages, add_generation_prompt=True)
    assert isinstance(model.chat(messages, max_new_tokens=5), str)


def test_mistakes_are_said_before_the_first_text(run: Path) -> None:
    model = ingot.load(run)
    with pytest.raises(RequestError, match=r"\d+ tokens.*128"):
        model.stream("word " * 200)
    with pytest.raises(ConfigError, match=r"temprature.*did you mean 'temperature'"):
        model.stream("x", temprature=1)
    with pytest.raises(ConfigError, match="temperature"):
        model.generate("x", temperature=-1)
    assert not model.engine.waiting


def test_long_conversations_are_cut_to_fit(run: Path) -> None:
    model = ingot.load(run)
    messages = [
        {"role": ("user", "assistant")[i % 2], "content": f"message number {i} of many"} for i in range(11)
    ]
    kept, cut = model.fit(messages)
    assert cut
    assert [*cut, *kept] == messages
    assert len(model.encode(kept)) <= 128 - 32
    assert model.chat(kept, max_new_tokens=5) is not None


def test_int8_loads_and_counts_its_weights_like_the_others(run: Path) -> None:
    small, full = ingot.load(run, "int8"), ingot.load(run, "base@1")
    assert small.parameters == full.parameters
    assert isinstance(small.generate("def", max_new_tokens=8), str)


def copy(source: Path, target: Path) -> Path:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_damaged_folders_are_named_in_one_line(run: Path, tmp_path: Path) -> None:
    folder = copy(run / "base@1", tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ArtifactError, match=r"model\.safetensors.*(damaged|truncated)") as caught:
        ingot.load(folder)
    assert "\n" not in str(caught.value)

    folder = copy(run / "base@1", tmp_path / "mixed")
    Tokenizer.train(["abc abc abd " * 30], vocabulary=305).save(folder)
    with pytest.raises(ArtifactError, match="entries"):
        ingot.load(folder)

    folder = copy(run / "base@1", tmp_path / "foreign")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["Other"]}))
    with pytest.raises(ArtifactError, match="Other"):
        ingot.load(folder)


def test_the_number_type_can_be_asked_for(run: Path) -> None:
    model, _ = load_model(run / "base@1", dtype=torch.float32)
    assert model.head.weight.dtype == torch.float32
    assert not model.head.weight.requires_grad


def test_a_conversation_takes_the_form_of_the_models_own_template(run: Path) -> None:
    model, tokenizer = load_model(run / "base@1")
    form = "{% for message in messages %}<|im_start|>{{ message.role }}: {{ message.content }}{% endfor %}"
    other = Tokenizer(dataclasses.replace(tokenizer.parts, chat_template=form))
    ids = Ingot(run / "base@1", model, other).encode([{"role": "user", "content": "add <|im_start|>"}])
    start = tokenizer.special["<|im_start|>"]
    assert ids == [start, *tokenizer.encode("user: add <|im_start|>")]
    assert ids.count(start) == 1  # what was typed stays text
