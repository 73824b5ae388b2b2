"""A study of architectures: same text, same order, same steps, same optimizer, several seeds.

Scores are bits per byte of held-out text, in windows as long as those of training, and then those bytes of
windows twice as long that stand further on than any place in training did. Differences are taken seed by
seed from the first entrant, and 95 % holds for all of them together (Bonferroni).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch.nn.functional import cross_entropy

from ingot.bench.contenders import CONTENDERS
from ingot.bench.entrants import Entrant
from ingot.bench.material import CONTEXT, ROWS, Material
from ingot.bench.race import SCHEDULE
from ingot.bench.verdicts import LEVEL, t_interval
from ingot.config import Config
from ingot.data.stream import WindowStream
from ingot.evaluate.statistics import Interval
from ingot.models.decoder import Decoder
from ingot.progress import Progress


class StudyConfig(Config):
    """How long to train, and how often.

    Args:
        steps: of each run.
        seeds: runs of each entrant.
        seed: of the first of them.
        factor: of the optimizer's usual rates.
    """

    steps: int = Field(default=400, ge=10)
    seeds: int = Field(default=3, ge=2)
    seed: int = 0
    factor: float = Field(default=1.0, gt=0)


class Scores(NamedTuple):
    """What became of an entrant.

    Args:
        entrant: who.
        bits: per byte, by seed.
        further: per byte beyond the places of training, by seed.
    """

    entrant: Entrant
    bits: list[float]
    further: list[float]

    def behind(self, other: Scores, pairs: int) -> Interval:
        """Returns by how much it is worse than another, seed by seed; `pairs` are compared in all."""
        differences = [mine - its for mine, its in zip(self.bits, other.bits, strict=True)]
        return t_interval(differences, 1 - (1 - LEVEL) / pairs)

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return {
            "name": self.entrant.name,
            "parameters": self.entrant.parameters,
            "bits_per_byte": self.bits,
            "bits_per_byte_further_on": self.further,
            "config": self.entrant.config.plain(),
        }


def study(
    entrants: Sequence[Entrant],
    config: StudyConfig,
    text: Material,
    longer: Material,
    progress: Progress,
    device: str = "cpu",
) -> list[Scores]:
    """Trains every entrant under every seed.

    Args:
        entrants: who takes part; the first is compared with.
        config: how long and how often.
        text: what is learnt, with held-out windows of the training's length.
        longer: the same text with windows twice as long.
        progress: is told of every run.
        device: where to train.
    """
    found = [Scores(one, [], []) for one in entrants]
    with progress.task("training", len(entrants) * config.seeds, "runs") as task:
        for seed in range(config.seed, config.seed + config.seeds):
            for scores in found:
                model = trained(scores.entrant, config, text, seed, device)
                scores.bits.append(bits_per_byte(model, text, 0, device))
                scores.further.append(bits_per_byte(model, longer, CONTEXT, device))
                task.advance(1, f"{scores.entrant.name}: {scores.bits[-1]:.3f} bits per byte")
    return found


def trained(entrant: Entrant, config: StudyConfig, text: Material, seed: int, device: str) -> Decoder:
    """Returns a model of an entrant after its steps."""
    model = entrant.config.build(seed).to(device)
    program = CONTENDERS["muon"].program(model, device)
    stream = WindowStream(text.train, CONTEXT, ROWS, seed)
    for step in range(config.steps):
        program.update(stream.batch(step), config.factor * SCHEDULE.multiplier(step, config.steps))
    return model.eval()


@torch.no_grad()
def bits_per_byte(model: Decoder, text: Material, first: int, device: str) -> float:
    """Returns what held-out bytes cost from a place in their window on; infinite where that is no number."""
    logits = model(text.inputs.to(device)).logits
    assert logits is not None
    rest = logits[:, first:].flatten(0, 1)  # [b * t, v]
    nats = float(cross_entropy(rest, text.targets[:, first:].to(device).flatten()))
    return nats / math.log(2) if math.isfinite(nats) else math.inf


def rows(found: Sequence[Scores]) -> list[list[str]]:
    """Returns a table: name, parameters, bits per byte with interval, further on, and what may be said."""
    first, others = found[0], max(1, len(found) - 1)
    table = []
    for scores in found:
        interval = t_interval(scores.bits)
        words = (
            "compared with" if scores is first else _words(scores.behind(first, others), first.entrant.name)
        )
        table.append(
            [
                scores.entrant.name,
                f"{scores.entrant.parameters:,}",
                f"{statistics.fmean(scores.bits):.4f}",
                f"{interval.low:.4f} to {interval.high:.4f}",
                f"{statistics.fmean(scores.further):.4f}",
                words,
            ]
        )
    return table


HEADER = ["architecture", "parameters", "bits per byte", "interval", "further on", "verdict"]


def _words(behind: Interval, other: str) -> str:
    if behind.low > 0:
        return f"worse by {behind.low:.3f} to {behind.high:.3f}"
    if behind.high < 0:
        return f"better by {-behind.high:.3f} to {-behind.low:.3f}"
    return "no difference beyond the noise"
