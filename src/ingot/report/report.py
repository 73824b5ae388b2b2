"""The report: one self-contained HTML page, drawn from the facts that a run's artifacts hold.

Everything on the page came from outside (the user's file names, a model's words), so the template
escapes all of it, control characters become visible, and a content policy in the page forbids scripts and
loading in any case.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ingot.report import drawing, panels, sections
from ingot.report.again import commands, place, versions
from ingot.report.facts import MODELS, Facts
from ingot.report.lineage import trace
from ingot.report.plan import outcomes, plan_rows
from ingot.report.samples import samples, visible
from ingot.report.words import ABSENT, clock, figure, interval, minutes, number, span

PAGE = Path(__file__).parent / "page"
COLUMNS = (
    ("bits_per_byte", "bits per byte"),
    ("success", "instruction success"),
    ("parse", "answers that parse"),
    ("decode_tokens_per_second", "tokens per second"),
)


def render(facts: Facts, made: datetime | None = None) -> str:
    """Returns the page.

    Args:
        facts: what the run's artifacts say.
        made: the time to put on the page; None means now.

    Returns:
        A whole HTML document that refers to nothing outside itself.
    """
    environment = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html")
    return visible(page.render(_view(facts, made or datetime.now(UTC))))


def _view(facts: Facts, made: datetime) -> dict[str, Any]:
    lineage, targets = trace(facts), sections.targets(facts)
    go_on, repeat = commands(facts)
    prompts = number(facts.evaluation.get("prompts"))
    return {
        "style": Markup((PAGE / "report.css").read_text(encoding="utf-8")),
        "name": facts.run.absolute().name,
        "run": place(facts.run),
        "made": f"{made:%d %B %Y, %H:%M} UTC".lstrip("0"),
        "headline": sections.headline(facts),
        "cards": sections.cards(facts),
        "prompts": f"{prompts:,.0f}" if prompts else "",
        "successes": _successes(facts),
        "lineage": {"wide": drawing.wide(lineage), "tall": drawing.tall(lineage)},
        "left_out": [stage for stage in facts.stages.values() if stage.left_out is not None],
        "standing": panels.standing(facts),
        "models": sections.model_rows(facts),
        "columns": COLUMNS,
        "simple": _simple(facts),
        "comparisons": sections.comparisons(facts),
        "targets": targets,
        "verdict": sections.verdict(targets),
        "absent": ABSENT,
        "training": panels.training(facts),
        "samples": samples(facts),
        "dropped": facts.dropped,
        "dropped_files": f"{sum(group.files for group in facts.dropped):,}",
        "plan": plan_rows(facts),
        "outcomes": outcomes(facts),
        "notes": _notes(facts),
        "go_on": go_on,
        "repeat": repeat,
        "stages": _stages(facts),
        "total": minutes(facts.seconds),
        "versions": versions(facts),
    }


def _successes(facts: Facts) -> list[dict[str, Any]]:
    """Instruction success of each model, with the geometry of its gauge in percent."""
    found = []
    for name in MODELS:
        judged = facts.model(name)
        value, bounds = number(judged.get("success")), interval(judged.get("success_interval"))
        if value is None:
            continue
        one: dict[str, Any] = {"name": name, "text": figure("success", value), "span": "", "low": None}
        one["width"] = round(100 * min(1.0, max(0.0, value)), 2)
        if bounds:
            one["span"] = span("success", bounds)
            one["low"], one["reach"] = round(100 * bounds[0], 2), round(100 * (bounds[1] - bounds[0]), 2)
        found.append(one)
    return found


def _simple(facts: Facts) -> list[dict[str, str]]:
    """What simple means need for the same bytes."""
    named = ((facts.ngram, "name", "n-grams"), (facts.xz, "command", "xz -9e"))
    found = ((one.get(key, usual), number(one.get("bits_per_byte"))) for one, key, usual in named)
    return [
        {"name": str(name), "text": figure("bits_per_byte", value)}
        for name, value in found
        if value is not None
    ]


def _notes(facts: Facts) -> list[tuple[str, str]]:
    notes = [(stage.name, note) for stage in facts.stages.values() for note in stage.notes]
    return [*notes, *[("report", problem) for problem in facts.problems]]


def _stages(facts: Facts) -> list[dict[str, Any]]:
    longest = max((stage.seconds for stage in facts.stages.values()), default=0) or 1
    return [
        {
            "name": stage.name if stage.left_out is None else f"{stage.name} (left out)",
            "share": round(100 * stage.seconds / longest, 1),
            "clock": clock(stage.seconds),
        }
        for stage in facts.stages.values()
    ]
