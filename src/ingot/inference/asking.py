"""The face of an engine, and the ways to ask it for texts: many at once, or one as it is made."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

from ingot.inference.choosing.sampling import Sampling
from ingot.inference.request import Completion, Request
from ingot.inference.usage import Usage
from ingot.progress import Task


class Asking(ABC):
    """What engines share: `generate` and `stream`, made of `submit`, `step` and `cancel`.

    An engine fills in the others.

    Attributes:
        slots: requests that are worked on at once; more wait.
    """

    slots: int

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        usage = self.usage()
        return not (usage.running or usage.waiting)

    @abstractmethod
    def usage(self) -> Usage:
        """Returns counts of what it does and did; may be asked for while a step runs."""

    @abstractmethod
    def room(self, prompt_tokens: int) -> int:
        """Returns how many tokens may follow a prompt of this length.

        Raises:
            RequestError: none, or the prompt is empty.
        """

    @abstractmethod
    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling | None = None,
        stop_ids: Iterable[int] = (),
        priority: int = 0,
        adapter: str | None = None,
    ) -> Request:
        """Queues a request.

        Raises:
            RequestError: it cannot be served as it is asked.
        """

    @abstractmethod
    def step(self) -> list[Request]:
        """Does some work and returns the requests that got tokens, or are finished."""

    @abstractmethod
    def cancel(self, request: Request) -> None:
        """Ends a request now; one that is already finished stays as it is."""

    @abstractmethod
    def reset(self) -> None:
        """Ends all requests and gives their memory back."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling] | None = None,
        stop_ids: Iterable[int] = (),
        task: Task | None = None,
    ) -> list[Completion]:
        """Completes many prompts.

        Args:
            prompts: token ids of each.
            sampling: one for all, or one for each.
            stop_ids: tokens that end an answer.
            task: advanced by one for each finished prompt.

        Returns:
            The completions in the order of the prompts.

        Raises:
            RequestError: a prompt that does not fit; nothing is generated then.
        """
        each = sampling if isinstance(sampling, Sequence) else [sampling] * len(prompts)
        stop_ids = frozenset(stop_ids)
        for prompt in prompts:
            self.room(len(prompt))
        requests: list[Request] = []
        made, start = 0, time.perf_counter()
        try:
            for prompt, one in zip(prompts, each, strict=True):
                requests.append(self.submit(prompt, one, stop_ids))
            unfinished = set(requests)
            while unfinished:
                moved = self.step()
                done = {request for request in moved if request.finish_reason} & unfinished
                unfinished -= done
                if task is not None:
                    made += len(moved)
                    task.advance(len(done), f"{made / (time.perf_counter() - start):,.0f} tokens/s")
        finally:
            for request in requests:
                self.cancel(request)
        return [request.completion() for request in requests]

    def stream(
        self, prompt: Sequence[int], sampling: Sampling | None = None, stop_ids: Iterable[int] = ()
    ) -> Iterator[str]:
        """Yields the text of one answer as it is made, in whole characters.

        Closing the iterator early cancels the request.

        Raises:
            RequestError: the prompt does not fit (before the first text).
        """
        return self.follow(self.submit(prompt, sampling, stop_ids))

    def follow(self, request: Request) -> Iterator[str]:
        """Yields a submitted request's text as it is made; closing the iterator cancels the request."""
        try:
            while request.finish_reason is None:
                self.step()
                if piece := request.transcript.take():
                    yield piece
        finally:
            self.cancel(request)
