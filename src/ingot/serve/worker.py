"""The worker: one thread that owns the engine, and jobs that cross between it and the event loop.

```
event loop                                   thread
submit(job) ---- commands (SimpleQueue) ---> engine.submit, one step after the other
job.pieces() <-- deliver (call_soon) ------- what each step made
cancel(job) ---- commands -----------------> engine.cancel
```
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from ingot.inference.engine import Engine
from ingot.inference.request import Request
from ingot.inference.sampling import Sampling
from ingot.serve.protocol import ApiError

log = logging.getLogger("ingot.serve")


class Piece(NamedTuple):
    """What a step added to one answer."""

    answer: int  # its number within the job
    text: str
    tokens: list[int]
    logprobs: list[float]
    finish_reason: str | None


@dataclass(eq=False)
class Job:
    """One HTTP request's answers: for each a prompt (token ids) and how to sample."""

    prompts: list[list[int]] = field(default_factory=list)
    sampling: list[Sampling] = field(default_factory=list)
    queue: asyncio.Queue[Piece | ApiError] = field(default_factory=asyncio.Queue)
    requests: list[Request] = field(default_factory=list)  # the thread's own
    unfinished: int = 0

    def add(self, prompt: list[int], sampling: Sampling) -> None:
        """Asks for one more answer."""
        self.prompts.append(prompt)
        self.sampling.append(sampling)

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yields what the answers get, as they get it, until all are finished.

        Raises:
            ApiError: the engine failed.
        """
        left = len(self.prompts)
        while left:
            piece = await self.queue.get()
            if isinstance(piece, ApiError):
                raise piece
            left -= piece.finish_reason is not None
            yield piece


@dataclass
class _Answer:
    """Where an engine request's text goes, and how many of its tokens went there."""

    job: Job
    index: int
    given: int = 0


class Worker:
    """Runs the engine in a thread of its own.

    Args:
        engine: given away: nobody else may touch it from now on.
        stop_ids: tokens that end every answer.
        waiting: answers that may wait for a slot.
    """

    def __init__(self, engine: Engine, stop_ids: frozenset[int], waiting: int) -> None:
        self.engine = engine
        self.stop_ids = stop_ids
        self.capacity = engine.slots + waiting
        self.taken = 0  # answers that are being made or wait; counted in the event loop only
        self._commands: queue.SimpleQueue[tuple[str, Job | None]] = queue.SimpleQueue()
        self._answers: dict[Request, _Answer] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Starts the thread; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after its current step."""
        self._commands.put(("stop", None))
        self._thread.join(timeout=30)

    def submit(self, job: Job) -> None:
        """Hands over a job.

        Raises:
            ApiError: 429, too much is waiting already.
        """
        wanted = len(job.prompts)
        if self.taken + wanted > self.capacity:
            raise ApiError(
                429,
                f"{self.taken} answers are being made or wait, at most {self.capacity} may: try again soon",
                code="overloaded",
                headers={"retry-after": "1"},
            )
        self.taken += wanted
        job.unfinished = wanted
        self._commands.put(("submit", job))

    def cancel(self, job: Job) -> None:
        """Ends a job, if it has not ended by itself."""
        if job.unfinished:
            self._commands.put(("cancel", job))

    def _run(self) -> None:
        torch.set_flush_denormal(True)  # holds for this thread only
        while True:
            idle = not (self.engine.active or self.engine.waiting)
            try:
                command, job = self._commands.get(block=idle)
            except queue.Empty:
                self._step()
                continue
            if command == "stop":
                return
            if job is not None:
                self._begin(job) if command == "submit" else self._end(job)

    def _begin(self, job: Job) -> None:
        for index, (prompt, sampling) in enumerate(zip(job.prompts, job.sampling, strict=True)):
            request = self.engine.submit(prompt, sampling, self.stop_ids)
            job.requests.append(request)
            self._answers[request] = _Answer(job, index)

    def _end(self, job: Job) -> None:
        ended = [request for request in job.requests if request.finish_reason is None]
        for request in ended:
            self.engine.cancel(request)
        self._deliver(ended)

    def _step(self) -> None:
        try:
            self._deliver(self.engine.step())
        except Exception as error:  # whatever it is, the server goes on for those who ask next
            log.exception("a step of the engine failed")
            self.engine.reset()
            failure = ApiError(503, f"the engine failed: {type(error).__name__}", code="engine_failed")
            jobs = {answer.job for answer in self._answers.values()}
            self._answers.clear()
            self._send([(job, failure) for job in jobs])

    def _deliver(self, requests: Sequence[Request]) -> None:
        pieces: list[tuple[Job, Piece | ApiError]] = []
        for request in requests:
            answer = self._answers[request]
            text = request.transcript.take()
            if text or request.finish_reason:
                tokens, logprobs = request.tokens[answer.given :], request.logprobs[answer.given :]
                answer.given = len(request.tokens)
                pieces.append(
                    (answer.job, Piece(answer.index, text, tokens, logprobs, request.finish_reason))
                )
            if request.finish_reason:
                del self._answers[request]
        if pieces:
            self._send(pieces)

    def _send(self, pieces: list[tuple[Job, Piece | ApiError]]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._receive, pieces)
        except RuntimeError:
            log.debug("the event loop is closed; its clients are gone")

    def _receive(self, pieces: list[tuple[Job, Piece | ApiError]]) -> None:
        """In the event loop: puts pieces where their clients wait, and counts what has ended."""
        for job, piece in pieces:
            ended = job.unfinished if isinstance(piece, ApiError) else piece.finish_reason is not None
            job.unfinished -= ended
            self.taken -= ended
            job.queue.put_nowait(piece)
