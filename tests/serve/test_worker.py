"""The worker: what crosses between the event loop and the engine's thread, with a scripted engine."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ingot.errors import RequestError
from ingot.inference.asking import Asking
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.request import Request
from ingot.inference.text import Transcript
from ingot.inference.usage import Usage
from ingot.serve.protocol import ApiError
from ingot.serve.worker import Job, Worker


class Letters:
    """A tokenizer whose tokens are bytes."""

    def token_bytes(self, token: int) -> bytes:
        return bytes([token])


class Scripted(Asking):
    """An engine that says 'a', 'b', 'c' ... to everybody, as many as asked for."""

    def __init__(self, slots: int = 2, seconds: float = 0.002) -> None:
        self.slots, self.seconds = slots, seconds
        self.active: list[Request] = []
        self.waiting: list[Request] = []
        self.steps = 0
        self.before: Callable[[], None] = lambda: None

    def room(self, prompt_tokens: int) -> int:
        return 1000

    def submit(self, prompt, sampling, stop_ids, **options) -> Request:
        if not prompt:
            raise RequestError("the prompt has no tokens", where="prompt", fix="say something")
        request = Request(
            prompt=list(prompt),
            sampling=sampling,
            stop_ids=frozenset(stop_ids),
            seed=0,
            limit=sampling.max_new_tokens,
            transcript=Transcript(Letters(), sampling.stop),
            **options,
        )
        self.waiting.append(request)
        return request

    def usage(self) -> Usage:
        return Usage(len(self.active), len(self.waiting), *[0] * (len(Usage._fields) - 2))

    def step(self) -> list[Request]:
        self.steps += 1
        self.before()
        time.sleep(self.seconds)
        while self.waiting and len(self.active) < self.slots:
            self.waiting[0].started = time.perf_counter()
            self.active.append(self.waiting.pop(0))
        moved = list(self.active)
        for request in moved:
            if request.push(97 + len(request.tokens) % 26, -1.0):
                self.active.remove(request)
        return moved

    def cancel(self, request: Request) -> None:
        if request.finish_reason is None:
            request.finish("cancelled")
            for queue in (self.active, self.waiting):
                if request in queue:
                    queue.remove(request)

    def reset(self) -> None:
        for request in (*self.active, *self.waiting):
            request.finish("cancelled")
        self.active.clear()
        self.waiting.clear()


def job(*lengths: int, tokens: int = 5, streamed: bool = True) -> Job:
    made = Job(streamed=streamed)
    for length in lengths:
        made.add([1] * length, Sampling(max_new_tokens=tokens))
    return made


def played(play, engine: Scripted | None = None, **options) -> None:
    """Runs a test's coroutine beside a started worker."""

    async def run() -> None:
        worker = Worker(engine or Scripted(), frozenset(), **({"waiting": 10} | options))
        worker.start()
        try:
            await asyncio.wait_for(play(worker), 60)
        finally:
            worker.stop()

    asyncio.run(run())


async def settled(worker: Worker) -> None:
    """Waits until nothing is under way."""
    while worker.taken:
        await asyncio.sleep(0.002)


def test_what_is_streamed_is_what_is_told_whole() -> None:
    async def play(worker: Worker) -> None:
        streamed, whole = job(3, 4, tokens=7), job(3, 4, tokens=7, streamed=False)
        worker.submit(streamed)
        worker.submit(whole)
        pieces = [piece async for piece in streamed.pieces()]
        told = [piece async for piece in whole.pieces()]
        assert len(told) == 2 and len(pieces) == 14
        for answer in (0, 1):
            parts = [piece for piece in pieces if piece.answer == answer]
            (one,) = [piece for piece in told if piece.answer == answer]
            assert "".join(part.text for part in parts) == one.text == "abcdefg"
            assert [token for part in parts for token in part.tokens] == one.tokens
            assert [value for part in parts for value in part.logprobs] == one.logprobs
            assert parts[-1].finish_reason == one.finish_reason == "length"
        await settled(worker)
        assert worker.taken == worker.unread == 0

    played(play)


def test_a_cancelled_job_takes_no_further_step() -> None:
    engine = Scripted(seconds=0.01)

    async def play(worker: Worker) -> None:
        left = job(3, tokens=1000)
        worker.submit(left)
        pieces = left.pieces()
        await anext(pieces)
        worker.cancel(left)
        steps = engine.steps
        await settled(worker)
        assert engine.steps - steps <= 1  # the one that was under way
        assert not engine.active and left.requests[0].finish_reason == "cancelled"
        worker.cancel(left)  # again: nothing happens

    played(play, engine)


