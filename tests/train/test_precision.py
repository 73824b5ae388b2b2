"""Precision: what runs in what, and the loss scale of fp16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ingot.data.stream import WindowStream
from ingot.errors import ConfigError
from ingot.models.decoder import DecoderConfig
from ingot.objectives.causal import CausalLM
from ingot.objectives.objective import Batch, Loss
from ingot.optim.joint import OptimizerConfig
from ingot.progress import Progress
from ingot.train.precision import Scaler, products
from ingot.train.trainer import TrainConfig, Trainer

CONFIG = DecoderConfig(
    vocabulary=31, width=32, layers=1, heads=2, kv_heads=1, head_width=16, feed_forward=32, context=16
)


class Scaled(CausalLM):
    """Multiplies the gradient, not the loss, by a factor: what is too large or too small for fp16."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        loss = super().loss(model, batch).sum
        return Loss(loss.detach() + (loss - loss.detach()) * self.factor, {})


def trainer(work: Path, precision: str, factor: float = 1.0, steps: int = 12) -> Trainer:
    model = CONFIG.build(0)
    tokens = (np.arange(4000) * np.arange(4000) // 7 % 31).astype(np.uint16)
    config = TrainConfig.parse(
        {
            "steps": steps,
            "checkpoint_every": 4,
            "precision": precision,
            "clip": None,
            "guard": {"least": 1000},
        }
    )
    optimizer = OptimizerConfig(name="sgd", rate=0.05 / factor, momentum=0.0).build(model)
    return Trainer(model, Scaled(factor), WindowStream(tokens, 16, 8, 0), optimizer, config, work)


def losses(run: Trainer) -> list[float]:
    return [line["loss"] for line in run.fit(Progress(), "x")]


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.03), ("fp16", 0.004)])
def test_short_types_follow_float32(tmp_path: Path, precision: str, tolerance: float) -> None:
    exact = losses(trainer(tmp_path / "fp32", "fp32"))
    short = losses(trainer(tmp_path / precision, precision))
    assert short != exact
    assert short == pytest.approx(exact, abs=tolerance)


def test_the_scale_keeps_small_gradients(tmp_path: Path) -> None:
    """Gradients of 1e-7 per place are zeros in fp16; scaled they train as well as large ones."""
    exact = losses(trainer(tmp_path / "fp32", "fp32", factor=1e-5))
    small = trainer(tmp_path / "fp16", "fp16", factor=1e-5)
    assert losses(small) == pytest.approx(exact, abs=0.004)
    unscaled = trainer(tmp_path / "unscaled", "fp16", factor=1e-5)
    assert unscaled.state.scaler is not None
    unscaled.state.scaler.scale = 1.0
    assert losses(unscaled)[-1] > exact[-1] + 0.004


def test_an_overflow_halves_the_scale_and_leaves_the_weights(tmp_path: Path) -> None:
    run = trainer(tmp_path, "fp16", factor=1e3)
    before = [p.detach().clone() for p in run.state.model.parameters()]
    assert run.state.scaler is not None
    seen = []
    for _ in range(12):
        scale = run.state.scaler.scale
        line = run.step()
        seen.append(line["accepted"])
        if not line["accepted"]:
            assert run.state.scaler.scale == scale / 2
            assert "overflow in fp16; the loss scale is" in line["refused"]
        if not any(seen):
            for one, other in zip(before, run.state.model.parameters(), strict=True):
                assert torch.equal(one, other)
    assert not seen[0] and seen[-1]
    assert run.state.guard.skipped == 0  # finding the scale is no fault of the data
    run.prefetch.close()


def test_the_scale_doubles_after_good_updates_and_survives_a_kill(tmp_path: Path) -> None:
    scaler = Scaler(8.0)
    for _ in range(1999):
        scaler.accept()
    assert scaler.scale == 8.0
    again = Scaler()
    again.restore(scaler.state())
    for one in (scaler, again):
        one.accept()
        assert (one.scale, one.good) == (16.0, 0)
    whole = trainer(tmp_path / "whole", "fp16", factor=1e3)
    expected = losses(whole)
    part = trainer(tmp_path / "part", "fp16", factor=1e3)
    part._resume(Progress(), "x")
    for _ in range(8):
        part.step()
    part._save(Progress())
    part.prefetch.close()
    resumed = trainer(tmp_path / "part", "fp16", factor=1e3)
    assert losses(resumed) == expected
    assert resumed.state.scaler is not None and whole.state.scaler is not None
    assert resumed.state.scaler.state() == whole.state.scaler.state()


def test_a_scale_of_one_is_the_end_of_halving() -> None:
    scaler = Scaler(2.0)
    assert [scaler.halve(), scaler.halve(), scaler.scale] == [True, False, 1.0]


def test_tf32_is_refused_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tf32 needs CUDA, the device is cpu"):
        trainer(tmp_path, "tf32")
    before = torch.get_float32_matmul_precision()
    with products("tf32"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before
