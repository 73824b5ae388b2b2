"""Hooks do nothing until they are overridden; the trainer tells them all, and they change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ingot.data.stream import WindowStream
from ingot.models.decoder import DecoderConfig
from ingot.objectives.causal import CausalLM
from ingot.optim.joint import OptimizerConfig
from ingot.progress import Progress
from ingot.train.fit import largest_micro_batch, trial
from ingot.train.hooks import Hook, Run
from ingot.train.profile import OTHERS, profile
from ingot.train.trackers import tracker
from ingot.train.trainer import TrainConfig, Trainer


def run_of(work: Path) -> Run:
    return Run(work, 10, {"steps": 10}, 1000, None, None, "training")


def test_a_bare_hook_is_silent(tmp_path: Path) -> None:
    hook = Hook()
    hook.start(run_of(tmp_path), 0)
    assert hook.step({"step": 1, "loss": 2.0}) is None
    hook.checkpoint(1, tmp_path)
    hook.error(ValueError("a bug"))
    hook.close()
    assert list(tmp_path.iterdir()) == []


def test_a_hook_may_ask_for_the_end_and_say_why(tmp_path: Path) -> None:
    class Enough(Hook):
        def step(self, line: dict) -> str | None:
            return "low enough" if line["loss"] < 1 else None

    hook = Enough()
    hook.start(run_of(tmp_path), 3)
    assert [hook.step({"loss": loss}) for loss in (2.0, 0.5)] == [None, "low enough"]


class Noted(Hook):
    """Writes down what it is told."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.told: list[object] = []

    def start(self, run: Run, step: int) -> None:
        self.run = run
        self.told.append(("start", step))

    def step(self, line: dict) -> str | None:
        self.told.append(line["step"])
        return "enough" if line["step"] == self.stop_at else None

    def checkpoint(self, step: int, folder: Path) -> None:
        assert folder.is_dir()
        self.told.append(("checkpoint", step))

    def error(self, error: BaseException) -> None:
        self.told.append(type(error))

    def close(self) -> None:
        self.told.append("close")


def trainer(work: Path, *hooks: Hook) -> Trainer:
    config = DecoderConfig(
        vocabulary=31, width=16, layers=1, heads=2, kv_heads=1, head_width=8, feed_forward=32, context=16
    )
    model = config.build(0)
    tokens = np.random.default_rng(0).integers(0, 31, 2000, dtype=np.uint16)
    stream = WindowStream(tokens, 16, 4, seed=0)
    optimizer = OptimizerConfig(embedding_rate=0.05).build(model)
    settings = TrainConfig(steps=6, checkpoint_every=3)
    return Trainer(model, CausalLM(), stream, optimizer, settings, work, hooks=hooks, flops_per_token=1e4)


def losses(log: list[dict]) -> list[float]:
    return [line["loss"] for line in log]


def test_the_trainer_tells_all_five_points_in_order_and_changes_nothing(tmp_path: Path) -> None:
    noted = Noted()
    watched = trainer(tmp_path / "a", noted).fit(Progress(), "pretraining")
    assert noted.told == [("start", 0), 1, 2, 3, ("checkpoint", 3), 4, 5, 6, ("checkpoint", 6), "close"]
    assert (noted.run.steps, noted.run.what, noted.run.work) == (6, "pretraining", tmp_path / "a")
    assert noted.run.config["checkpoint_every"] == 3
    assert noted.run.peak_flops is not None and noted.run.peak_flops > 1e8
    assert losses(watched) == losses(trainer(tmp_path / "b").fit(Progress(), "pretraining"))


def test_a_wish_to_stop_is_saved_and_kept_and_errors_are_told(tmp_path: Path) -> None:
    noted = Noted(stop_at=2)
    assert len(trainer(tmp_path / "a", noted).fit(Progress(), "x")) == 2
    assert noted.told == [("start", 0), 1, 2, ("checkpoint", 2), "close"]

    class Breaks(Hook):
        def step(self, line: dict) -> str | None:
            raise ValueError("a bug")

    noted = Noted()
    with pytest.raises(ValueError, match="a bug"):
        trainer(tmp_path / "b", noted, Breaks()).fit(Progress(), "x")
    assert noted.told == [("start", 0), 1, ValueError, "close"]


def test_a_real_run_is_tracked_fitted_and_profiled(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = trainer(tmp_path / "a", tracker("tensorboard", tmp_path / "tracking"))
    log = run.fit(Progress(), "pretraining")
    (folder,) = (tmp_path / "tracking" / "tensorboard").iterdir()
    read = EventAccumulator(str(folder)).Reload()
    assert [event.value for event in read.Scalars("loss")] == pytest.approx(losses(log))
    other = trainer(tmp_path / "b")
    before = {name: value.clone() for name, value in other.state.model.state_dict().items()}
    try_rows = trial(other.state.model, other.forward, other.stream.batch(0), "cpu", limit=10**9)
    assert largest_micro_batch(try_rows, rows=4, limit=10**9) == 4
    assert all(torch.equal(value, before[name]) for name, value in other.state.model.state_dict().items())
    found = profile(2, other.step, flops_per_token=1e4, peak=1e12)
    assert found.tokens_per_second == pytest.approx(4 * 16 / found.seconds_per_step)
    assert found.mfu is not None and found.operations[-1].name == OTHERS