def test_answers_and_prompt_tokens_that_wait_are_bounded() -> None:
    engine = Scripted(slots=1, seconds=0.02)

    async def play(worker: Worker) -> None:
        first = job(500, tokens=30)  # longer than the bound, but alone
        worker.submit(first)
        await anext(first.pieces())
        assert worker.unread == 0
        worker.submit(job(60, tokens=1))
        with pytest.raises(ApiError, match="60 prompt tokens") as refused:
            worker.submit(job(41, tokens=1))
        assert refused.value.status == 429 and refused.value.headers["retry-after"]
        worker.submit(job(40, tokens=1))
        with pytest.raises(ApiError, match="3 answers"):
            worker.submit(job(0, tokens=1))
        await settled(worker)
        assert worker.unread == 0
        worker.submit(job(41, tokens=1))
        await settled(worker)

    played(play, engine, waiting=2, waiting_tokens=100)


def test_a_job_that_the_engine_refuses_gets_told_and_holds_nothing() -> None:
    async def play(worker: Worker) -> None:
        refused = job(3, 0)
        worker.submit(refused)
        with pytest.raises(ApiError, match="no tokens") as error:
            async for _ in refused.pieces():
                pass
        assert error.value.status == 400
        assert worker.taken == worker.unread == 0
        fine = job(3)
        worker.submit(fine)
        assert "".join([piece.text async for piece in fine.pieces()]) == "abcde"

    played(play)


def test_a_step_that_fails_fails_those_under_way_and_those_that_wait() -> None:
    engine = Scripted(slots=1)

    async def play(worker: Worker) -> None:
        def broken() -> None:
            if engine.steps == 3:
                raise MemoryError("a-secret")

        engine.before = broken
        jobs = [job(3, tokens=50), job(4, tokens=50)]
        for one in jobs:
            worker.submit(one)
        for one in jobs:
            with pytest.raises(ApiError, match="MemoryError") as error:
                async for _ in one.pieces():
                    pass
            assert error.value.status == 503 and "secret" not in str(error.value)
        assert worker.taken == worker.unread == 0
        fine = job(3)
        worker.submit(fine)
        assert "".join([piece.text async for piece in fine.pieces()]) == "abcde"

    played(play, engine)


def test_work_is_called_between_steps_and_counts_as_taken() -> None:
    engine = Scripted()

    async def play(worker: Worker) -> None:
        running = job(3, tokens=40)
        worker.submit(running)
        await anext(running.pieces())
        inside: list[str] = []
        engine.before = lambda: inside.append("step")

        def work(number: int) -> int:
            inside.append("begin")
            time.sleep(0.02)
            inside.append("end")
            return number + 1

        assert await worker.call(work, 4) == 5
        at = inside.index("begin")
        assert inside[at + 1] == "end"
        with pytest.raises(ZeroDivisionError):
            await worker.call(lambda: 1 // 0)
        worker.cancel(running)
        await settled(worker)
        go = threading.Event()
        slow = [asyncio.ensure_future(worker.call(go.wait, 20)) for _ in range(worker.capacity)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as refused:
            await worker.call(time.sleep, 0)
        assert refused.value.status == 429
        go.set()
        await asyncio.gather(*slow)
        assert worker.taken == 0

    played(play, engine, waiting=2)


def test_a_call_whose_caller_left_is_not_made() -> None:
    async def play(worker: Worker) -> None:
        made: list[int] = []
        go = threading.Event()
        first = asyncio.ensure_future(worker.call(go.wait, 20))
        second = asyncio.ensure_future(worker.call(made.append, 1))
        await asyncio.sleep(0.02)
        second.cancel()
        await asyncio.sleep(0)
        go.set()
        await first
        await settled(worker)
        assert made == []

    played(play)


def test_all_answers_can_be_ended_with_a_word() -> None:
    async def play(worker: Worker) -> None:
        jobs = [job(3, tokens=10_000), job(3, 3, tokens=10_000)]
        for one in jobs:
            worker.submit(one)
        await asyncio.sleep(0.05)
        worker.fail(ApiError(503, "the server is ending"))
        for one in jobs:
            with pytest.raises(ApiError, match="ending"):
                async for _ in one.pieces():
                    pass
        assert worker.taken == worker.unread == 0

    played(play)


def test_tokens_are_told_to_whoever_counts_them() -> None:
    async def play(worker: Worker) -> None:
        for streamed in (True, False):
            counted: list[int] = []
            one = job(3, 3, tokens=6, streamed=streamed)
            one.listeners.append(lambda piece, counted=counted: counted.append(len(piece.tokens)))
            worker.submit(one)
            await settled(worker)
            assert sum(counted) == 12

    played(play)


def test_the_real_engine_serves_it_as_well(folder: Path) -> None:
    from ingot.inference.ingot import load

    model = load(folder)
    expected = model.generate("Hello", max_new_tokens=12, temperature=0)
    asked = model.encode("Hello")

    async def run() -> None:
        worker = Worker(model.engine, model.stop_ids, waiting=2)
        worker.start()
        one = Job()
        one.add(asked, Sampling(max_new_tokens=12, temperature=0))
        worker.submit(one)
        assert "".join([piece.text async for piece in one.pieces()]) == expected
        assert worker.usage()["running"] == 0
        worker.stop()

    asyncio.run(run())
