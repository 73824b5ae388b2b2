"""How the models differ, with the doubt about it, and whether what must hold does."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from ingot.evaluate.measured import FEWEST, Measured
from ingot.evaluate.statistics import Interval, difference_interval, relative_interval

MOST_BITS = 1.45
"""Held-out bits per byte of a base model trained on the standard library for the default minutes."""

MOST_LOSS = 0.01
"""Share of bits per byte that int8 may cost."""

MOST_SIZE = 0.32
"""Share of the float32 bytes that int8 may take."""

MOST_MINUTES = 15
"""Of the whole job, where its training has the default minutes or fewer."""

TRAINING_MINUTES = 12
"""What the training stages of the default demo have together."""

MOST_MEMORY = 4
"""GiB at the peak."""


class Comparison(NamedTuple):
    """How a model differs from the one that it was made from, on the same documents or prompts."""

    first: str
    second: str
    metric: str
    difference: float
    interval: Interval | None
    relative: bool

    def plain(self) -> dict[str, Any]:
        """Returns it as `evaluation.json` holds it."""
        return {
            "from": self.first,
            "to": self.second,
            "metric": self.metric,
            "difference": self.difference,
            "interval": self.interval,
            "excludes_zero": self.interval is not None and self.interval.excludes_zero,
            "relative": self.relative,
        }


class Target(NamedTuple):
    """Something that must hold; `met` is None where it could not be measured."""

    name: str
    value: float | None
    met: bool | None

    def words(self) -> str:
        """Returns what to say of it where it is not met."""
        if self.met is None:
            return f"Not measured: {self.name}."
        return f"Missed: {self.name}; it is {self.value:.4g}."


def compare(models: Mapping[str, Measured], of: str | None, seed: int = 0) -> list[Comparison]:
    """Compares each model with the one that it was made from.

    Args:
        models: by name, in the order in which they were made.
        of: the model that int8 was made from.
        seed: of the draws.
    """
    found = []
    line = [name for name in models if name != "int8"]
    pairs = list(itertools.pairwise(line))
    if "int8" in models and of in models:
        pairs.append((str(of), "int8"))
    for first, second in pairs:
        a, b = models[first], models[second]
        if a.outcomes and b.outcomes:
            for metric, one, two in (
                ("success", a.successes, b.successes),
                ("parse", a.parses, b.parses),
            ):
                difference = sum(two) / len(two) - sum(one) / len(one)
                interval = difference_interval(one, two, seed)
                found.append(Comparison(first, second, metric, difference, interval, relative=False))
        change = b.bits.bits_per_byte / a.bits.bits_per_byte - 1
        doubt = relative_interval(a.bits.nats, b.bits.nats, seed) if len(a.bits.nats) >= FEWEST else None
        found.append(Comparison(first, second, "bits_per_byte", change, doubt, relative=True))
    return found


def targets(
    models: Mapping[str, Measured],
    comparisons: list[Comparison],
    xz: float,
    *,
    default_corpus: bool,
    minutes: float | None,
    peak_memory: int,
) -> list[Target]:
    """Says of everything that must hold whether it does.

    Args:
        models: by name.
        comparisons: of these models.
        xz: bits per byte of `xz -9e` on the same bytes.
        default_corpus: whether the corpus is the standard library, for which the first target was set; on
            other text the base model has to need fewer bits than xz.
        minutes: that all stages took so far; None where more than the default minutes were asked for.
        peak_memory: bytes.
    """
    found = []
    by_pair = {(one.first, one.second, one.metric): one for one in comparisons}
    if "base" in models:
        bits = models["base"].bits.bits_per_byte
        most = MOST_BITS if default_corpus else xz
        name = f"at most {MOST_BITS}" if default_corpus else f"below the {xz:.3f} of xz -9e"
        met = bits <= most if default_corpus else bits < most
        found.append(Target(f"held-out bits per byte of base {name}", bits, met))
    for first, second in (("base", "finetuned"), ("finetuned", "aligned")):
        if second in models:
            better = by_pair.get((first, second, "success"))
            name = f"instruction success of {second} above that of {first}, the interval excluding zero"
            above = None if better is None or better.interval is None else better.interval.low > 0
            found.append(Target(name, None if better is None else better.difference, above))
    if "int8" in models:
        small = models["int8"]
        loss = next((o for o in comparisons if o.second == "int8" and o.metric == "bits_per_byte"), None)
        if loss is not None:
            name = f"bits per byte of int8 within 1 % of {loss.first}"
            found.append(Target(name, loss.difference, abs(loss.difference) <= MOST_LOSS))
        share = small.bytes / (4 * small.parameters)
        found.append(Target("int8 at most 32 % of the float32 bytes", share, share <= MOST_SIZE))
    if minutes is not None:
        name = f"all stages before the report within {MOST_MINUTES} minutes"
        found.append(Target(name, minutes, minutes <= MOST_MINUTES))
    memory = peak_memory / 2**30
    found.append(Target(f"peak memory under {MOST_MEMORY} GiB", memory, memory < MOST_MEMORY))
    return found
