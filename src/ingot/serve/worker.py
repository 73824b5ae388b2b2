"""The worker: one thread that owns the engine, and jobs that cross between it and the event loop.

```
event loop                                   thread
submit(job) ---- commands (SimpleQueue) ---> engine.submit, one step after the other
job.pieces() <-- deliver (call_soon) ------- what each step made
cancel(job) ---- commands -----------------> engine.cancel, before the next step
call(work)  ---- commands -----------------> work(), between two steps
```
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ingot.errors import IngotError
from ingot.inference.asking import Asking
from ingot.inference.request import Request
from ingot.serve.job import Job, Piece
from ingot.serve.protocol import ApiError
from ingot.serve.visits import traced

if TYPE_CHECKING:
    from ingot.serve.metrics import Meter

log = logging.getLogger("ingot.serve")

T = TypeVar("T")

SHADOW_NICENESS = 19
"""Of threads whose answers nobody hears."""


@dataclass
class _Answer:
    """Where an engine request's text goes, and how far it is. Times are of `time.perf_counter`."""

    job: Job
    index: int
    submitted: float
    seen: int = 0  # tokens that were noticed; the prompt waits until there is one
    given: int = 0  # tokens that were delivered
    latest: float = 0.0  # when the last ones were noticed


class Worker:
    """Runs an engine in a thread of its own.

    Args:
        engine: given away: nobody else may touch it from now on.
        stop_ids: tokens that end every answer.
        waiting: answers that may wait for a slot.
        waiting_tokens: prompt tokens that may wait; None sets no bound. One prompt may always.
        meter: told what happens; None counts nothing.
        niceness: added to the thread's, where the system can.
    """

    def __init__(
        self,
        engine: Asking,
        stop_ids: frozenset[int],
        waiting: int,
        waiting_tokens: int | None = None,
        meter: Meter | None = None,
        niceness: int = 0,
    ) -> None:
        self.engine = engine
        self.stop_ids = stop_ids
        self.capacity = engine.slots + waiting
        self.waiting_tokens = waiting_tokens
        self.meter = meter
        self.taken = 0  # answers that are being made or wait; counted in the event loop only
        self.unread = 0  # prompt tokens that wait; counted in the event loop only
        self._niceness = niceness
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._answers: dict[Request, _Answer] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Starts the thread; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def fail(self, error: ApiError) -> None:
        """Ends all answers with an error, before the next step."""
        self._commands.put(lambda: self._fail(error))

    def stop(self) -> None:
        """Ends the thread after its current step."""
        self._commands.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def submit(self, job: Job) -> None:
        """Hands over a job.

        Raises:
            ApiError: 429, too much is waiting already.
        """
        wanted, tokens = len(job.prompts), sum(map(len, job.prompts))
        self._admit(wanted)
        if self.unread and self.waiting_tokens is not None and self.unread + tokens > self.waiting_tokens:
            raise _overloaded(f"{self.unread} prompt tokens wait, at most {self.waiting_tokens} may")
        self.taken += wanted
        self.unread += tokens
        job.unfinished = wanted
        submitted = time.perf_counter()
        self._commands.put(lambda: self._begin(job, submitted))

    def cancel(self, job: Job) -> None:
        """Ends a job, if it has not ended by itself, before the next step."""
        if job.unfinished:
            self._commands.put(lambda: self._end(job))

    async def call(self, work: Callable[..., T], *arguments: Any) -> T:
        """Runs something in the thread that owns the model, between two steps, and returns its result.

        Raises:
            ApiError: 429, too much is waiting already.
        """
        self._admit(1)
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()

        def told(result: T | None, error: BaseException | None) -> None:
            self.taken -= 1
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def run() -> None:
            result, error = None, None
            try:
                if not future.cancelled():
                    result = work(*arguments)
            except Exception as raised:  # whoever asked gets it, wherever it came from
                error = raised
            self._call_soon(told, result, error)

        self.taken += 1
        self._commands.put(run)
        return await future

    def usage(self) -> Mapping[str, float]:
        """Returns how busy the engine is, by the keys of `metrics.GAUGES` and `metrics.COUNTERS`.

        May be called while a step runs: it only reads counts.
        """
        usage = self.engine.usage()
        return {
            "running": usage.running,
            "waiting": usage.waiting + self._commands.qsize(),
            "cache": usage.pages_used / usage.pages_total if usage.pages_total else 0.0,
            "prefix_hits": usage.prefix_hits,
            "prefix_queries": usage.prefix_queries,
            "preemptions": usage.preemptions,
        }

    def _admit(self, wanted: int) -> None:
        if self.taken + wanted > self.capacity:
            raise _overloaded(f"{self.taken} answers are being made or wait, at most {self.capacity} may")

    def _run(self) -> None:
        import torch

        torch.set_flush_denormal(True)  # holds for this thread only
        if self._niceness and sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)
        while True:
            try:
                command = self._commands.get(block=self.engine.idle)
            except queue.Empty:
                self._step()
                continue
            if command is None:
                return
            command()

    def _begin(self, job: Job, submitted: float) -> None:
        try:
            for index, (prompt, sampling) in enumerate(zip(job.prompts, job.sampling, strict=True)):
                request = self.engine.submit(prompt, sampling, self.stop_ids, **job.options[index])
                job.requests.append(request)
                self._answers[request] = _Answer(job, index, submitted)
        except Exception as error:  # one job that cannot be taken must not end the thread
            for request in job.requests:
                self.engine.cancel(request)
                self._answers.pop(request, None)
            if not isinstance(error, IngotError):
                log.error("a request could not be taken: %s", traced(error))
                refusal = ApiError(500, "the server failed at this request")
            else:
                refusal = ApiError(400, str(error), code="invalid_value")
            self._send([(job, refusal)], sum(map(len, job.prompts)))

    def _end(self, job: Job) -> None:
        ended = [request for request in job.requests if request.finish_reason is None]
        for request in ended:
            self.engine.cancel(request)
        self._deliver(ended)

    def _step(self) -> None:
        try:
            self._deliver(self.engine.step())
        except Exception as error:  # whatever it is, the server goes on for those who ask next
            log.error("a step of the engine failed: %s", traced(error))
            what = f"the engine failed: {type(error).__name__}"
            self._fail(ApiError(503, what, code="engine_failed", headers={"retry-after": "1"}))

    def _fail(self, error: ApiError) -> None:
        """Ends all answers with an error."""
        self.engine.reset()
        now = time.perf_counter()
        if self.meter is not None:
            for answer in self._answers.values():
                self.meter.ended("error", now - answer.submitted)
        unread = sum(len(request.prompt) for request, answer in self._answers.items() if not answer.seen)
        jobs = dict.fromkeys(answer.job for answer in self._answers.values())
        self._answers.clear()
        self._send([(job, error) for job in jobs], unread)

    def _deliver(self, requests: Sequence[Request]) -> None:
        pieces: list[tuple[Job, Piece | ApiError]] = []
        now, read = time.perf_counter(), 0
        between: dict[tuple[float, int], int] = {}  # time since the last tokens, and how many came -> answers
        for request in requests:
            answer = self._answers.get(request)
            if answer is None:
                continue
            reason = request.finish_reason
            if not answer.seen and (request.tokens or reason):
                read += len(request.prompt)
            if self.meter is not None:
                _count(self.meter, request, answer, now, between)
            answer.seen, answer.latest = len(request.tokens), now
            if reason is None and not answer.job.streamed:
                continue
            text = request.transcript.take()
            if text or reason:
                pieces.append((answer.job, _piece(request, answer, text)))
            if reason:
                del self._answers[request]
        if self.meter is not None:
            for (seconds, tokens), rows in between.items():
                self.meter.made(seconds, rows, tokens)
        if pieces or read:
            self._send(pieces, read)

    def _send(self, pieces: Sequence[tuple[Job, Piece | ApiError]], read: int) -> None:
        self._call_soon(self._receive, pieces, read)

    def _call_soon(self, function: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            log.debug("the event loop is closed; its clients are gone")

    def _receive(self, pieces: Sequence[tuple[Job, Piece | ApiError]], read: int) -> None:
        """In the event loop: puts pieces where their clients wait, and counts what has ended."""
        self.unread -= read
        for job, piece in pieces:
            if isinstance(piece, ApiError):
                ended = job.unfinished
            else:
                ended = piece.finish_reason is not None
            for listener in job.listeners:
                listener(piece)
            job.unfinished -= ended
            self.taken -= ended
            job.queue.put_nowait(piece)


def _piece(request: Request, answer: _Answer, text: str) -> Piece:
    """What was added to an answer since the last piece of it."""
    start, first = answer.given, answer.given == 0
    answer.given = len(request.tokens)
    prompt = None
    if first and request.sampling.prompt_logprobs:
        prompt = (request.prompt_logprobs, request.prompt_alternatives)
    return Piece(
        answer=answer.index,
        text=text,
        tokens=request.tokens[start:],
        logprobs=request.logprobs[start:],
        finish_reason=request.finish_reason,
        alternatives=request.alternatives[start:],
        prompt=prompt,
        cached=request.cached,
    )


def _count(
    meter: Meter, request: Request, answer: _Answer, now: float, between: dict[tuple[float, int], int]
) -> None:
    """Tells the metrics what a step did to one request; times between tokens are gathered in `between`."""
    added = len(request.tokens) - answer.seen
    if added and not answer.seen:
        meter.began(request, answer.submitted, now)
    elif added:
        alike = now - answer.latest, added
        between[alike] = between.get(alike, 0) + 1
    if request.finish_reason is not None:
        meter.ended(request.finish_reason, now - answer.submitted)


def _overloaded(what: str) -> ApiError:
    return ApiError(429, f"{what}: try again soon", code="overloaded", headers={"retry-after": "1"})
