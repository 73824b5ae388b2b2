"""Models that are not plain decoders, as a user meets them: loaded by name, they rewrite, write and embed."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import ingot
from ingot.api import Embedder, Ingot, locate
from ingot.artifact import publish, write_record
from ingot.cli import main
from ingot.errors import ArtifactError, ConfigError, RequestError
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.load import load_writer
from ingot.models import encoder_decoder_folder, encoder_folder, huggingface, linear_folder
from ingot.models.decoder import DecoderConfig
from ingot.models.encoder import EncoderConfig
from ingot.models.encoder_decoder import EncoderDecoderConfig
from ingot.models.encoder_decoder_writing import write
from ingot.models.families.t5 import PARTS
from ingot.models.kinds import kind_of
from ingot.models.linear_config import FullAttentionConfig, LinearDecoderConfig
from ingot.nn.delta import DeltaConfig
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.training import TokenizerConfig

CORPUS = ["def add(a, b): return a + b. a small dog, a little dog; Grüße 日本語 " * 20]
MARKS = ("<pad>", "</s>", "<extra_id_0>", "<extra_id_1>")


def drawn(model: nn.Module) -> nn.Module:
    """Weights that are far from where training starts."""
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3, generator=random)
    return model.eval()


def make_seq2seq(folder: Path) -> None:
    tokenizer = Tokenizer.train(CORPUS, 320, config=TokenizerConfig(kind="bpe", specials=MARKS))
    sizes = {"width": 24, "encoder_layers": 2, "decoder_layers": 2, "heads": 2, "head_width": 12}
    config = EncoderDecoderConfig.parse(
        {
            **PARTS,
            **sizes,
            "vocabulary": tokenizer.vocab_size,
            "feed_forward": 32,
            "context": 64,
            "padding": tokenizer.pad_id,
            "begin": tokenizer.pad_id,
            "end": tokenizer.eos_id,
        }
    )
    encoder_decoder_folder.save(folder, drawn(config.build(1)))  # type: ignore[arg-type]
    tokenizer.save(folder)


def make_linear(folder: Path) -> None:
    tokenizer = Tokenizer.train(CORPUS, 320)
    config = LinearDecoderConfig(
        vocabulary=tokenizer.vocab_size,
        width=32,
        layers=2,
        feed_forward=48,
        context=96,
        delta=DeltaConfig(key_heads=2, value_heads=4, key_width=8, value_width=6),
        attention=FullAttentionConfig(every=2, heads=4, kv_heads=2, head_width=8),
    )
    linear_folder.save(folder, drawn(config.build(1)))  # type: ignore[arg-type]
    tokenizer.save(folder)


def make_encoder(folder: Path) -> None:
    tokenizer = Tokenizer.train(CORPUS, 320, config=TokenizerConfig(kind="wordpiece"))
    config = EncoderConfig(
        vocabulary=tokenizer.vocab_size, width=24, layers=2, heads=4, feed_forward=48, context=40, padding=0
    )
    encoder_folder.save(folder, drawn(config.build(1)))  # type: ignore[arg-type]
    tokenizer.save(folder)


def make_decoder(folder: Path) -> None:
    tokenizer = Tokenizer.train(CORPUS, 320)
    sizes = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "head_width": 8, "feed_forward": 64}
    config = DecoderConfig(vocabulary=tokenizer.vocab_size, context=64, **sizes)
    huggingface.save(folder, drawn(config.build(1)))  # type: ignore[arg-type]
    tokenizer.save(folder)


MAKE = {
    "translator": (make_seq2seq, "encoder_decoder"),
    "base": (make_linear, "linear_decoder"),
    "embedder": (make_encoder, "encoder"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder for each kind."""
    root = tmp_path_factory.mktemp("runs")
    for name, (make, kind) in MAKE.items():
        run = root / name
        run.mkdir()
        with publish(run / f"{name}@1") as folder:
            make(folder)
            write_record(folder, kind=kind, name=name, version=1)
    return root


