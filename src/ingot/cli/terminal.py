"""How progress looks: drawn bars and a dashboard in a terminal, plain lines everywhere else.

Both write to standard error, so that standard output holds results only.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from ingot.cli.dashboard import Dashboard
from ingot.progress import Progress, Task

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

PATIENCE = 5.0
"""Seconds between two lines of plain progress."""

DRAWN_PER_SECOND = 5


def progress_for(stream: TextIO) -> Progress:
    """Returns drawn progress where `stream` is a terminal that wants colour, else plain lines."""
    drawn = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return DrawnProgress() if drawn else PlainProgress(stream)


def duration(seconds: float) -> str:
    """Returns a length of time for people: '8 s', '3 min 05 s', '2 h 10 min'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {left:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class _Watched(Task):
    """A task that knows how far it is and how long is left, and has itself shown at every step."""

    def __init__(self, what: str, total: float | None, unit: str, show: Callable[[_Watched], None]) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0.0
        self.numbers = ""
        self._show = show
        self._since = time.monotonic()
        self._from: float | None = None
        self.dashboard: Dashboard | None = None

    def advance(self, amount: float = 1, numbers: str = "") -> None:
        if self._from is None:
            self._from = 0.0
        self._move(self.done + amount, numbers)

    def at(self, done: float, numbers: str = "") -> None:
        if self._from is None:
            self._from, self._since = done, time.monotonic()  # resumed work did not happen in this time
        self._move(done, numbers)

    def show(self, line: dict[str, Any]) -> None:
        if self.dashboard is None:
            self.dashboard = Dashboard()
        self.dashboard.add(line)

    def _move(self, done: float, numbers: str) -> None:
        self.done = done
        self.numbers = numbers or self.numbers
        self._show(self)

    def left(self) -> str:
        """How long is left at the rate so far; empty where nobody can know."""
        moved = self.done - (self._from or 0.0)
        if self.total is None or moved <= 0 or self.done >= self.total:
            return ""
        return duration((time.monotonic() - self._since) / moved * (self.total - self.done))

    def count(self) -> str:
        """How much is done, of how much; empty where that is no number for people."""
        if self.total is None and not self.unit:
            return ""
        done = f"{self.done:,.0f}"
        amount = done if self.total is None else f"{done}/{self.total:,.0f}"
        return f"{amount} {self.unit}".strip()


class PlainProgress(Progress):
    """A line when a task starts, every few seconds, and when it ends."""

    def __init__(self, stream: TextIO, patience: float = PATIENCE) -> None:
        self._stream = stream
        self._patience = patience
        self._last = 0.0

    @contextmanager
    def task(self, what: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        watched = _Watched(what, total, unit, self._show)
        start = self._last = time.monotonic()
        self.say(f"{what} ...")
        yield watched
        took = f"in {duration(time.monotonic() - start)}"
        count = watched.count() if watched.done else ""
        self.say(f"{what}: " + ", ".join(part for part in (count, watched.numbers, took) if part))

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def _show(self, watched: _Watched) -> None:
        if time.monotonic() - self._last < self._patience:
            return
        self._last = time.monotonic()
        left = watched.left()
        parts = [watched.count(), f"{left} left" if left else "", watched.numbers]
        self.say(f"{watched.what}: " + ", ".join(part for part in parts if part))


class DrawnProgress(Progress):
    """Bars that move: what, how much of how much, how long is left, and the numbers that matter.

    Under the bars stands the dashboard of the training under way.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as Bars

        watched = self._watched = {}  # type: dict[TaskID, _Watched]

        class Screen(Bars):
            def get_renderables(self) -> Iterable[RenderableType]:
                yield self.make_tasks_table(self.tasks)
                yield from [one.dashboard for one in list(watched.values()) if one.dashboard is not None]

        self._console = Console(stderr=True, highlight=False)
        self._bars: Bars = Screen(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}", style="bold", markup=False),
            TextColumn("{task.fields[left]}", style="cyan", markup=False),
            TextColumn("{task.fields[numbers]}", style="dim", markup=False),
            console=self._console,
            refresh_per_second=DRAWN_PER_SECOND,
        )
        self._open = 0

    @contextmanager
    def task(self, what: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        bar = self._bars.add_task(what, total=total, count="", left="", numbers="")
        watched = self._watched[bar] = _Watched(what, total, unit, lambda one: self._show(one, bar))
        start = time.monotonic()
        self._open += 1
        if self._open == 1:
            self._bars.start()
        try:
            yield watched
            took = f"in {duration(time.monotonic() - start)}"
            done = watched.done or total or 1
            self._bars.update(bar, total=done, completed=done, left=took, numbers=watched.numbers)
        finally:
            del self._watched[bar]
            self._open -= 1
            if self._open == 0:
                self._bars.stop()
                for old in self._bars.task_ids:
                    self._bars.remove_task(old)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def _show(self, watched: _Watched, bar: TaskID) -> None:
        left = watched.left()
        self._bars.update(
            bar,
            completed=watched.done,
            count=watched.count(),
            left=f"{left} left" if left else "",
            numbers="" if watched.dashboard else watched.numbers,
        )


def standard_progress() -> Progress:
    """Returns the progress that fits where standard error goes."""
    return progress_for(sys.stderr)
