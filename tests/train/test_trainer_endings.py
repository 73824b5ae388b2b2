"""Averages, early stopping, hooks and SIGTERM: what a run ends with, and why."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ingot.data.stream import WindowStream
from ingot.models.decoder import DecoderConfig
from ingot.objectives.causal import CausalLM
from ingot.optim.joint import OptimizerConfig
from ingot.progress import Progress
from ingot.train.average import Average
from ingot.train.hooks import Hook, Run
from ingot.train.preemption import Interrupted
from ingot.train.trainer import TrainConfig, Trainer

CONFIG = DecoderConfig(
    vocabulary=31, width=16, layers=1, heads=2, kv_heads=1, head_width=8, feed_forward=32, context=16
)
TOKENS = np.random.default_rng(0).integers(0, 31, 3000).astype(np.uint16)


def trainer(work: Path, validate: Any = None, hooks: Any = (), **changes: Any) -> Trainer:
    model = CONFIG.build(0)
    config = TrainConfig.parse({"steps": 20, "checkpoint_every": 2, **changes})
    optimizer = OptimizerConfig(embedding_rate=0.05).build(model)
    stream = WindowStream(TOKENS, 16, 8, 0)
    return Trainer(model, CausalLM(), stream, optimizer, config, work, validate=validate, hooks=hooks)


def weights(run: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in run.state.model.parameters()])


def test_the_average_is_the_published_sum(tmp_path: Path) -> None:
    """Unrolled in float64: a_n = sum over k of (1 - d_k) w_k times the product of the later d."""
    run = trainer(tmp_path, ema=0.8)
    seen = [weights(run).double()]
    for _ in range(9):
        run.step()
        seen.append(weights(run).double())
    run.prefetch.close()
    decays = [min(0.8, (1 + step) / (10 + step)) for step in range(1, 10)]
    expected = seen[0] * np.prod(decays)
    for step, decay in enumerate(decays):
        expected = expected + seen[step + 1] * (1 - decay) * np.prod(decays[step + 1 :])
    average = run.state.average
    assert average is not None
    found = torch.cat([tensor.flatten() for tensor in average.tensors.values()])
    assert (found.double() - expected).abs().max() < 1e-6
    before = weights(run)
    with average.swap():
        assert torch.equal(weights(run), found)
    assert torch.equal(weights(run), before)


def test_averages_of_short_types_are_kept_in_float32() -> None:
    model = CONFIG.build(0).to(torch.bfloat16)
    average = Average(model, 0.999)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    average.update(step=10_000)
    change = average.tensors["norm.weight"] - 1
    assert change.dtype == torch.float32
    assert torch.allclose(change, torch.full_like(change, 0.001), rtol=1e-3)


def test_the_averaged_weights_are_validated_and_are_the_result(tmp_path: Path) -> None:
    looked: list[Tensor] = []

    def validate() -> dict[str, float]:
        looked.append(weights(run))
        return {"validation": 1.0}

    run = trainer(tmp_path, validate, ema=0.9)
    run.fit(Progress(), "x")
    assert len(looked) == 10
    assert torch.equal(looked[-1], weights(run))
    plain = trainer(tmp_path / "plain")
    plain.fit(Progress(), "x")
    assert not torch.equal(weights(plain), weights(run))


class Course:
    """A validation that falls until a step and rises after it; remembers the weights."""

    def __init__(self, best: int) -> None:
        self.best, self.run, self.seen = best, None, {}

    def __call__(self) -> dict[str, float]:
        assert self.run is not None
        step = self.run.state.step
        self.seen[step] = weights(self.run)
        return {"validation": 2 + abs(step - self.best) / 10, "other": 0.0}


def early(work: Path, best: int, hooks: Any = (), **changes: Any) -> tuple[Trainer, Course]:
    course = Course(best)
    course.run = trainer(work, course, hooks, **changes)
    return course.run, course


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_run_that_gets_no_better_ends_with_its_best_weights(tmp_path: Path, ema: float | None) -> None:
    run, course = early(tmp_path, 6, patience=3, ema=ema)
    log = run.fit(Progress(), "x")
    assert [line["step"] for line in log] == list(range(1, 13))
    assert run.state.stopped == "no better than 2.0000 of step 6 for 3 checkpoints"
    assert torch.equal(weights(run), course.seen[6])
    again, later = early(tmp_path, 6, patience=3, ema=ema)
    assert again.fit(Progress(), "x") == log
    assert later.seen == {} and torch.equal(weights(again), course.seen[6])


def test_early_stopping_survives_a_stop_in_between(tmp_path: Path) -> None:
    class Kill(Hook):
        def step(self, line: dict[str, Any]) -> str | None:
            if line["step"] == 9:
                raise KeyboardInterrupt
            return None

    whole, course = early(tmp_path / "whole", 6, patience=3)
    log = whole.fit(Progress(), "x")
    run, _ = early(tmp_path / "part", 6, [Kill()], patience=3)
    with pytest.raises(KeyboardInterrupt):
        run.fit(Progress(), "x")
    again, _ = early(tmp_path / "part", 6, patience=3)
    assert [line["loss"] for line in again.fit(Progress(), "x")] == [line["loss"] for line in log]
    assert torch.equal(weights(again), course.seen[6])


def test_a_run_that_gets_better_to_the_end_is_not_cut_short(tmp_path: Path) -> None:
    run, course = early(tmp_path, 100, patience=1)
    assert len(run.fit(Progress(), "x")) == 20
    assert run.state.stopped is None and torch.equal(weights(run), course.seen[20])


class Recorder(Hook):
    def __init__(self, enough: int | None = None, signal_at: int | None = None) -> None:
        self.heard: list[Any] = []
        self.enough, self.signal_at = enough, signal_at

    def start(self, run: Run, step: int) -> None:
        self.heard.append(("start", step, run.steps, run.what, run.parameters, run.config["steps"]))

    def step(self, line: dict[str, Any]) -> str | None:
        self.heard.append(("step", line["step"]))
        if line["step"] == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return "enough" if line["step"] == self.enough else None

    def checkpoint(self, step: int, folder: Path) -> None:
        assert (folder / "state.json").exists()
        self.heard.append(("checkpoint", step))

    def error(self, error: BaseException) -> None:
        self.heard.append(("error", type(error).__name__))

    def close(self) -> None:
        self.heard.append("close")


def test_hooks_hear_everything_in_order_and_change_nothing(tmp_path: Path) -> None:
    hook = Recorder()
    run = trainer(tmp_path / "a", hooks=[hook], steps=4)
    log = run.fit(Progress(), "learning")
    size = sum(p.numel() for p in run.state.model.parameters())
    assert hook.heard == [
        ("start", 0, 4, "learning", size, 4),
        ("step", 1),
        ("step", 2),
        ("checkpoint", 2),
        ("step", 3),
        ("step", 4),
        ("checkpoint", 4),
        "close",
    ]
    plain = trainer(tmp_path / "b", steps=4).fit(Progress(), "learning")
    assert [line["loss"] for line in plain] == [line["loss"] for line in log]


def test_a_hook_can_end_a_run(tmp_path: Path) -> None:
    hook = Recorder(enough=3)
    run = trainer(tmp_path, hooks=[hook])
    assert len(run.fit(Progress(), "x")) == 3
    assert hook.heard[-2:] == [("checkpoint", 3), "close"]
    again = trainer(tmp_path)
    assert len(again.fit(Progress(), "x")) == 3 and again.state.stopped == "enough"


def test_sigterm_saves_and_the_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole").fit(Progress(), "x")
    hook = Recorder(signal_at=5)
    with pytest.raises(Interrupted, match="saved after step 5 of 20") as caught:
        trainer(tmp_path / "part", hooks=[hook]).fit(Progress(), "x")
    assert caught.value.exit_code == 143 and caught.value.step == 5
    assert hook.heard[-3:] == [("checkpoint", 5), ("error", "Interrupted"), "close"]
    log = trainer(tmp_path / "part").fit(Progress(), "x")
    assert [line["loss"] for line in log] == [line["loss"] for line in whole]
