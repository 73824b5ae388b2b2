"""`ingot bench parity`: families that are theirs pass, and one that is not is found out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from ingot.bench import doors, parity
from ingot.bench.published import PUBLISHED, chosen
from ingot.cli import app
from ingot.errors import ConfigError

pytest.importorskip("transformers")


def test_a_family_passes_and_the_table_says_so() -> None:
    done = CliRunner().invoke(app, ["bench", "parity", "qwen3", "BERT", "--json"])
    assert done.exit_code == 0, done.output
    rows = {row["family"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["Qwen3"]["tokens"]["words"] == "2 of 2 x 40"
    assert rows["Qwen3"]["fp32"]["met"] and rows["Qwen3"]["bf16"]["met"] and rows["Qwen3"]["onnx"]["met"]
    assert rows["BERT"]["back"]["met"] and rows["BERT"]["tokens"]["met"] is None


def test_a_model_that_is_off_by_a_little_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = doors.DOORS["decoder"]

    def load(folder: Path, dtype: torch.dtype) -> Any:
        model = door.load(folder, dtype)
        with torch.no_grad():
            model.blocks[2].feed_forward_norm.weight[5] += 0.01
        return model

    monkeypatch.setitem(doors.DOORS, "decoder", replace(door, load=load, gguf=False, onnx=False))
    row = parity.check(chosen(["qwen3"])[0], tmp_path)
    assert row.fp32.met is False and row.back.met is False and not row.met()
    assert "1 weights differ: model.layers.2.post_attention_layernorm.weight" in row.back.words
    assert "**no**" in parity.markdown([row])


def test_names_are_spelt_loosely_and_wrong_ones_are_named() -> None:
    assert [one.name for one in chosen(["LLAMA-3", "gpt2"])] == ["Llama 3", "GPT-2"]
    assert chosen([]) == PUBLISHED
    with pytest.raises(ConfigError, match="unknown family 'Lama 3'") as wrong:
        chosen(["Lama 3"])
    assert "Llama 3" in str(wrong.value)
