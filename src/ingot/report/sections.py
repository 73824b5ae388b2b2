"""The parts of a report that are words and numbers, made from the gathered facts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.report.facts import MODELS, Facts
from ingot.report.lineage import first
from ingot.report.words import (
    ABSENT,
    METRICS,
    MINUS,
    SPACE,
    compared,
    count,
    figure,
    interval,
    is_real,
    listed,
    minutes,
    number,
    percent,
    size,
    span,
)

_ORIGINS = {
    "base": "pretraining",
    "finetuned": "finetuning",
    "aligned": "alignment",
    "int8": "rounding to int8",
}


@dataclass(frozen=True)
class Card:
    """One number that matters: its name, itself, what to compare it with."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class ModelRow:
    """One line of the table of models; cells as (value, interval) texts by metric."""

    name: str
    address: str
    left_out: str | None
    parameters: str
    size: str
    cells: dict[str, tuple[str, str]]


def source(facts: Facts) -> str:
    """Returns what the corpus was made from, as a headline says it."""
    stage = facts.stages.get("prepare")
    data = stage.config.get("data") if stage else None
    if stage is not None and data is None:
        python = ".".join(str(facts.machine.get("python", "")).split(".")[:2])
        return (
            f"the source of Python{SPACE}{python}’s standard library"
            if python
            else "Python’s standard library"
        )
    return Path(str(data)).name if data else "text"


def machine(facts: Facts) -> str:
    """Returns the machine in a few words: cores and processor, and the GPU where there is one."""
    cores = number(facts.machine.get("cores")) or number(facts.machine.get("threads"))
    cpu = str(facts.machine.get("cpu") or "CPU").replace("(R)", "").replace("(TM)", "").split("@")[0]
    cpu = " ".join(cpu.split())
    article = "an" if cpu[:1].upper() in set("AEIO") else "a"
    words = f"{cores:.0f} core{'' if cores == 1 else 's'} of {article} {cpu}" if cores else cpu
    gpu = facts.machine.get("gpu")
    return f"{gpu} with {words}" if gpu else words


def headline(facts: Facts) -> tuple[str, str]:
    """Returns the first sentence of the report, and the one under it."""
    best = facts.of(facts.best) if facts.best else None
    amount = f", {size(facts.source_bytes)} of text," if facts.source_bytes else ""
    made = f"in {minutes(facts.seconds)} on {machine(facts)}."
    if best is None:
        return f"From {source(facts)}{amount} no model was made", f"{made[:1].upper()}{made[1:]}"
    weights = number(facts.model(best.artifact).get("parameters")) or first(best.metrics, "parameters")
    sized = f" of {count(weights)} weights" if weights else ""
    ways = [
        _ORIGINS[s.artifact] for s in facts.stages.values() if s.artifact in _ORIGINS and s.left_out is None
    ]
    top = f"A language model{sized}, made from {source(facts)}{amount} in {minutes(facts.seconds)}"
    return top, f"By {listed(ways)}, on {machine(facts)}. It started from random weights."


def cards(facts: Facts) -> list[Card]:
    """Returns the numbers that matter; a number that was not taken has no card."""
    found = [_compression(facts), _rounding(facts), _speed(facts)]
    peak = f"{size(facts.peak_memory)} of memory at most" if facts.peak_memory else "wall time of all stages"
    found.append(Card("time", minutes(facts.seconds), peak))
    return [card for card in found if card is not None]


def _compression(facts: Facts) -> Card | None:
    base = facts.model("base")
    bits, bounds = number(base.get("bits_per_byte")), interval(base.get("bits_per_byte_interval"))
    if bits is None:
        return None
    note = f"95{SPACE}% interval {span('bits_per_byte', bounds)}" if bounds else "without an interval"
    xz = number(facts.xz.get("bits_per_byte"))
    if xz is not None:
        command = str(facts.xz.get("command", "xz -9e")).replace(" ", SPACE)
        note += f"; {command} on the same bytes: {figure('bits_per_byte', xz)}"
    ngram = number(facts.ngram.get("bits_per_byte"))
    if ngram is not None:
        note += f"; n-grams of the training text: {figure('bits_per_byte', ngram)}"
    return Card("bits per byte, base model", f"{bits:.3f}", note)


