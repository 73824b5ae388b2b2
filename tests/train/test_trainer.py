"""The loop: exact under accumulation, killed anywhere it goes on, and nothing bad reaches the weights."""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from ingot import device
from ingot.data.stream import WHOLE, Part
from ingot.errors import ConfigError, DataError, IngotError
from ingot.models.decoder import DecoderConfig
from ingot.objectives.causal import CausalLM
from ingot.objectives.objective import Batch, Loss
from ingot.optim.joint import OptimizerConfig
from ingot.progress import Progress
from ingot.train.log import MetricsLog
from ingot.train.trainer import TrainConfig, Trainer

CONFIG = DecoderConfig(
    vocabulary=31, width=16, layers=2, heads=2, kv_heads=1, head_width=8, feed_forward=32, context=16
)


class Ragged:
    """Random rows with differing numbers of trained targets, a pure function of the step and the salt."""

    fingerprint = "ragged"
    batch_size = 8

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> Batch:
        generator = torch.Generator().manual_seed(step + 1000 * salt)
        rows = torch.randint(0, 31, (8, 17), generator=generator)
        targets = rows[:, 1:].clone()
        for row in range(8):
            targets[row, : 2 * row] = -100
        batch = {"inputs": rows[:, :-1], "targets": targets, "sample_ids": self.sample_ids(step, salt)}
        return {name: value[part.rank :: part.ranks] for name, value in batch.items()}

    def sample_ids(self, step: int, salt: int = 0) -> torch.Tensor:
        return torch.arange(8) + 8 * step + 8000 * salt


def trainer(work: Path, objective: CausalLM | None = None, **changes: object) -> Trainer:
    model = CONFIG.build(0)
    config = TrainConfig.parse({"steps": 12, "checkpoint_every": 3, **changes})
    optimizer = OptimizerConfig(embedding_rate=0.05).build(model)
    return Trainer(model, objective or CausalLM(), Ragged(), optimizer, config, work)


def test_gradients_do_not_know_the_micro_batch(tmp_path: Path) -> None:
    gradients = []
    for rows in (8, 4, 2, 1):
        run = trainer(tmp_path, micro_batch=rows, clip=None)
        run.program.update(Ragged().batch(0), multiplier=0.0)
        gradients.append([p.grad.clone() for p in run.state.model.parameters()])
    for others in gradients[1:]:
        for one, other in zip(gradients[0], others, strict=True):
            assert (one - other).abs().max() <= 1e-6


