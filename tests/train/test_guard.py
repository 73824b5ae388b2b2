"""The guard: what is no number never reaches the weights, spikes are left out, and a bad stretch is fled."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ingot.data.stream import WHOLE, Part, WindowStream
from ingot.errors import IngotError
from ingot.models.decoder import DecoderConfig
from ingot.objectives.causal import CausalLM
from ingot.objectives.objective import Batch, Loss
from ingot.optim.joint import OptimizerConfig
from ingot.progress import Progress
from ingot.train.guard import Guard
from ingot.train.log import MetricsLog
from ingot.train.trainer import TrainConfig, Trainer

CONFIG = DecoderConfig(
    vocabulary=31, width=16, layers=1, heads=2, kv_heads=1, head_width=8, feed_forward=32, context=16
)
NAN = float("nan")


def steady(guard: Guard, steps: int = 64) -> None:
    chance = random.Random(0)
    for _ in range(steps):
        assert guard.verdict(2 + chance.gauss(0, 0.1), abs(chance.gauss(1, 0.2)) + 0.1) is None


def test_spikes_are_refused_and_dips_are_not() -> None:
    guard = Guard()
    steady(guard)
    assert "the loss spikes (3.5; mean of the last steps 2.0" in str(guard.verdict(3.5, 1.0))
    assert "gradient spikes" in str(guard.verdict(2.0, 100.0))
    assert guard.in_row == guard.skipped == 2
    assert guard.verdict(0.5, 0.01) is None
    assert guard.in_row == 0 and guard.skipped == 2


@settings(max_examples=50, deadline=None)
@given(bad=st.lists(st.sampled_from([(NAN, 1.0), (2.0, NAN), (float("inf"), 1.0), (2.0, float("inf"))])))
def test_what_is_no_number_never_enters_the_window(bad: list[tuple[float, float]]) -> None:
    """The defect of others: a NaN in the window makes every later comparison false."""
    guard, other = Guard(), Guard()
    steady(guard)
    steady(other)
    for loss, norm in bad:
        assert "not finite" in str(guard.verdict(loss, norm))
    assert list(guard.losses) == list(other.losses)
    assert "spikes" in str(guard.verdict(9.0, 1.0))
    assert guard.verdict(2.0, 1.0) is None


def test_refused_spikes_do_not_become_the_ordinary() -> None:
    guard = Guard()
    steady(guard)
    assert all(guard.verdict(9.0, 1.0) is not None for _ in range(300))


def test_a_falling_loss_and_a_noisy_norm_pass() -> None:
    """The course of a healthy training: fast at first, norms that vary by factors (log-normally)."""
    for seed in range(20):
        guard, chance = Guard(), np.random.default_rng(seed)
        for step in range(2000):
            loss = 1.5 + 4 / (1 + step / 30) + chance.normal(0, 0.05)
            assert guard.verdict(loss, float(np.exp(chance.normal(0, 0.4)))) is None


def test_the_state_goes_through_json_bit_for_bit() -> None:
    guard, again = Guard(), Guard()
    steady(guard, 200)
    guard.verdict(NAN, 1.0)
    again.restore(json.loads(json.dumps(guard.state())))
    assert again.state() == guard.state()
    assert again.losses.maxlen == 128
    assert again.verdict(2.123, 0.7) == guard.verdict(2.123, 0.7)


Bad = Callable[[int, int], bool]


class Text:
    """Windows of a learnable text; other salts are other orders. Where `bad` says so, loss is spoilt."""

    def __init__(self, bad: Bad = lambda step, salt: False) -> None:
        tokens = (np.arange(4000) * np.arange(4000) // 7 % 31).astype(np.uint16)
        self.inner = WindowStream(tokens, 16, 8, 0)
        self.fingerprint, self.batch_size = self.inner.fingerprint, 8
        self.bad = bad

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> Batch:
        batch = self.inner.batch(step, salt, part)
        return batch | {"spoilt": torch.full_like(batch["sample_ids"], self.bad(step, salt))}

    def sample_ids(self, step: int, salt: int = 0) -> Tensor:
        return self.inner.sample_ids(step, salt)


class Hooked(nn.Module):
    """A decoder whose gradient, not its loss, is spoilt at chosen calls."""

    def __init__(self, spoilt: set[int]) -> None:
        super().__init__()
        self.inner = CONFIG.build(0)
        self.calls, self.spoilt = -1, spoilt
        self.inner.norm.weight.register_hook(self._spoil)

    def _spoil(self, gradient: Tensor) -> Tensor:
        return gradient * NAN if self.calls in self.spoilt else gradient

    def forward(self, inputs: Tensor):
        self.calls += 1
        return self.inner(inputs)


def run_of(
    work: Path, model: nn.Module, stream: Text | None = None, factor: float = 1.0, **changes: object
) -> Trainer:
    config = TrainConfig.parse({"steps": 60, "checkpoint_every": 10, **changes})
    optimizer = OptimizerConfig(matrix_rate=0.01, embedding_rate=0.01).build(model)
    return Trainer(model, Spoilt(factor), stream or Text(), optimizer, config, work)


def test_a_nan_gradient_with_a_finite_loss_costs_one_step(tmp_path: Path) -> None:
    model = Hooked({3})
    run = run_of(tmp_path, model, ema=0.9)
    for _ in range(3):
        run.step()
    before = {name: tensor.clone() for name, tensor in run.state.tensors().items()}
    line = run.step()
    assert np.isfinite(line["loss"]) and line["refused"] == "the gradient is not finite"
    assert line["sample_ids"] == Text().sample_ids(3).tolist()
    for name, tensor in run.state.tensors().items():
        assert torch.equal(tensor, before[name]), name
    after = [run.step() for _ in range(40)]
    assert all(line["accepted"] for line in after)
    assert after[-1]["loss"] < line["loss"]
    run.prefetch.close()


def test_a_guarded_run_is_the_run_without_the_bad_batch(tmp_path: Path) -> None:
    """Skipping changes nothing but the schedule's place: compared with a run that never saw the step."""

    class Without(Text):
        def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> Batch:
            return super().batch(step + (step >= 5), salt, part)

    level = {"warmup": 0.0, "decay": 0.0}
    bad = run_of(tmp_path / "a", Hooked({5}), steps=15, schedule=level).fit(Progress(), "x")
    model = Hooked(set())
    config = TrainConfig.parse({"steps": 14, "checkpoint_every": 10, "schedule": level})
    optimizer = OptimizerConfig(matrix_rate=0.01, embedding_rate=0.01).build(model)
    good = Trainer(model, CausalLM(), Without(), optimizer, config, tmp_path / "b").fit(Progress(), "x")
    assert [line["loss"] for line in bad if line["accepted"]] == [line["loss"] for line in good]


