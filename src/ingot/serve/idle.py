"""The engine of models that write nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

from ingot.errors import RequestError
from ingot.inference.asking import Asking
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.request import Request
from ingot.inference.usage import Usage


class Idle(Asking):
    """Nothing is ever under way: its worker only runs what is called."""

    slots = 16

    def usage(self) -> Usage:
        """See `Asking`."""
        return Usage(*[0] * len(Usage._fields))

    def room(self, prompt_tokens: int) -> NoReturn:
        """Refuses."""
        raise RequestError("this model does not write", where="model", fix="ask it for vectors")

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling | None = None,
        stop_ids: Iterable[int] = (),
        priority: int = 0,
        adapter: str | None = None,
    ) -> NoReturn:
        """Refuses."""
        self.room(len(prompt))

    def step(self) -> list[Request]:
        """Makes nothing."""
        return []

    def cancel(self, request: Request) -> None:
        """Nothing is under way."""

    def reset(self) -> None:
        """Nothing is under way."""
