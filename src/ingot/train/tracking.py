"""What all experiment trackers share: when to open, which numbers to pass on, and how to fail.

A tracker that fails says so once and is silent from then on: no run dies of its tracker.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ingot import device as machine
from ingot.artifact import code
from ingot.atomic import write_atomic
from ingot.errors import ResourceError
from ingot.train.hooks import Hook, Run

IDENTITY = "tracked.json"
"""In the work folder: by which name trackers know this run, so that a resumed run goes on under it."""

FLUSH_LINES, FLUSH_SECONDS = 100, 10.0  # log lines go to a tracker in bundles


class Tracker(Hook):
    """A hook that passes a run on to a library; subclasses say how to open, log and end.

    Args:
        folder: takes the tracker's local files. It should outlive the work folder, which goes when
            the run is done.
        project: groups runs.

    Raises:
        ResourceError: the library is not installed.
    """

    library = ""
    extra = "track"

    def __init__(self, folder: Path, project: str = "ingot") -> None:
        self.folder = folder.absolute()
        self.project = project
        self._silent = False
        self._exit_code = 0
        self._waiting: list[tuple[int, dict[str, float]]] = []
        self._flushed = 0.0
        self._before: Mapping[str, Any] = {}
        if importlib.util.find_spec(self.library) is None:
            raise ResourceError(
                f"the package '{self.library}' is not installed",
                where=f"tracker {type(self).__name__.lower()}",
                fix=f"pip install 'ingot[{self.extra}]'",
            )

    def open(self, run: Run, name: str, facts: dict[str, str], step: int) -> None:
        """Begins or goes on with the run `name`, of which `step` steps are known."""

    def log(self, lines: list[tuple[int, dict[str, float]]]) -> None:
        """Takes the numbers of some steps."""

    def end(self, exit_code: int) -> None:
        """Ends the tracker's run: 0 is done, 130 and 143 interrupted, any other an error."""

    def start(self, run: Run, step: int) -> None:
        self._flushed = time.monotonic()
        self._try(self._start, run, step)

    def step(self, line: dict[str, Any]) -> str | None:
        self._waiting.append((line["step"], self._numbers(line)))
        if len(self._waiting) >= FLUSH_LINES or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flush()
        return None

    def checkpoint(self, step: int, folder: Path) -> None:
        self._flush()

    def error(self, error: BaseException) -> None:
        interrupted = 130 if isinstance(error, KeyboardInterrupt) else 1
        self._exit_code = getattr(error, "exit_code", interrupted)

    def close(self) -> None:
        self._flush()
        self._try(self.end, self._exit_code)

    def _start(self, run: Run, step: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.open(run, _name(run), facts(run), step)

    def _flush(self) -> None:
        lines, self._waiting = self._waiting, []
        self._flushed = time.monotonic()
        if lines:
            self._try(self.log, lines)

    def _numbers(self, line: Mapping[str, Any]) -> dict[str, float]:
        found = {
            name: float(value)
            for name, value in line.items()
            if name != "step" and isinstance(value, int | float) and math.isfinite(value)
        }
        seconds = line.get("seconds", 0.0) - self._before.get("seconds", 0.0)
        if self._before and seconds > 0:
            found["tokens_per_second"] = (line["tokens"] - self._before["tokens"]) / seconds
        self._before = line
        return found

    def _try(self, action: Callable[..., None], *arguments: Any) -> None:
        """Keeps a tracker's errors from the run, and its chatter from standard output."""
        if self._silent:
            return
        try:
            with contextlib.redirect_stdout(sys.stderr):
                action(*arguments)
        except Exception as error:
            self._silent = True
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"tracker {self.library} failed and is off for this run ({what})", file=sys.stderr)


def facts(run: Run) -> dict[str, str]:
    """Returns what a tracker keeps besides numbers: settings (dotted), code, machine, size."""
    found = {
        "what": run.what,
        "steps": run.steps,
        "parameters": run.parameters,
        "config": run.config,
        "code": code(),
        "machine": machine.describe(),
    }
    return {key: str(value) for key, value in flat(found).items()}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested mappings as one, keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _name(run: Run) -> str:
    """The run's name, kept in its work folder."""
    path = run.work / IDENTITY
    if not path.exists():
        name = f"{run.what.replace(' ', '-')}-{uuid.uuid4().hex[:8]}"
        write_atomic(path, json.dumps({"name": name}) + "\n")
    name = json.loads(path.read_text(encoding="utf-8"))["name"]
    return str(name)