def test_each_kind_is_known_and_found(runs: Path) -> None:
    for name, (_, kind) in MAKE.items():
        assert locate(runs / name).name == f"{name}@1"
        assert locate(runs / name, name).name == f"{name}@1"
        assert kind_of(locate(runs / name))[0].artifact == kind


def exact(run: Path) -> Ingot:
    """A run's model in fp32, in which no two ways of computing it disagree about a token."""
    path = locate(run)
    return Ingot(path, *load_writer(path, dtype=torch.float32))


def test_an_encoder_decoder_rewrites(runs: Path) -> None:
    assert isinstance(ingot.load(runs / "translator"), Ingot)
    model = exact(runs / "translator")
    assert model.rewrites
    assert model.parameters == model.model.parameter_count()
    source = model.encode("def add <extra_id_0> b")
    assert source[-1] == model.tokenizer.eos_id
    assert model.tokenizer.special["<extra_id_0>"] in source
    text = model.generate("def add", max_new_tokens=20, temperature=0)
    right = write(model.model, torch.tensor([model.encode("def add")]), 20)[0].tolist()  # type: ignore[arg-type]
    assert model.last is not None and model.last.tokens == right
    assert "".join(model.stream("def add", max_new_tokens=20, temperature=0)) == text
    assert model.generate("def add", beams=1, max_new_tokens=20) == text
    assert isinstance(model.generate("def add", beams=4, max_new_tokens=20), str)
    many = model.engine.generate([source, source[:3]], Sampling(max_new_tokens=5), model.stop_ids)
    assert [one.prompt_tokens for one in many] == [len(source), 3]


def test_marks_are_read_and_shown_and_other_control_tokens_are_text(runs: Path) -> None:
    model = ingot.load(runs / "translator")
    assert isinstance(model, Ingot)
    mark = model.tokenizer.special["<extra_id_1>"]
    assert model.engine.tokenizer.token_bytes(mark) == b" <extra_id_1> "
    assert model.engine.tokenizer.token_bytes(model.tokenizer.eos_id) == b""
    assert model.encode("</s>").count(model.tokenizer.eos_id) == 1  # the one that is put behind a text
    assert model.encode("<extra_id_7>").count(mark) == 0


def test_an_encoder_decoder_holds_no_conversations_and_makes_no_vectors(runs: Path) -> None:
    model = ingot.load(runs / "translator")
    assert isinstance(model, Ingot)
    with pytest.raises(RequestError, match="rewrites texts, and holds no conversations"):
        model.chat([{"role": "user", "content": "hello"}])
    with pytest.raises(ArtifactError, match="makes no vectors"):
        model.embed(["hello"])
    with pytest.raises(RequestError, match=r"\d+ tokens.*64"):
        model.generate("word " * 100)


def test_a_linear_decoder_writes_chats_and_streams(runs: Path) -> None:
    assert isinstance(ingot.load(runs / "base"), Ingot)
    model = exact(runs / "base")
    assert not model.rewrites
    text = model.generate("def add", max_new_tokens=20, temperature=0)
    ids = model.encode("def add")
    with torch.no_grad():
        for _ in range(20):
            logits = model.model(torch.tensor([ids])).logits
            ids.append(int(logits[0, -1].argmax()))
            if ids[-1] in model.stop_ids:
                break
    assert model.last is not None and model.last.tokens == ids[len(model.encode("def add")) :]
    assert "".join(model.stream("def add", max_new_tokens=20, temperature=0)) == text
    assert isinstance(model.chat([{"role": "user", "content": "hello"}], max_new_tokens=4), str)
    with pytest.raises(RequestError, match="2 beams"):
        model.generate("def", beams=2)
    with pytest.raises(ConfigError, match="pooling='mean'"):
        model.embed(["def"])
    assert model.embed(["def", "return a + b"], pooling="mean").norm(dim=-1).tolist() == pytest.approx([1, 1])


def test_an_encoder_embeds(runs: Path) -> None:
    model = ingot.load(runs / "embedder")
    assert isinstance(model, Embedder) and model.name == "embedder@1"
    vectors = model.embed(["a small dog", "a little dog", "a small dog"])
    assert vectors.shape == (3, 24) and torch.allclose(vectors[0], vectors[2], atol=1e-6)
    with pytest.raises(ArtifactError, match=r"holds an encoder.*ingot embed"):
        Ingot.load(runs / "embedder")


