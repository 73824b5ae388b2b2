"""Killed at any instant, in mid-save too, a run goes on as if nothing had happened: compared bit for bit."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ingot import device
from ingot.data.stream import WHOLE, Part, WindowStream
from ingot.models.decoder import DecoderConfig
from ingot.objectives.causal import CausalLM
from ingot.objectives.objective import Batch, Loss
from ingot.optim.joint import OptimizerConfig
from ingot.progress import Progress
from ingot.train.log import MetricsLog
from ingot.train.trainer import TrainConfig, Trainer

STEPS = 36


class Forgetful(nn.Module):
    """A decoder with dropout: the random numbers of a step have to come again, too."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = DecoderConfig(
            vocabulary=31, width=16, layers=2, heads=2, kv_heads=1, head_width=8, feed_forward=32, context=16
        ).build(0)
        self.dropout = nn.Dropout(0.1)

    def forward(self, tokens: Tensor) -> Any:
        outputs = self.inner(tokens, logits=False)
        return outputs._replace(logits=self.inner.head(self.dropout(outputs.hidden)))


class Hostile(WindowStream):
    """Step 8 is spoilt, and so are 21 to 25 in the first order: one skip, and one rollback."""

    gate: Path  # may hold the number of a step that is not to be made yet

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> Batch:
        bad = step == 7 or (salt == 0 and 20 <= step < 25)
        batch = super().batch(step, salt, part)
        time.sleep(0.004)
        while self.gate.exists() and step >= int(self.gate.read_text()):
            time.sleep(0.01)  # for who wants to kill this process before, and may be late
        return batch | {"spoilt": torch.full_like(batch["sample_ids"], bad)}


class Spoilt(CausalLM):
    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        loss = super().loss(model, batch)
        return Loss(torch.where(batch["spoilt"].any(), float("nan"), loss.sum), loss.metrics)


def train(work: Path, compiled: bool) -> None:
    """What the processes do that get killed."""
    torch.set_num_threads(1)
    model = Forgetful()
    config = TrainConfig.parse(
        {
            "steps": STEPS,
            "checkpoint_every": 2,
            "micro_batch": None if compiled else 3,
            "ema": 0.9,
            "guard": {"skips_before_rollback": 4},
            "compile": compiled,
            "precision": "bf16" if compiled else "fp32",
        }
    )
    stream = Hostile(np.random.default_rng(0).integers(0, 31, 2000).astype(np.uint16), 16, 8, 0)
    stream.gate = work / "gate"
    optimizer = OptimizerConfig(embedding_rate=0.05).build(model)
    Trainer(model, Spoilt(), stream, optimizer, config, work).fit(Progress(), "x")
    np.save(work / "result.npy", torch.cat([p.detach().flatten() for p in model.parameters()]).numpy())


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["ingot.train.trainer", "ingot.models.decoder", "ingot.objectives.causal", "pytest", "numpy"]
)


def started(work: Path, compiled: bool) -> BaseProcess:
    work.mkdir(exist_ok=True)
    process = FORKS.Process(target=train, args=(work, compiled))
    process.start()
    return process


def finished(work: Path, compiled: bool) -> tuple[list[dict[str, Any]], bytes]:
    process = started(work, compiled)
    process.join(300)
    assert process.exitcode == 0
    return result(work)


def result(work: Path) -> tuple[list[dict[str, Any]], bytes]:
    """All lines of the log but for their times, and the weights."""
    lines = MetricsLog(work / "metrics.jsonl").read()
    kept = [{k: str(v) for k, v in line.items() if "seconds" not in k} for line in lines]
    return kept, (work / "result.npy").read_bytes()


def killed_until_done(work: Path, compiled: bool, chance: random.Random, apart: int) -> int:
    """Kills at random instants, every other time while a checkpoint is being written; returns how often.

    A run that is always killed before its next checkpoint never ends, so kills that came too soon make
    the next one come later.
    """
    kills = vain = 0
    reached: set[str] = set()
    log, gate = work / "metrics.jsonl", work / "gate"
    while True:
        wanted = len(MetricsLog(log).read()) + chance.randint(2, apart) + vain
        work.mkdir(exist_ok=True)
        gate.write_text(str(wanted + 4))
        process = started(work, compiled)
        while process.is_alive() and len(MetricsLog(log).read()) < wanted:
            time.sleep(0.001)
        if kills % 2 and not vain:
            while process.is_alive() and len(MetricsLog(log).read()) < wanted + 3:
                if any((work / "checkpoints").glob(".step-*")):
                    break
                time.sleep(0.0002)
        time.sleep(chance.random() * 0.004)
        if process.is_alive():
            assert process.pid is not None
            process.kill()
        process.join(300)
        if process.exitcode == 0:
            return kills
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        saved = {path.name for path in (work / "checkpoints").glob("step-*")}
        vain = 0 if saved - reached else vain + 1
        reached |= saved


def test_losses_after_sigkill_equal_the_uninterrupted_ones(tmp_path: Path) -> None:
    lines, weights = finished(tmp_path / "whole", False)
    assert [line["step"] for line in lines] == [str(step) for step in range(1, STEPS + 1)]
    assert [line["step"] for line in lines if "refused" in line] == ["8"]
    assert sum("rollback" in line for line in lines) == 1
    assert killed_until_done(tmp_path / "killed", False, random.Random(0), apart=14) >= 2
    assert result(tmp_path / "killed") == (lines, weights)
    names = sorted(path.name for path in (tmp_path / "killed/checkpoints").iterdir())
    assert names == ["step-00000034", "step-00000036"]  # nothing is left of those that were cut off


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_many_kills(tmp_path: Path, seed: int) -> None:
    whole = finished(tmp_path / "whole", False)
    assert killed_until_done(tmp_path / "killed", False, random.Random(seed), apart=4) >= 3
    assert result(tmp_path / "killed") == whole


@pytest.mark.slow
def test_kills_of_compiled_training(tmp_path: Path) -> None:
    if device.compiler() is None:
        pytest.skip("no C++ compiler here")
    whole = finished(tmp_path / "whole", True)
    assert killed_until_done(tmp_path / "killed", True, random.Random(1), apart=16) >= 2
    assert result(tmp_path / "killed") == whole