def _rounding(facts: Facts) -> Card | None:
    int8 = facts.model("int8")
    weights, parameters = number(int8.get("bytes")), number(int8.get("parameters"))
    if weights is None:
        return None
    parent = str(int8.get("of") or facts.best or "base")
    parameters = parameters or number(facts.model(parent).get("parameters"))
    dense = first(stage.metrics, "fp32_bytes") if (stage := facts.of("int8")) else None
    dense = dense or (4 * parameters if parameters else None)
    parts = [f"{percent(weights / dense)} of its size in fp32"] if dense else []
    now, before = number(int8.get("bits_per_byte")), number(facts.model(parent).get("bits_per_byte"))
    if now is not None and before:
        change = f"{(now / before - 1) * 100:+.2f}{SPACE}%".replace("-", MINUS)
        parts.append(f"{change} bits per byte against {parent}")
    return Card("int8 model on disk", size(weights), "; ".join(parts))


def _speed(facts: Facts) -> Card | None:
    name = facts.best or "base"
    speed = number(facts.model(name).get("decode_tokens_per_second"))
    if speed is None:
        return None
    rounded = number(facts.model("int8").get("decode_tokens_per_second"))
    note = f"{name}, one conversation at a time"
    return Card("tokens per second", f"{speed:,.0f}", f"{note}; int8 {rounded:,.0f}" if rounded else note)


def model_rows(facts: Facts) -> list[ModelRow]:
    """Returns the table of models: those that were made, and those that were left out with the reason."""
    rows = []
    for name in MODELS:
        stage, judged = facts.of(name), facts.model(name)
        if stage is None and not judged:
            continue
        weights, parameters = number(judged.get("bytes")), number(judged.get("parameters"))
        if parameters is None and stage is not None:
            parameters = first(stage.metrics, "parameters")
        cells = {metric: _cell(metric, judged) for metric in METRICS}
        address = stage.address if stage else str(judged.get("folder", name))
        rows.append(
            ModelRow(
                name=name,
                address=address,
                left_out=stage.left_out if stage else None,
                parameters=count(parameters) if parameters else ABSENT,
                size=size(weights) if weights else ABSENT,
                cells=cells,
            )
        )
    return rows


def _cell(metric: str, judged: dict[str, Any]) -> tuple[str, str]:
    value, bounds = number(judged.get(metric)), interval(judged.get(f"{metric}_interval"))
    if value is None:
        return ABSENT, ""
    return figure(metric, value), span(metric, bounds) if bounds else ""


def comparisons(facts: Facts) -> list[tuple[str, bool]]:
    """Returns each comparison as a sentence, and whether it stands out of the noise."""
    found = facts.evaluation.get("comparisons")
    listing = found if isinstance(found, list) else []
    return [(compared(one), is_real(one)) for one in listing if isinstance(one, dict)]


def targets(facts: Facts) -> list[tuple[str, str, bool | None]]:
    """Returns each target as (name, value, whether it was met; None where it was not measured)."""
    found = facts.evaluation.get("targets")
    rows: list[tuple[str, str, bool | None]] = []
    for one in found if isinstance(found, list) else []:
        if isinstance(one, dict):
            value, met = number(one.get("value")), one.get("met")
            shown = ABSENT if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
            rows.append((str(one.get("name", "")), shown, met if isinstance(met, bool) else None))
    return rows


def verdict(rows: list[tuple[str, str, bool | None]]) -> str:
    """Returns how many targets were met, in words."""
    met, missed = sum(met is True for *_, met in rows), sum(met is False for *_, met in rows)
    open_ones = len(rows) - met - missed
    if met == len(rows):
        return f"All {met} targets were met." if met > 1 else "The target was met."
    parts = [f"{met} of {len(rows)} targets were met"]
    parts += [f"{missed} {'was' if missed == 1 else 'were'} not"] if missed else []
    parts += [f"{open_ones} could not be measured"] if open_ones else []
    return f"{listed(parts)}."