def test_one_update_is_the_textbook_one(tmp_path: Path) -> None:
    run = trainer(tmp_path, clip=None)
    model = CONFIG.build(0)
    batch = Ragged().batch(0)
    logits = model(batch["inputs"]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())
    loss.backward()
    optimizer = OptimizerConfig(embedding_rate=0.05).build(model)
    optimizer.step(1.0)
    update = run.program.update(batch, 1.0)
    assert update.loss == pytest.approx(float(loss.detach()), abs=1e-6)
    for one, other in zip(run.state.model.parameters(), model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_batch_is_learnt_by_heart(tmp_path: Path) -> None:
    class Same(Ragged):
        def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> Batch:
            return super().batch(0, salt, part)

    model = CONFIG.build(0)
    config = TrainConfig(steps=300)
    run = Trainer(model, CausalLM(), Same(), OptimizerConfig().build(model), config, tmp_path)
    log = run.fit(Progress(), "learning")
    assert log[0]["loss"] == pytest.approx(3.434, abs=0.01)  # ln 31
    assert log[-1]["loss"] < 0.01


class Poisoned(CausalLM):
    """Gives a loss that is not a number at one step."""

    def __init__(self, steps: set[int]) -> None:
        self.steps, self.calls = steps, -1

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        self.calls += 1
        loss = super().loss(model, batch)
        return Loss(loss.sum * float("nan"), {}) if self.calls in self.steps else loss


def test_a_gradient_that_is_no_number_never_reaches_the_weights(tmp_path: Path) -> None:
    run = trainer(tmp_path, Poisoned({0}))
    before = [p.detach().clone() for p in run.state.model.parameters()]
    run.step()
    for one, other in zip(before, run.state.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert run.state.guard.skipped == 1
    run.step()
    assert run.state.guard.in_row == 0
    with pytest.raises(IngotError, match="not finite, 10 times in a row, after 3 rollbacks"):
        trainer(tmp_path / "b", Poisoned(set(range(100)))).fit(Progress(), "x")


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    whole = [line["loss"] for line in trainer(tmp_path / "a").fit(Progress(), "x")]
    run = trainer(tmp_path / "b")
    for _ in range(7):
        run.step()
        if run.state.step % 3 == 0:
            run.checkpoints.save(run.state, run.config)
    newest = tmp_path / "b" / "checkpoints" / "step-00000006" / "tensors.safetensors"
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(content)
    again = trainer(tmp_path / "b")
    assert [line["loss"] for line in again.fit(Progress(), "x")] == whole


def test_checkpoints_hold_no_pickle_and_only_the_newest_stay(tmp_path: Path) -> None:
    trainer(tmp_path).fit(Progress(), "x")
    found = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert found == ["step-00000009", "step-00000012"]
    names = {p.name for p in (tmp_path / "checkpoints").rglob("*") if p.is_file()}
    assert names == {"tensors.safetensors", "state.json"}
    state = json.loads((tmp_path / "checkpoints/step-00000012/state.json").read_text())
    assert state["step"] == 12


def test_compiled_and_eager_training_agree(tmp_path: Path) -> None:
    if device.compiler() is None:
        pytest.skip("no C++ compiler here")
    eager = trainer(tmp_path / "a", steps=3).fit(Progress(), "x")
    fused = trainer(tmp_path / "b", steps=3, compile=True).fit(Progress(), "x")
    for one, two in zip(eager, fused, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-4)


def test_a_compiler_that_fails_costs_speed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trainer(tmp_path / "a", steps=3).fit(Progress(), "x")

    def broken(forward: Any, **options: Any) -> Any:
        return lambda batch: compiled_badly(batch)

    def compiled_badly(batch: Batch) -> Loss:
        raise TorchDynamoException("no such instruction\nand much more")

    monkeypatch.setattr(torch, "compile", broken)
    run = trainer(tmp_path / "b", steps=3, compile=True)
    log = run.fit(Progress(), "x")
    assert [line["loss"] for line in log] == [line["loss"] for line in expected]
    assert log[0]["compile_failure"] == "TorchDynamoException: no such instruction"
    assert ["compile_failure" in line for line in log] == [True, False, False]
    assert run.config.compile is False  # what a resumed run keeps


def test_every_line_tells_the_same_things(tmp_path: Path) -> None:
    log = trainer(tmp_path, steps=4).fit(Progress(), "x")
    names = [
        "step",
        "loss",
        "rate",
        "gradient_norm",
        "clipped_norm",
        "tokens",
        "seconds",
        "data_seconds",
        "samples",
        "accepted",
    ]
    assert all(list(line) == names for line in log)
    assert [line["tokens"] for line in log] == [72, 144, 216, 288]
    digest = ""
    for step, line in enumerate(log):
        ids = Ragged().sample_ids(step).numpy().tobytes()
        digest = hashlib.blake2b(digest.encode() + ids, digest_size=8).hexdigest()
        assert line["samples"] == digest


def test_the_norm_is_logged_before_and_after_clipping(tmp_path: Path) -> None:
    run = trainer(tmp_path, clip=0.2)
    for norm in (run.step() for _ in range(3)):
        gradients = [p.grad for p in run.state.model.parameters() if p.grad is not None]
        applied = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        assert norm["gradient_norm"] > 0.2
        assert norm["clipped_norm"] == pytest.approx(float(applied), rel=1e-5)
        assert norm["clipped_norm"] == pytest.approx(0.2, rel=1e-4)
    line = trainer(tmp_path / "b", clip=None).step()
    assert line["clipped_norm"] == line["gradient_norm"]


def test_mfu_is_the_share_of_the_peak_that_the_models_own_arithmetic_takes(tmp_path: Path) -> None:
    model = CONFIG.build(0)
    optimizer = OptimizerConfig().build(model)
    config = TrainConfig(steps=4)
    run = Trainer(model, CausalLM(), Ragged(), optimizer, config, tmp_path, flops_per_token=1e4)
    log = run.fit(Progress(), "x")
    assert run.peak is not None
    each = log[0]["tokens"]  # of every step
    seconds = sum(each * 1e4 / (line["mfu"] * run.peak) for line in log)
    assert seconds == pytest.approx(log[-1]["seconds"], abs=0.001)


def test_the_log_is_json_for_everybody(tmp_path: Path) -> None:
    """Python writes NaN where JSON has no such thing; other readers of the log then fail."""
    trainer(tmp_path, Poisoned({1}), steps=3).fit(Progress(), "x")

    def refuse(constant: str) -> float:
        raise ValueError(constant)

    text = (tmp_path / "metrics.jsonl").read_text()
    lines = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert [line["loss"] is None for line in lines] == [False, True, False]
    assert math.isnan(MetricsLog(tmp_path / "metrics.jsonl").read()[1]["loss"])


def test_batches_are_made_ahead_and_one_at_a_time(tmp_path: Path) -> None:
    """While step n is computed, step n + 1 is prepared in another thread; an error there is raised here."""

    class Recorded(Ragged):
        def __init__(self) -> None:
            self.asked: list[int] = []
            self.threads: set[int] = set()

        def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> Batch:
            self.asked.append(step)
            time.sleep(0.002)
            self.threads.add(threading.get_ident())
            if step == 4:
                raise DataError("the disk is gone", where="step 4")
            return super().batch(step, salt, part)

    stream, model = Recorded(), CONFIG.build(0)
    run = Trainer(model, CausalLM(), stream, OptimizerConfig().build(model), TrainConfig(steps=9), tmp_path)
    with pytest.raises(DataError, match="the disk is gone"):
        run.fit(Progress(), "x")
    assert run.state.step == 4
    assert stream.asked == [0, 1, 2, 3, 4] and len(stream.threads) == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_what_sees_the_weights_is_not_made_ahead(tmp_path: Path) -> None:
    class Live(Ragged):
        live = True

        def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> Batch:
            assert run.state.step == step
            return super().batch(step, salt, part)

    model = CONFIG.build(0)
    run = Trainer(model, CausalLM(), Live(), OptimizerConfig().build(model), TrainConfig(steps=3), tmp_path)
    assert len(run.fit(Progress(), "x")) == 3


def test_dropout_is_seeded_by_seed_and_step(tmp_path: Path) -> None:
    class Noisy(CausalLM):
        def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
            loss = super().loss(model, batch)
            return Loss(loss.sum * torch.nn.functional.dropout(torch.ones(50), 0.5).mean(), {})

    logs = [trainer(tmp_path / name, Noisy(), seed=seed).fit(Progress(), "x") for name, seed in SEEDS]
    losses = [[line["loss"] for line in log] for log in logs]
    assert losses[0] == losses[1] != losses[2]


SEEDS = (("a", 1), ("b", 1), ("c", 2))


def test_sharpness_aware_steps_are_a_choice(tmp_path: Path) -> None:
    plain = trainer(tmp_path / "a").fit(Progress(), "x")
    aware = trainer(tmp_path / "b", sharpness=0.05).fit(Progress(), "x")
    assert plain[0]["loss"] == aware[0]["loss"] and plain[0]["gradient_norm"] != aware[0]["gradient_norm"]


def test_combinations_that_cannot_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a global batch of 8 rows cannot be shared evenly by 3 ranks"):
        TrainConfig(steps=3).check(8, 3, "cpu", False)
    with pytest.raises(ConfigError, match="patience is 2 checkpoints, but nothing is validated"):
        trainer(tmp_path, patience=2)
