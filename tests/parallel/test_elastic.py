"""A run that is stopped and goes on with other ranks sees the same samples and the same losses."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from spawn import Crew

from ingot.data.stream import WindowStream
from ingot.objectives.causal import CausalLM
from ingot.optim.joint import OptimizerConfig
from ingot.parallel.ranks import ALONE, Ranks
from ingot.progress import Progress
from ingot.train.hooks import Hook
from ingot.train.preemption import Interrupted
from ingot.train.trainer import TrainConfig, Trainer

STEPS, GLOBAL_BATCH = 8, 12
RATES = {"epsilon": 1e-6, "embedding_rate": 0.02}  # see test_trajectory: rounding must stay rounding


class StopAt(Hook):
    """Has the scheduler take the machine away after a step."""

    def __init__(self, step: int) -> None:
        self.last = step

    def step(self, line: dict[str, Any]) -> str | None:
        if line["step"] == self.last:
            os.kill(os.getpid(), signal.SIGTERM)
        return None


def train(ranks: Ranks, work: Path, until: int, data: str, micro: int | None) -> str:
    tokens = np.random.default_rng(0).integers(0, tiny.VOCABULARY, 1000).astype(np.uint16)
    stream = WindowStream(tokens, context=16, batch_size=GLOBAL_BATCH, seed=3)
    model = tiny.model()
    optimizer = OptimizerConfig.parse(RATES).build(model)
    settings = {"steps": STEPS, "micro_batch": micro, "parallel": {"data": data}, "ema": 0.5}
    config = TrainConfig.parse(settings)
    hooks = [StopAt(until)] if until < STEPS else []
    trainer = Trainer(model, CausalLM(), stream, optimizer, config, work, hooks=hooks, ranks=ranks)
    try:
        trainer.fit(Progress(), "training")
    except Interrupted:
        return "interrupted"
    return "done"


def train_and_look(ranks: Ranks, work: Path) -> list[float]:
    """A training that is validated by a forward pass alone, as anybody would write it."""
    tokens = np.random.default_rng(0).integers(0, tiny.VOCABULARY, 1000).astype(np.uint16)
    stream = WindowStream(tokens, context=16, batch_size=GLOBAL_BATCH, seed=3)
    model = tiny.model()
    objective, held_out = CausalLM(), tiny.batch(99)

    @torch.no_grad()
    def look() -> dict[str, float]:
        return {"validation": float(objective.loss(model, held_out).sum)}

    config = TrainConfig.parse({"steps": 4, "checkpoint_every": 2, "parallel": {"data": "fsdp"}, "ema": 0.5})
    optimizer = OptimizerConfig.parse(RATES).build(model)
    trainer = Trainer(model, objective, stream, optimizer, config, work, validate=look, ranks=ranks)
    return [line["validation"] for line in trainer.fit(Progress(), "training") if "validation" in line]


def test_a_sharded_model_that_was_looked_at_can_be_saved(crew: Crew, tmp_path: Path) -> None:
    """After a forward pass alone the weights of an FSDP model lie gathered, and its parts cannot be saved."""
    alone = train_and_look(ALONE, tmp_path / "alone")
    seen = crew.run(2, train_and_look, tmp_path / "shared")
    assert seen == [pytest.approx(alone, abs=1e-4)] * 2 and len(alone) == 2
    assert len(list((tmp_path / "shared" / "checkpoints").iterdir())) == 2


def log(work: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (work / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("data", ["ddp", "fsdp"])
def test_one_two_four_three_ranks_see_the_same_samples(crew: Crew, tmp_path: Path, data: str) -> None:
    assert train(ALONE, tmp_path / "whole", STEPS, data, None) == "done"
    work = tmp_path / "moved"
    for world, until, micro in ((1, 2, 5), (2, 4, None), (4, 6, 2), (3, STEPS, 1)):
        said = crew.run(world, train, work, until, data, micro)
        assert said == ["done" if until == STEPS else "interrupted"] * world
    whole, moved = log(tmp_path / "whole"), log(work)
    assert [line["step"] for line in moved] == list(range(1, STEPS + 1))
    assert [line["samples"] for line in moved] == [line["samples"] for line in whole]
    assert len({line["samples"] for line in moved}) == STEPS
    assert [line["tokens"] for line in moved] == [line["tokens"] for line in whole]
    for name in ("loss", "gradient_norm"):
        assert [line[name] for line in moved] == pytest.approx([line[name] for line in whole], abs=1e-6)
