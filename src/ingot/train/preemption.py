"""Preemption: a scheduler's SIGTERM becomes one last checkpoint and exit code 143.

```
SIGTERM -> asked() is true -> the trainer ends its step, saves, raises Interrupted -> exit 143
```

Exit code 143 (128 + SIGTERM) is what schedulers read as "start me again". Whoever cannot wait for the
checkpoint sends SIGTERM once more, or SIGINT: the process then stops at once, and the run goes on
from the checkpoint before.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ingot.errors import IngotError

TERMINATED = 143

# Slurm signals every process of a job, and torchrun hands the signal that it gets on to its workers:
# the same request often arrives twice.
SAME_REQUEST = 2.0
"""Seconds within which a second SIGTERM is taken for the first one."""


class Interrupted(IngotError):
    """The run was asked to stop, saved its state and stopped; the same command goes on from there.

    Args:
        what: what happened.
        step: the last step that is saved; None where none is.
        (where, fix: as in `IngotError`)
    """

    exit_code = TERMINATED

    def __init__(
        self, what: str, *, step: int | None = None, where: object = None, fix: str | None = None
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.step = step


@contextmanager
def preemption() -> Iterator[Callable[[], bool]]:
    """Yields a question to ask after every step: was this process asked to end?

    Only the main thread can listen to signals; in any other the answer is always no. The handler that
    was there before comes back at the end, and gets the second SIGTERM.

    Example:
        >>> with preemption() as asked:                                     # doctest: +SKIP
        ...     while not asked():
        ...         trainer.step()
    """
    first: list[float] = []

    def asked() -> bool:
        return bool(first)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
        elif time.monotonic() - first[0] > SAME_REQUEST:
            if callable(before):
                before(number, frame)
            sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
