"""The plots of a report: how each training went, and where the models stand with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ingot.report.facts import MODELS, TRAINING, Facts, StageFacts
from ingot.report.plots import Point, Series, Whisker, curves, whiskers
from ingot.report.words import clock, figure, interval, number, percent

_NAMES = {"pretrain": "Pretraining", "finetune": "Finetuning", "align": "Alignment"}


@dataclass(frozen=True)
class Panel:
    """A plot with its heading, its legend as (tone, label), and one sentence under it; it may be narrow."""

    title: str
    plot: Markup
    legend: list[tuple[str, str]]
    caption: str
    narrow: bool = False


def training(facts: Facts) -> list[Panel]:
    """Returns the curves of every training stage that kept its numbers."""
    stages = [facts.stages[name] for name in TRAINING if name in facts.stages]
    return [panel for stage in stages if stage.left_out is None for panel in _panels(stage)]


def _panels(stage: StageFacts) -> list[Panel]:
    name, tone = _NAMES[stage.name], stage.artifact
    if stage.name == "align":
        wanted = (
            ("reward", "mean reward of the answers drawn", "{:.2g}".format),
            ("success", "share of answers that do what was asked", percent),
            ("length", "tokens in an answer", "{:,.0f}".format),
        )
        made = []
        for key, meaning, text in wanted:
            if points := _points(stage, key):
                series = [Series(meaning, points, tone, smooth=len(points) > 12)]
                plot = curves(series, f"{name}: {meaning}, by step", "step", text, width=340)
                made.append(Panel(f"{name}: {key}", plot, [], _sentence(meaning, points, text), narrow=True))
        return made
    points, checks = _points(stage, "loss"), _points(stage, "validation")
    if not points:
        return []
    series = [Series("training", points, tone, smooth=len(points) > 12)]
    legend = []
    if checks:
        series.append(Series("validation", checks, "held", marks=True))
        legend = [(tone, "training"), ("held", "validation")]
    plot = curves(series, f"{name}: loss by step", "step", "{:.3g}".format)
    caption = _sentence("loss in nats per token", points, "{:.3f}".format)
    seconds = number(stage.steps[-1].get("seconds"))
    if seconds is not None:
        caption += f" It took {clock(seconds)}."
    return [Panel(f"{name}: loss", plot, legend, caption)]


def _points(stage: StageFacts, key: str) -> list[Point]:
    """The (step, value) pairs of the lines that hold both as finite numbers; a step repeated counts once."""
    found: dict[float, float] = {}
    for line in stage.steps:
        step, value = number(line.get("step")), number(line.get(key))
        if step is not None and value is not None:
            found[step] = value
    return sorted(found.items())


def _sentence(meaning: str, points: Sequence[Point], text: Any) -> str:
    """From where to where a curve went: the means of its first and last twentieth."""
    few = max(1, len(points) // 20)
    start, end = (sum(y for _, y in part) / few for part in (points[:few], points[-few:]))
    return (
        f"{meaning[:1].upper()}{meaning[1:]}: from {text(start)} to {text(end)} over {len(points):,} steps."
    )


def standing(facts: Facts) -> list[Panel]:
    """Returns the interval plots: bits per byte, instruction success."""
    found = []
    limit = number(facts.xz.get("bits_per_byte"))
    if rows := _whiskers(facts, "bits_per_byte"):
        reference = ("xz -9e", limit) if limit is not None else None
        plot = whiskers(rows, "Bits per byte of each model", "{:.3g}".format, reference)
        found.append(Panel("Bits per byte", plot, [], "On held-out text; less is better."))
    if rows := _whiskers(facts, "success"):
        plot = whiskers(rows, "Instruction success of each model", percent, axis=(0.0, 1.0))
        prompts = number(facts.evaluation.get("prompts"))
        asked = f"On {prompts:,.0f} prompts mined" if prompts else "On prompts mined"
        found.append(Panel("Instruction success", plot, [], f"{asked} from held-out files; more is better."))
    return found


def _whiskers(facts: Facts, metric: str) -> list[Whisker]:
    rows = []
    for name in MODELS:
        judged = facts.model(name)
        value = number(judged.get(metric))
        if value is not None:
            bounds = interval(judged.get(f"{metric}_interval"))
            rows.append(Whisker(name, value, bounds, name, figure(metric, value)))
    return rows
