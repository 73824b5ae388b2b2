"""`ingot model`: what it shows of presets and folders, what it writes, and mistakes in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ingot.models import huggingface
from ingot.models.decoder import DecoderConfig
from ingot.report.sizes import LADDER
from ingot.tokenizer import Tokenizer
from ingot.train.memory import update_memory
from ingot.train.planner import parameter_count, shape, training_flops_per_token

Run = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model with its tokenizer."""
    tokenizer = Tokenizer.train(["some text to learn from"] * 4, vocabulary=300)
    config = DecoderConfig(
        vocabulary=tokenizer.vocab_size, width=32, layers=3, heads=4, kv_heads=2, head_width=8,
        feed_forward=48, context=32, tied=True,
    )  # fmt: skip
    place = tmp_path / "model"
    place.mkdir()
    huggingface.save(place, config.build())
    tokenizer.save(place)
    return place


def test_a_preset_as_data(run: Run) -> None:
    status, out, _ = run("model", "show", "depth-2", "context=128", "vocabulary=1000", "--json")
    assert status == 0
    found, config = json.loads(out), shape(2, 1000, 128)
    assert found["parameters"] == parameter_count(config) == found["tree"]["parameters"]
    assert found["flops_per_token"]["forward_backward"] == pytest.approx(
        training_flops_per_token(config), rel=0.02
    )
    assert found["kv_bytes_per_token"]["bf16"] == 2 * 2 * 2 * config.kv_heads * config.head_width
    for optimizer, muon in (("muon", True), ("adam", False)):
        for precision in ("fp32", "bf16"):
            total = update_memory(config, 1, precision, matrices_to_muon=muon).total
            assert found["training_memory_bytes"][optimizer][precision]["total"] == total
    memory = found["training_memory_bytes"]
    assert memory["lion"]["fp32"]["optimizer"] == memory["adam"]["fp32"]["optimizer"] // 2


def test_a_folder_in_words_and_as_a_drawing(run: Run, folder: Path, tmp_path: Path) -> None:
    drawing = tmp_path / "architecture.svg"
    status, out, _ = run("model", "show", folder, "--draw", drawing)
    assert status == 0
    rows = {line.split("  ")[0].strip() or line.strip(): line for line in out.splitlines()}
    model = huggingface.load(folder)
    assert f"{model.parameter_count():,}" in rows["Decoder"]
    assert f"{model.config.vocabulary} x 32 = embedding.weight" in out  # the tied head, which adds nothing
    assert "0-2 x 3  Block" in out and "bytes per token" in out and "FLOPs per token" in out
    ElementTree.parse(drawing)


def test_every_preset_of_the_ladder_has_a_configuration() -> None:
    from ingot.report.sizes import read

    for name, depth in LADDER.items():
        assert read(name, [])[0].layers == depth


def test_a_look_is_a_page(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "look.html"
    status, said, _ = run("model", "look", folder, "--text", "some text to look into", "--out", out, "--json")
    assert status == 0
    found = json.loads(said)
    assert found["bytes"] == out.stat().st_size and found["left_out"] == 0
    assert "<title>A look into" in out.read_text(encoding="utf-8")
    status, said, _ = run("model", "look", folder, "--text", "some text " * 40, "--out", out)
    assert status == 0 and "were left out: the model's context is 32" in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show", "depht-12"], "did you mean 'depth-12'"),
        (["show", "depth-2", "hight=3"], "hight"),
        (["show", "depth-2", "kv_heads=7"], "kv_heads"),
        (["show", "FOLDER", "context=9"], "cannot be changed"),
        (["show", "FOLDER/.."], "holds no model"),
        (["look", "FOLDER", "--text", ""], "it takes two"),
        (["look", "FOLDER/none", "--text", "a b c"], "no such folder"),
    ],
)
def test_mistakes_are_one_line(run: Run, folder: Path, arguments: list[str], told: str) -> None:
    status, out, err = run("model", *[one.replace("FOLDER", str(folder)) for one in arguments])
    assert status == 2 and not out
    assert told in err and err.startswith("error: ") and err.count("\n") == 1
