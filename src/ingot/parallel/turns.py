"""Turns: what one rank does alone while the others wait for what came of it.

```
lead     work ... work ... done: here is the result
others   wait    wait      go on with it
```

Some work has no use for several ranks: reading the corpus, planning, writing an artifact. It may take
hours, far longer than the ranks have patience with one another; so the lead says every few seconds that it
is still at it, in a thread of its own. Where the lead dies, the others hear nothing more and give up.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from ingot.errors import IngotError
from ingot.parallel.ranks import Ranks

T = TypeVar("T")

BREATH = 5.0
"""Seconds between two signs of life; so long a waiting rank may take to see a signal."""

_BUSY, _DONE, _FAILED = "busy", "done", "failed"


class LeadFailed(IngotError):
    """The lead rank failed at what the others waited for; its own output says why.

    Args:
        exit_code: of the lead.
    """

    of_lead = True  # the command line leaves the telling to rank 0

    def __init__(self, exit_code: int) -> None:
        super().__init__("rank 0 failed", fix="look at its output")
        self.exit_code = exit_code


@dataclass(frozen=True)
class Crew:
    """Ranks that carry out a pipeline together: all call the same methods in the same order.

    Args:
        ranks: this process and its fellows.

    Example:
        >>> Crew(ALONE).by_lead(lambda: 6 * 7)
        42
    """

    ranks: Ranks

    @property
    def lead(self) -> bool:
        """Whether this is the rank that works, writes and speaks."""
        return self.ranks.lead

    @property
    def world(self) -> int:
        """How many ranks there are."""
        return self.ranks.world

    def by_lead(self, work: Callable[[], T]) -> T:
        """Has the lead do some work, however long it takes, and tells all ranks the result.

        Args:
            work: is called on the lead only; its result must be JSON-able. It must not talk to the others.

        Raises:
            LeadFailed: (on the others) `work` raised an error, which the lead raises itself.
        """
        if self.ranks.world == 1:
            return work()
        if not self.ranks.lead:
            told: T = self._wait()
            return told
        try:
            with self._signs_of_life():
                result = work()
        except BaseException as error:
            with contextlib.suppress(IngotError):  # where the others are gone, too, the first error counts
                self.ranks.share([_FAILED, _exit_code(error)])
            raise
        self.ranks.share([_DONE, result])
        return result

    def _wait(self) -> Any:
        while True:
            word, value = self.ranks.share()
            if word == _DONE:
                return value
            if word == _FAILED:
                raise LeadFailed(value)

    @contextlib.contextmanager
    def _signs_of_life(self) -> Iterator[None]:
        """Tells the others now and then to wait on; nobody else talks to them meanwhile."""
        over = threading.Event()

        def speak() -> None:
            with contextlib.suppress(IngotError):  # the main thread will meet the same and raise it
                while not over.wait(BREATH):
                    self.ranks.share([_BUSY, None])

        thread = threading.Thread(target=speak, name="signs of life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    return 130 if isinstance(error, KeyboardInterrupt) else int(getattr(error, "exit_code", 1))
