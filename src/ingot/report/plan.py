"""What was planned and predicted for each training stage, beside what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ingot.report.facts import TRAINING, Facts, StageFacts
from ingot.report.lineage import first, planned_steps, steps_of
from ingot.report.words import ABSENT, MINUS, SPACE, clock, count, interval, number, size, span


@dataclass(frozen=True)
class PlanRow:
    """What the planner chose for one training stage, beside what came of it."""

    stage: str
    shape: str
    steps: str
    tokens: str
    given: str
    planned: str
    actual: str
    choices: list[tuple[str, str]]


@dataclass(frozen=True)
class Outcome:
    """One number that was predicted before step 1, beside what came of it; `inside`: None without a range."""

    stage: str
    what: str
    predicted: str
    range: str
    actual: str
    verdict: str
    inside: bool | None = None


def plan_rows(facts: Facts) -> list[PlanRow]:
    """Returns what was planned for each training stage, beside what came of it."""
    rows = []
    for stage in facts.stages.values():
        if stage.name not in TRAINING or stage.left_out is not None:
            continue
        seconds, given = first(stage.plan, "expected_seconds"), first(stage.config, "minutes")
        actual = first(stage.metrics, "seconds")
        actual = stage.seconds if actual is None else actual
        planned, made_steps = planned_steps(stage), steps_of(stage)
        tokens = first(stage.metrics, "tokens")
        steps = ABSENT if made_steps is None else f"{made_steps:,}"
        if planned is not None and made_steps is not None and int(planned) != made_steps:
            steps += f" of {planned:,.0f}"
        rows.append(
            PlanRow(
                stage=stage.name,
                shape=shape(stage),
                steps=steps,
                tokens=count(tokens) if tokens else ABSENT,
                given=clock(given * 60) if given is not None else ABSENT,
                planned=clock(seconds) if seconds is not None else ABSENT,
                actual=clock(actual),
                choices=list(_flat(stage.plan)),
            )
        )
    return rows


def outcomes(facts: Facts) -> list[Outcome]:
    """Returns what was predicted before the first step of each stage, set beside what came of it.

    A number that was not predicted, or that nobody measured afterwards, has no row.
    """
    rows = []
    for stage in facts.stages.values():
        said = stage.plan.get("predicted")
        if not isinstance(said, dict) or stage.left_out is not None:
            continue
        rows += [row for row in (_loss(facts, stage, said), *_amounts(stage, said)) if row is not None]
    return rows


def _loss(facts: Facts, stage: StageFacts, said: dict[str, Any]) -> Outcome | None:
    """Held-out bits per byte where the evaluation measured them, else the last quick look at them."""
    looks = [found for line in stage.steps if (found := number(line.get("validation"))) is not None]
    measured = {
        "bits_per_byte": number(facts.model(stage.artifact).get("bits_per_byte")),
        "validation": looks[-1] if looks else None,
    }
    names = {"bits_per_byte": "held-out bits per byte", "validation": "validation loss (nats per token)"}
    for key, name in names.items():
        part, actual = said.get(key), measured[key]
        if not isinstance(part, dict) or actual is None:
            continue
        value, bounds = number(part.get("value")), interval(part.get("interval"))
        if value is None:
            continue
        inside = None if bounds is None else bounds[0] <= actual <= bounds[1]
        verdict = _change(actual, value)
        if bounds is not None:
            verdict += ", inside the range" if inside else ", outside the range"
        between = span("bits_per_byte", bounds) if bounds else ""
        return Outcome(stage.name, name, f"{value:.3f}", between, f"{actual:.3f}", verdict, inside)
    return None


def _amounts(stage: StageFacts, said: dict[str, Any]) -> list[Outcome]:
    units: dict[str, tuple[str, str, Callable[[float], str]]] = {
        "tokens": ("tokens", "tokens", count),
        "tokens_per_second": ("tokens per second", "tokens_per_second", "{:,.0f}".format),
        "seconds": ("time of training", "seconds", clock),
        "memory": ("memory at most", "peak_memory", size),
    }
    rows = []
    for key, (name, metric, text) in units.items():
        value, actual = number(said.get(key)), number(stage.metrics.get(metric))
        if value and actual is not None:
            rows.append(Outcome(stage.name, name, text(value), "", text(actual), _change(actual, value)))
    return rows


def _change(actual: float, predicted: float) -> str:
    share = f"{(actual / predicted - 1) * 100:+.0f}"
    return "as predicted" if float(share) == 0 else f"{share}{SPACE}%".replace("-", MINUS)


def shape(stage: StageFacts) -> str:
    """Returns the shape of a stage's model in words, from its config.json."""
    try:
        config = json.loads((stage.path / "config.json").read_text(encoding="utf-8"))
        return (
            f"width {config['hidden_size']}, {config['num_hidden_layers']} layers, "
            f"{config['num_attention_heads']} heads on {config['num_key_value_heads']} for keys and values, "
            f"context {config['max_position_embeddings']}"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return ABSENT


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            text = f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
            pairs.append((prefix + str(key), text if len(text) <= 160 else text[:159] + "…"))
    return pairs