def test_a_decoder_embeds_when_it_is_asked_and_searches(tmp_path: Path) -> None:
    make_decoder(tmp_path)
    model = ingot.load(tmp_path, device="cpu")
    assert isinstance(model, Ingot)
    with pytest.raises(ConfigError, match="not trained to make vectors"):
        model.embed(["def"])
    hf = pytest.importorskip("transformers").AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    plain = Ingot(tmp_path, *load_writer(tmp_path, dtype=torch.float32))
    prompt = torch.tensor([plain.encode("def add")])
    asked_for = {
        "num_beams": 3,
        "max_new_tokens": 9,
        "do_sample": False,
        "eos_token_id": list(plain.stop_ids),
    }
    right = hf.generate(prompt, **asked_for, pad_token_id=0)[0, prompt.shape[1] :].tolist()
    shown = plain.tokenizer.decode(right, skip_special=True)
    assert plain.generate("def add", beams=3, max_new_tokens=9) == shown
    asked = model.embed(["def", "return"], pooling="last")
    assert asked.shape == (2, 32) and float((asked[0] - asked[1]).abs().max()) > 0.01


def test_a_tokenizer_of_another_model_is_refused(runs: Path, tmp_path: Path) -> None:
    for name in ("translator", "base"):
        folder = tmp_path / name
        folder.mkdir()
        for path in locate(runs / name).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        other = Tokenizer.train(["abc abc abd " * 30], 305)
        Tokenizer(dataclasses.replace(other.parts)).save(folder)
        with pytest.raises(ArtifactError, match="entries"):
            ingot.load(folder)


class Said(NamedTuple):
    code: int
    out: str
    err: str


Ask = Callable[..., Said]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The command line, in this process."""

    def run(*words: object, given: str = "") -> Said:
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words), "--device", "cpu"])
        out, err = capsys.readouterr()
        return Said(int(ended.value.code or 0), out, err)

    return run


def test_the_command_line_embeds_and_ranks(runs: Path, tmp_path: Path, ask: Ask) -> None:
    run, model = runs / "embedder", ingot.load(runs / "embedder")
    assert isinstance(model, Embedder)
    said = ask("embed", run, "--text", "a small dog", "--file", "-", given="a + b\n\nGrüße\n")
    assert said.code == 0, said.err
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [row["text"] for row in rows] == ["a small dog", "a + b", "Grüße"]
    expected = model.embed([row["text"] for row in rows])
    assert np.allclose([row["vector"] for row in rows], expected.numpy(), atol=1e-5)

    (tmp_path / "texts").write_text("a + b\na small dog\n")
    said = ask("embed", run, "--file", tmp_path / "texts", "--query", "a small dog")
    assert [json.loads(line)["text"] for line in said.out.splitlines()] == ["a small dog", "a + b"]
    said = ask("embed", run, "--file", tmp_path / "texts", "--out", tmp_path / "v.npy")
    assert "2 vectors of 24 numbers" in said.out
    assert np.load(tmp_path / "v.npy").shape == (2, 24)
    said = ask("embed", run)
    assert said.code == 2 and "--text or --file" in said.err


def test_the_command_line_rewrites(runs: Path, ask: Ask) -> None:
    said = ask("generate", runs / "translator", "def add", "--max-new-tokens", 9, "--json")
    assert said.code == 0, said.err
    model = ingot.load(runs / "translator")
    assert isinstance(model, Ingot)
    told = json.loads(said.out)
    assert told["text"] == model.generate("def add", max_new_tokens=9, temperature=0)
    assert told["temperature"] == 0
    said = ask("generate", runs / "translator", "def add", "--max-new-tokens", 9, "--beams", 3)
    assert said.out == model.generate("def add", beams=3, max_new_tokens=9) + "\n"
    said = ask("chat", runs / "translator", given="hello\n")
    assert "holds no conversations" in said.err
