"""A training under way as a page: opened once in a browser, it shows the run as it goes; no server needed.

The page is written anew every few seconds and asks the browser to load it again, until the run has ended.
"""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ingot.atomic import write_atomic
from ingot.device import peak_memory
from ingot.report.panels import Panel
from ingot.report.plots import Point, Series, curves, thin
from ingot.report.report import PAGE
from ingot.report.words import clock, number, percent, size
from ingot.train.hooks import Hook, Run
from ingot.train.log import MetricsLog

EVERY = 5.0
"""Seconds between two versions of the page."""

_CURVES = (
    ("loss", "Loss", "per counted item (nats per token), and its running mean", "{:.3g}".format),
    ("rate", "Learning rate", "as a share of the full rate", "{:.2g}".format),
    ("gradient_norm", "Gradient norm", "before clipping", "{:.2g}".format),
    ("tokens_per_second", "Throughput", "tokens per second", "{:,.0f}".format),
    ("mfu", "MFU", "model FLOP/s as a share of the device's peak", percent),
    ("memory", "Memory", "peak of this process", size),
    ("validation", "Held-out loss", "at every checkpoint", "{:.3f}".format),
)
_KEPT = 4000  # points of a curve before it is thinned


class LivePage(Hook):
    """Writes `<folder>/<what>.html` while a run goes on.

    Args:
        folder: of the page; it should outlive the work folder.
        every: seconds between two versions.
    """

    def __init__(self, folder: Path, every: float = EVERY) -> None:
        self.folder = folder
        self.every = every
        self._curves: dict[str, list[Point]] = {name: [] for name, *_ in _CURVES}
        self._last: dict[str, Any] = {}
        self._refused = 0
        self._written = 0.0
        self._state = "running"

    def start(self, run: Run, step: int) -> None:
        self._run = run
        self.path = self.folder / f"{run.what.replace(' ', '-')}.html"
        self.folder.mkdir(parents=True, exist_ok=True)
        for line in MetricsLog(run.work / "metrics.jsonl").read():
            self._take(line)
        self._write()

    def step(self, line: dict[str, Any]) -> str | None:
        self._take(line | {"memory": peak_memory()})
        if time.monotonic() - self._written >= self.every:
            self._write()
        return None

    def error(self, error: BaseException) -> None:
        self._state = f"stopped: {type(error).__name__}"

    def close(self) -> None:
        if self._state == "running":
            ended = self._last.get("step", 0) >= self._run.steps
            self._state = "done" if ended else "stopped before its last step"
        self._write()

    def _take(self, line: dict[str, Any]) -> None:
        """Adds a line of the log to the curves; one of an earlier step takes the run back to there."""
        step = line["step"]
        if step <= self._last.get("step", 0):
            for points in self._curves.values():
                points[:] = [point for point in points if point[0] < step]
        elif self._last and line["seconds"] > self._last["seconds"]:
            tokens, seconds = (line[key] - self._last[key] for key in ("tokens", "seconds"))
            line = line | {"tokens_per_second": tokens / seconds}
        self._refused += not line.get("accepted", True)
        for name, points in self._curves.items():
            value = number(line.get(name))
            if value is not None:
                points.append((step, value))
            if len(points) > _KEPT:
                points[:] = thin(points, _KEPT // 2)
        self._last = line

    def _write(self) -> None:
        environment = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined)
        write_atomic(self.path, environment.get_template("live.html").render(self._view()))
        self._written = time.monotonic()

    def _view(self) -> dict[str, Any]:
        step, steps = self._last.get("step", 0), self._run.steps
        seconds = self._last.get("seconds", 0.0)
        left = clock(seconds / step * (steps - step)) if step else "unknown"
        return {
            "style": Markup((PAGE / "report.css").read_text(encoding="utf-8")),
            "running": self._state == "running",
            "state": self._state if self._state != "running" else f"running, {left} left",
            "what": self._run.what,
            "headline": f"{self._run.what.capitalize()}: step {step:,} of {steps:,}",
            "made": f"{datetime.now():%H:%M:%S}",
            "cards": self._cards(),
            "panels": [panel for panel in map(self._panel, _CURVES) if panel is not None],
        }

    def _cards(self) -> list[dict[str, str]]:
        line = self._last
        loss, speed, mfu = (number(line.get(name)) for name in ("loss", "tokens_per_second", "mfu"))
        return [
            {"label": "loss", "value": "-" if loss is None else f"{loss:.3f}", "note": "of the newest step"},
            {
                "label": "tokens per second",
                "value": "-" if speed is None else f"{speed:,.0f}",
                "note": "MFU n/a" if mfu is None else f"MFU {percent(mfu)}",
            },
            {
                "label": "time",
                "value": clock(line.get("seconds", 0.0)),
                "note": f"{line.get('tokens', 0):,} tokens",
            },
            {"label": "guard", "value": f"{self._refused:,}", "note": "updates refused"},
        ]

    def _panel(self, curve: tuple[str, str, str, Any]) -> Panel | None:
        name, title, caption, words = curve
        points = self._curves[name]
        if not points:
            return None
        few = name == "validation"
        smooth = name in ("loss", "tokens_per_second", "mfu", "gradient_norm") and len(points) > 12
        plot = curves([Series(title, points, "base", marks=few, smooth=smooth)], title, "step", words)
        return Panel(title, plot, [], caption[:1].upper() + caption[1:] + ".")
