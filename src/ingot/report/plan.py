"""What was planned for each training stage, beside what came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ingot.report.facts import TRAINING, Facts, StageFacts
from ingot.report.lineage import first, planned_steps, steps_of
from ingot.report.words import ABSENT, clock, count


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
