"""What a worker asks of an engine, and the engine of models that write nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from ingot.errors import RequestError
from ingot.inference.engine import Usage
from ingot.inference.request import Request
from ingot.inference.sampling import Sampling


class Steps(Protocol):
    """What the worker asks of an engine."""

    slots: int

    @property
    def active(self) -> Sequence[Request]:
        """The requests that are worked on."""
        ...

    @property
    def waiting(self) -> Sequence[Request]:
        """The requests that wait."""
        ...

    def usage(self) -> Usage:
        """Counts of what it does and did; may be asked for while a step runs."""
        ...

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling | None = None,
        stop_ids: Iterable[int] = (),
        priority: int = 0,
        adapter: str | None = None,
    ) -> Request:
        """Queues a request."""
        ...

    def step(self) -> list[Request]:
        """Makes tokens; returns the requests that got some."""
        ...

    def cancel(self, request: Request) -> None:
        """Ends a request."""
        ...

    def reset(self) -> None:
        """Ends all requests."""
        ...


class Idle:
    """The engine of a model that writes nothing: its worker only runs what is called."""

    slots = 16
    active: Sequence[Request] = ()
    waiting: Sequence[Request] = ()

    def usage(self) -> Usage:
        """Nothing at all."""
        return Usage(*[0] * len(Usage._fields))

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling | None = None,
        stop_ids: Iterable[int] = (),
        priority: int = 0,
        adapter: str | None = None,
    ) -> Request:
        """Refuses."""
        raise RequestError("this model does not write", where="model", fix="ask it for vectors")

    def step(self) -> list[Request]:
        """Makes nothing."""
        return []

    def cancel(self, request: Request) -> None:
        """Nothing is under way."""

    def reset(self) -> None:
        """Nothing is under way."""
