"""Hooks: the five points of a run at which others may look on, or ask it to stop.

```
start -> step, step, ... -> checkpoint -> step, ... -> close        (error, where one escapes the run)
```

Trackers, the learning rate finder and a user's own code stand behind this one face. The trainer calls
hooks on the lead rank only, in the order they were given; a hook changes nothing of the run, so that
a run with hooks gives the same losses as one without.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple


class Run(NamedTuple):
    """What a hook is told of the run before its first step.

    Args:
        work: the folder that survives kills; `metrics.jsonl` is there.
        steps: of the whole run.
        config: the resolved settings, as plain data.
        parameters: of the model.
        flops_per_token: of training, forward and backward; None where nobody knows.
        peak_flops: dense floating point operations per second that the device (all ranks together)
            can do at best; None where nobody knows.
        what: the work in words ('pretraining').
    """

    work: Path
    steps: int
    config: dict[str, Any]
    parameters: int
    flops_per_token: float | None
    peak_flops: float | None
    what: str


class Hook:
    """Looks on at a run; every method does nothing until it is overridden.

    Example:
        >>> class Enough(Hook):
        ...     def step(self, line):
        ...         return "the loss is low enough" if line["loss"] < 1.5 else None
    """

    def start(self, run: Run, step: int) -> None:
        """Called once, before the first update of this process.

        Args:
            run: what is about to run.
            step: where it stands: 0, or the step of the checkpoint that it goes on from.
        """

    def step(self, line: dict[str, Any]) -> str | None:
        """Called after each update.

        Args:
            line: of the log: step, loss, rate, gradient_norm, tokens, seconds, ...

        Returns:
            None to go on; a text (why) to have the run save and stop.
        """
        return None

    def checkpoint(self, step: int, folder: Path) -> None:
        """Called when the state after `step` is whole and on disk in `folder`."""

    def error(self, error: BaseException) -> None:
        """Called when an error ends the run, before it goes on its way; `close` follows."""

    def close(self) -> None:
        """Called once at the end of the run, however it ends."""
