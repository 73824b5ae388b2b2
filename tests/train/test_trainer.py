"""The loop: exact under accumulation, killed anywhere it goes on, and nothing bad reaches the weights."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ingot import device
from ingot.errors import IngotError
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
    """Random rows with differing numbers of trained targets, a pure function of the step."""

    def batch(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(0, 31, (8, 17), generator=generator)
        targets = rows[:, 1:].clone()
        for row in range(8):
            targets[row, : 2 * row] = -100
        return {"inputs": rows[:, :-1], "targets": targets, "sample_ids": torch.arange(8) + 8 * step}


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
        def batch(self, step: int) -> Batch:
            return super().batch(0)

    model = CONFIG.build(0)
    config = TrainConfig(steps=150)
    run = Trainer(model, CausalLM(), Same(), OptimizerConfig().build(model), config, tmp_path)
    log = run.fit(Progress(), "learning")
    assert log[0]["loss"] == pytest.approx(3.434, abs=0.01)  # ln 31
    assert log[-1]["loss"] < 0.05


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
    assert run.state.skipped == 1
    run.step()
    assert run.state.skipped_in_row == 0
    with pytest.raises(IngotError, match="not finite 10 times"):
        trainer(tmp_path / "b", Poisoned(set(range(100)))).fit(Progress(), "x")


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from ingot.progress import Progress
import test_trainer
changes = dict(steps=40, checkpoint_every=2, threads=1, precision={precision!r}, compile={compiled!r})
test_trainer.trainer(Path(sys.argv[1]), **changes).fit(Progress(), "x")
"""


def run_in_process(work: Path, compiled: bool) -> subprocess.Popen[bytes]:
    work.mkdir(exist_ok=True)
    precision = "bf16" if compiled else "fp32"
    script = SCRIPT.format(tests=str(Path(__file__).parent), precision=precision, compiled=compiled)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", script, str(work)], env=environment)


def losses(work: Path) -> list[float]:
    return [line["loss"] for line in MetricsLog(work / "metrics.jsonl").read()]


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_losses_after_sigkill_equal_the_uninterrupted_ones(tmp_path: Path, compiled: bool) -> None:
    """Kills at random instants (in mid-save too, for it saves every second step), then compares bits."""
    if compiled and device.compiler() is None:
        pytest.skip("no C++ compiler here")
    assert run_in_process(tmp_path / "whole", compiled).wait(timeout=300) == 0
    whole = losses(tmp_path / "whole")
    assert len(whole) == 40
    work, chance, kills = tmp_path / "killed", random.Random(0), 0
    while True:
        process = run_in_process(work, compiled)
        seen = len(losses(work))
        wanted = seen + chance.randint(1, 12)
        while process.poll() is None and len(losses(work)) < wanted:
            time.sleep(0.001)
        if process.poll() is None:
            time.sleep(chance.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            kills += 1
        if process.wait(timeout=300) == 0:
            break
    assert kills >= 2
    assert losses(work) == whole


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    whole = [line["loss"] for line in trainer(tmp_path / "a").fit(Progress(), "x")]
    run = trainer(tmp_path / "b")
    for _ in range(7):
        run.step()
        if run.state.step % 3 == 0:
            run.store.save(run.state.checkpoint())
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
