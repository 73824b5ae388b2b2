"""Progress: what is being done, how long is left, and the numbers that matter.

Library code takes a `Progress` and reports to it; the command line passes one that draws. The plain
one here says nothing, so that the library stays silent unless asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Task:
    """One piece of long work: advanced by its worker, drawn by whoever watches."""

    def advance(self, amount: float = 1, numbers: str = "") -> None:
        """Says that `amount` more of the total is done; `numbers` is a short text such as 'loss 3.21'."""

    def at(self, done: float, numbers: str = "") -> None:
        """Says that `done` of the total is done in all."""

    def show(self, line: dict[str, Any]) -> None:
        """Takes a line of the training log (step, loss, rate, tokens, seconds, ...), for a dashboard.

        A line may also hold `mfu`, the model FLOP/s as a share of the device's peak, or None.
        """


class Progress:
    """Receives tasks and remarks. This one is silent; `cli/terminal.py` has those that draw."""

    @contextmanager
    def task(self, what: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        """Opens a task.

        Args:
            what: the work, as a person would say it ('training the tokenizer').
            total: how much there is to do, in `unit`; None where nobody knows.
            unit: what is counted ('steps', 'files', 'MB').
        """
        yield Task()

    def say(self, text: str) -> None:
        """One line for the reader that stays on the screen."""
