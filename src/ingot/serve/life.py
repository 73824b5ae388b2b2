"""A server's life: starting, ready, draining, over.

Told to end, it says at once that it is not ready, takes nothing new, lets answers under way finish until
the deadline, and ends those that are left with an error that their clients can read.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from time import monotonic
from typing import Literal

from ingot.serve.protocol import ApiError

GOODBYE_SECONDS = 2.0
"""From the last answers' error to the end, so that it reaches their clients."""


class Life:
    """What a server is at.

    Args:
        clock: seconds.

    Attributes:
        busy: requests under way; counted in the event loop.
        failure: why it could not start; None where it could.
        on_deadline: called once when draining has lasted too long, to end what is left.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.state: Literal["starting", "ready", "draining"] = "starting"
        self.busy = 0
        self.failure: BaseException | None = None
        self.on_deadline: Callable[[], None] = lambda: None
        self._clock = clock
        self._deadline = 0.0
        self._late = False

    def load(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        """Does what has to be done before it is ready, in a thread; called in the event loop.

        Args:
            work: may take long; what it raises ends the server.
            then: called in the event loop afterwards.
        """
        loop = asyncio.get_running_loop()

        def done(failure: BaseException | None) -> None:
            if failure is not None:
                self.failure = failure
            else:
                then()
                self.begin()

        def run() -> None:
            failure = None
            try:
                work()
            except BaseException as error:  # whoever called the server gets it
                failure = error
            with contextlib.suppress(RuntimeError):  # told to end meanwhile, and gone
                loop.call_soon_threadsafe(done, failure)

        # Not one of the loop's own threads: the end would wait for it.
        threading.Thread(target=run, name="load", daemon=True).start()

    def begin(self) -> None:
        """Says that everything is there, unless the end has been asked for meanwhile."""
        if self.state == "starting":
            self.state = "ready"

    def drain(self, seconds: float) -> None:
        """Begins the end: nothing new from now on, and what is under way has this long."""
        if self.state != "draining":
            self.state = "draining"
            self._deadline = self._clock() + seconds

    @property
    def over(self) -> bool:
        """Whether the server should end now; asked a few times a second."""
        if self.failure is not None:
            return True
        if self.state != "draining":
            return False
        left = self._deadline - self._clock()
        if self.busy and left <= 0 and not self._late:
            self._late = True
            self.on_deadline()
        return not self.busy or left <= -GOODBYE_SECONDS

    def refusal(self) -> ApiError | None:
        """Returns what requests are told that cannot be taken now; None where they can."""
        if self.state == "ready":
            return None
        if self.state == "starting":
            what, headers = "the server is still starting", {"retry-after": "2"}
        else:
            what, headers = "the server is ending", {"retry-after": "5", "connection": "close"}
        return ApiError(503, f"{what}: try again soon", code=self.state, headers=headers)
