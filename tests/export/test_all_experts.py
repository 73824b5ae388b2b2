"""Experts in graphs: the same answer as sorted ones; caches of latent attention have the shapes they say."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from ingot.bench.published import chosen, write
from ingot.export.all_experts import unsorted
from ingot.export.folder import export_folder
from ingot.models.decoder import DecoderConfig
from ingot.nn.experts import ExpertsConfig

SIZES = {
    "vocabulary": 50,
    "width": 16,
    "layers": 2,
    "heads": 2,
    "kv_heads": 1,
    "head_width": 8,
    "feed_forward": 24,
    "context": 16,
}


@pytest.mark.parametrize(
    "experts",
    [
        {"chosen": 1},
        {"chosen": 2, "shared": 8},
        {"chosen": 2, "scoring": "sigmoid", "groups": 2, "chosen_groups": 1, "scale": 2.5},
    ],
)
def test_all_experts_say_what_the_chosen_say(experts: dict[str, object]) -> None:
    config = DecoderConfig(**SIZES, experts=ExpertsConfig(count=4, width=12, **experts))
    model = config.build(0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    tokens = torch.randint(0, 50, (3, 9))
    everywhere = unsorted(copy.deepcopy(model))
    assert "AllExperts" in repr(everywhere) and "AllExperts" not in repr(model)
    with torch.no_grad():
        difference = (everywhere(tokens).logits - model(tokens).logits).abs().max()
    assert difference <= 1e-5


@pytest.mark.parametrize("family", ["mixtral", "deepseek-v3", "gemma2"])
def test_the_written_graph_is_the_model(family: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    write(chosen([family])[0], tmp_path / "model")
    assert export_folder(tmp_path / "model", tmp_path / "out", "torchscript")["difference"] <= 1e-4
