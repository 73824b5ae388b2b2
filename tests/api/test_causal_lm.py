"""A script written for `transformers` runs with one line changed, and says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import ingot
from ingot.errors import ConfigError, RequestError
from ingot.models import huggingface
from ingot.models.decoder import DecoderConfig
from ingot.tokenizer import Tokenizer

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer.train(["def add(a, b): return a + b. Grüße 日本語 " * 20], vocabulary=320)
    config = DecoderConfig(
        vocabulary=tokenizer.vocab_size, width=32, layers=2, heads=4, kv_heads=2, head_width=8,
        feed_forward=64, context=128,
    )  # fmt: skip
    model = config.build(0)
    with torch.no_grad():  # a head that begins at zero would always say the same
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    huggingface.save(
        made, model, special={"eos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}
    )
    tokenizer.save(made)
    return made


@pytest.fixture(scope="module")
def ours(folder: Path) -> ingot.CausalLM:
    return ingot.CausalLM.from_pretrained(folder)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def inputs(folder: Path, *texts: str) -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    made = tokenizer(list(texts), return_tensors="pt", padding=True)
    return {key: made[key] for key in ("input_ids", "attention_mask")}


@pytest.mark.parametrize(
    "wishes",
    [
        {"max_length": 50},
        {"max_new_tokens": 9, "min_new_tokens": 4},
        {"max_new_tokens": 30, "repetition_penalty": 1.3},
        {"max_new_tokens": 12, "eos_token_id": [5, 40, 41, 42, 43, 44, 45, 46, 47], "pad_token_id": 3},
    ],
)
def test_greedy_rows_are_those_of_transformers(
    folder: Path, ours: ingot.CausalLM, theirs: Any, wishes: dict[str, Any]
) -> None:
    wishes = {"do_sample": False} | wishes  # the folder asks for draws
    prompts = inputs(folder, "def add(a, b):")  # one row: a penalty there counts the padding of several
    assert ours.generate(**prompts, **wishes).tolist() == theirs.generate(**prompts, **wishes).tolist()
    if "repetition_penalty" not in wishes:
        prompts = inputs(folder, "def add(a, b):", "a", "return Grüße")
        assert ours.generate(**prompts, **wishes).tolist() == theirs.generate(**prompts, **wishes).tolist()


def test_the_quick_start_prints_the_same(folder: Path, ours: ingot.CausalLM, theirs: Any) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    asked = tokenizer("def add(a, b):", return_tensors="pt")
    said = [
        tokenizer.decode(
            model.generate(asked["input_ids"], max_length=50, do_sample=False)[0], skip_special_tokens=True
        )
        for model in (ours, theirs)
    ]
    assert said[0] == said[1]


def test_a_pipeline_of_transformers_says_what_we_say(folder: Path, ours: ingot.CausalLM) -> None:
    writer = transformers.pipeline("text-generation", model=str(folder), dtype=torch.float32)
    prompts, greedy = inputs(folder, "def add(a, b):"), {"max_new_tokens": 24, "do_sample": False}
    made = writer("def add(a, b):", return_full_text=False, **greedy)[0]["generated_text"]
    answer = ours.generate(**prompts, **greedy)[0, prompts["input_ids"].shape[1] :]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert made == tokenizer.decode(answer, skip_special_tokens=True)


def test_draws_follow_the_seed_and_the_number_asked_for(folder: Path, ours: ingot.CausalLM) -> None:
    prompts, wishes = inputs(folder, "def", "a + b"), {"do_sample": True, "num_return_sequences": 3}
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(ours.generate(**prompts, **wishes, max_new_tokens=10))
    assert drawn[0].tolist() == drawn[1].tolist() != drawn[2].tolist()
    width = prompts["input_ids"].shape[1]
    assert drawn[0][:, :width].tolist() == prompts["input_ids"].repeat_interleave(3, 0).tolist()
    assert len({tuple(row) for row in drawn[0].tolist()}) > 2


def test_a_folder_may_say_what_it_wants(folder: Path, tmp_path: Path, theirs: Any) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    told = json.loads((tmp_path / "generation_config.json").read_text())
    told |= {"max_new_tokens": 7, "do_sample": False}
    (tmp_path / "generation_config.json").write_text(json.dumps(told))
    prompts = inputs(folder, "return")
    made = ingot.CausalLM.from_pretrained(tmp_path).generate(**prompts)
    assert made.tolist() == theirs.generate(**prompts, max_new_tokens=7, do_sample=False).tolist()


def test_mistakes_are_named(folder: Path, ours: ingot.CausalLM) -> None:
    prompts = inputs(folder, "def add(a, b):")
    with pytest.raises(ConfigError, match="did you mean 'max_new_tokens'"):
        ours.generate(**prompts, max_new_token=3)
    with pytest.raises(RequestError, match=r"max_length is 2"):
        ours.generate(**prompts, max_length=2)
    prompts["attention_mask"][:, -1] = 0
    with pytest.raises(RequestError, match="on their right"):
        ours.generate(**prompts)