class Spoilt(CausalLM):
    """Meets data that it cannot learn from: they blow the loss up."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        loss = super().loss(model, batch)
        return Loss(loss.sum * self.factor, {}) if batch["spoilt"].any() else loss


@pytest.mark.parametrize("factor", [NAN, 50.0])
def test_a_bad_stretch_is_fled_by_a_rollback_with_another_order(tmp_path: Path, factor: float) -> None:
    stream = Text(lambda step, salt: salt == 0 and 44 <= step < 54)
    run = run_of(tmp_path, CONFIG.build(0), stream, factor, guard={"skips_before_rollback": 8})
    log = run.fit(Progress(), "x")
    assert [line["step"] for line in log] == list(range(1, 61))
    assert all(line["accepted"] for line in log)
    back = [line for line in log if "rollback" in line]
    assert [line["step"] for line in back] == [41]
    assert back[0]["rollback"]["from"] == 52 and back[0]["rollback"]["salt"] == 1
    assert log[-1]["loss"] < log[30]["loss"] * 1.1
    given_up = MetricsLog(tmp_path / "rolled_back.jsonl").read()
    assert [line["step"] for line in given_up] == list(range(41, 53))
    assert given_up[-1]["sample_ids"] == Text().sample_ids(51).tolist()
    assert given_up[0]["samples"] != log[40]["samples"]
    assert run.state.guard.skipped == 8 and run.state.salt == 1


def test_weights_that_were_blown_up_come_back_from_the_checkpoint(tmp_path: Path) -> None:
    """A planted spike of the learning rate that the window only sees when it is too late."""
    run = run_of(tmp_path, CONFIG.build(0), guard={"skips_before_rollback": 3})
    step = run.program.update

    def hot(batch: Batch, multiplier: float, momentum: float | None = None):
        planted = run.state.step == 44 and run.state.salt == 0
        return step(batch, multiplier * (1000 if planted else 1), momentum)

    run.program.update = hot  # type: ignore[method-assign]
    log = run.fit(Progress(), "x")
    assert len(log) == 60 and max(line["loss"] for line in log[30:]) < 3.6
    assert next(line for line in log if "rollback" in line)["step"] == 41


def test_rollbacks_end_and_say_why(tmp_path: Path) -> None:
    guard = {"skips_before_rollback": 4, "rollbacks": 2}
    run = run_of(tmp_path, CONFIG.build(0), Text(lambda step, salt: step >= 20), NAN, guard=guard)
    with pytest.raises(IngotError, match=r"not finite, 4 times in a row, after 2 rollbacks \(samples \["):
        run.fit(Progress(), "x")
    assert run.state.step == 24


def test_without_a_checkpoint_it_goes_back_to_the_last_good_update(tmp_path: Path) -> None:
    stream = Text(lambda step, salt: salt == 0 and step >= 4)
    guard = {"skips_before_rollback": 5}
    run = run_of(tmp_path, CONFIG.build(0), stream, NAN, guard=guard, checkpoint_every=60, steps=12)
    log = run.fit(Progress(), "x")
    assert [line["step"] for line in log] == list(range(1, 13))
    assert all(line["accepted"] for line in log)
    assert next(line for line in log if "rollback" in line)["step"] == 5


def test_no_update_of_a_healthy_run_is_refused(tmp_path: Path) -> None:
    log = run_of(tmp_path, CONFIG.build(0), steps=400, checkpoint_every=400).fit(Progress(), "x")
    assert all(line["accepted"] for line in log)
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
