"""Jobs: what one HTTP request asks of a model, and the pieces in which it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ingot.inference.choosing.sampling import Sampling
from ingot.inference.request import Request
from ingot.serve.protocol import ApiError


class Piece(NamedTuple):
    """What a step added to one answer."""

    answer: int  # its number within the job
    text: str
    tokens: list[int]
    logprobs: list[float]
    finish_reason: str | None
    alternatives: Sequence[list[tuple[int, float]]] = ()  # of each token; empty where nobody asked
    prompt: tuple[list[float | None], list[list[tuple[int, float]]]] | None = None
    """How likely the prompt's tokens are, and their alternatives; on an answer's first piece if asked for."""
    cached: int = 0
    """Tokens of the prompt that did not have to be computed."""


@dataclass(eq=False)
class Job:
    """One HTTP request's answers: for each a prompt (token ids) and how to sample.

    Args:
        streamed: whether pieces are wanted as they are made; else one comes at each answer's end.
    """

    streamed: bool = True
    prompts: list[list[int]] = field(default_factory=list)
    sampling: list[Sampling] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)  # more words for `engine.submit`
    queue: asyncio.Queue[Piece | ApiError] = field(default_factory=asyncio.Queue)
    requests: list[Request] = field(default_factory=list)  # the thread's own
    unfinished: int = 0
    listeners: list[Callable[[Piece | ApiError], None]] = field(default_factory=list)
    """Called in the event loop with all that comes, also when whoever asked has gone."""

    def add(
        self, prompt: list[int], sampling: Sampling, priority: int = 0, adapter: str | None = None
    ) -> None:
        """Asks for one more answer."""
        self.prompts.append(prompt)
        self.sampling.append(sampling)
        given: dict[str, Any] = {"priority": priority, "adapter": adapter}
        self.options.append({key: value for key, value in given.items() if value})

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yields what the answers get, as they get it, until all are finished.

        Raises:
            ApiError: the engine failed, or would not take a prompt.
        """
        left = len(self.prompts)
        while left:
            piece = await self.queue.get()
            if isinstance(piece, ApiError):
                raise piece
            left -= piece.finish_reason is not None
            yield piece
