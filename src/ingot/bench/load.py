"""Load on a server of OpenAI's interface: how long answers take at a rate that does not wait for them.

In the open loop requests arrive as a Poisson process whose times are drawn before the first is sent, and
every time is counted from the scheduled arrival: a server that stalls is charged for those that would have
come meanwhile (no "coordinated omission"; Schroeder et al., "Open Versus Closed", NSDI 2006). The closed
loop, where so many clients each wait for their answer, measures throughput.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Any

from pydantic import Field

from ingot.bench.arrivals import Arrival, Bursts, arrivals, lengths, varying
from ingot.bench.load_report import Report, Sample
from ingot.bench.wire import BrokenAnswer, Server, events, first_model, pieces, read_head, send
from ingot.config import Config
from ingot.errors import ResourceError
from ingot.progress import Progress

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"
TEXT = "the house on a hill was cold and every door of it stood open to wind and rain that winter"
"""Where the words of prompts come from."""

LENGTHS_PROBED = (32, 96)
"""Words of the two prompts that show how many tokens a word has."""


class LoadConfig(Config):
    """How much is asked for.

    Args:
        rate: requests per second that arrive, whatever becomes of those before.
        bursts: times of a higher rate; None has none.
        clients: in place of a rate: so many, each of which asks again as soon as it has its answer.
        seconds: of arrivals; what is under way then is waited for.
        prompt_tokens: of each prompt, about.
        output_tokens: of each answer, at most.
        spread: lengths lie evenly between (1 - spread) and (1 + spread) of these.
        cap: requests under way at once; those beyond wait here, and their waiting counts. None: no cap.
        warm_up: requests before the first that counts.
        deadline: seconds after which a request counts as failed.
        ttft_slo: seconds from arrival to the first token that are still good.
        itl_slo: mean seconds between an answer's tokens that are still good.
        availability: share of the requests that has to be answered whole; None asks for none.
        p95: seconds from arrival within which 95 of 100 answers have to be whole; None asks for none.
        seed: of arrivals and prompts.
    """

    rate: float = Field(default=1.0, gt=0)
    bursts: Bursts | None = None
    clients: int | None = Field(default=None, ge=1)
    seconds: float = Field(default=30.0, gt=0)
    prompt_tokens: int = Field(default=64, ge=1)
    output_tokens: int = Field(default=32, ge=1)
    spread: float = Field(default=0.0, ge=0, lt=1)
    cap: int | None = Field(default=None, ge=1)
    warm_up: int = Field(default=4, ge=0)
    deadline: float = Field(default=120.0, gt=0)
    ttft_slo: float = Field(default=1.0, gt=0)
    itl_slo: float = Field(default=0.1, gt=0)
    availability: float | None = Field(default=None, gt=0, le=1)
    p95: float | None = Field(default=None, gt=0)
    seed: int = 0


def load(
    server: Server,
    config: LoadConfig,
    progress: Progress,
    model: str | None = None,
    trace: Sequence[Arrival] | None = None,
) -> Report:
    """Puts load on a server, and measures.

    Args:
        server: which.
        config: how much.
        progress: is told of every answer.
        model: the name of a model; None takes the first that the server lists.
        trace: requests by time, in place of those that `config` would draw.

    Raises:
        ResourceError: it answers no plain streamed request.

    Example:
        load(Server.at("http://127.0.0.1:8000"), LoadConfig(rate=4), Progress()).plain()["ttft"]["p99"]
    """
    return asyncio.run(loading(server, config, progress, model, trace))


async def loading(
    server: Server,
    config: LoadConfig,
    progress: Progress,
    model: str | None = None,
    trace: Sequence[Arrival] | None = None,
    over: asyncio.Event | None = None,
) -> Report:
    """Does the same among other things that go on; once `over` is set, nothing arrives any more."""
    return await _Load(server, config, progress, over or asyncio.Event()).run(model, trace)


def expected(config: LoadConfig) -> list[Arrival]:
    """Returns the requests of an open loop."""
    if config.bursts is None:
        times = arrivals(config.rate, config.seconds, config.seed)
    else:
        usual, bursts = config.rate, config.bursts
        most = usual * bursts.times
        times = varying(lambda at: usual * bursts.at(at), most, config.seconds, config.seed)
    return [Arrival(at, *tokens) for at, tokens in zip(times, _lengths(config, "load"), strict=False)]


def _lengths(config: LoadConfig, label: str) -> Iterator[tuple[int, int]]:
    return lengths(config.prompt_tokens, config.output_tokens, config.spread, f"{config.seed} {label}")


class _Load:
    def __init__(self, server: Server, config: LoadConfig, progress: Progress, over: asyncio.Event) -> None:
        self.server = server
        self.config = config
        self.progress = progress
        self.over = over
        self.path = CHAT
        self.extra: dict[str, Any] = {}
        self.words_per_token = 1.0
        self.words_more = 0.0

    async def run(self, model: str | None, trace: Sequence[Arrival] | None) -> Report:
        name = model or await first_model(self.server)
        await self._prepare(name)
        for body in islice(self._bodies(name, "warm-up"), self.config.warm_up):
            await self._one(body, time.monotonic())
        if trace is None and self.config.clients is not None:
            began = time.monotonic()
            samples = await self._closed(name, began, self.config.clients)
        else:
            asked = expected(self.config) if trace is None else trace
            bodies = [self._body(name, *one[1:], f"load {number}") for number, one in enumerate(asked)]
            began = time.monotonic()
            samples = await self._open([one.at for one in asked], bodies, began)
        for sample in samples:
            sample.shift(began)
        return Report(name, self.path, sorted(self.extra), self.config.plain(), samples)

    async def _prepare(self, model: str) -> None:
        """Finds out what the server understands, and how many tokens a word of ours has."""
        variants: list[dict[str, Any]] = [
            {"ignore_eos": True, "stream_options": {"include_usage": True}},
            {"stream_options": {"include_usage": True}},
            {},
        ]
        tried = []
        for path in (CHAT, COMPLETION):
            for extra in variants:
                self.path, self.extra = path, extra
                found = await self._one(self._words(model, LENGTHS_PROBED[0], 2, "probe"), time.monotonic())
                if not found.error and found.status == 200:
                    return await self._calibrate(model, found.prompt_tokens)
                tried.append(f"{path}: {found.error or found.status}")
        where = f"{self.server.host}:{self.server.port}"
        fix = "name a model by --model, a key by --key"
        raise ResourceError(
            f"no plain request is answered ({'; '.join(dict.fromkeys(tried))})", where=where, fix=fix
        )

    async def _calibrate(self, model: str, first: int | None) -> None:
        second = await self._one(self._words(model, LENGTHS_PROBED[1], 2, "probe"), time.monotonic())
        if first is None or second.prompt_tokens is None or second.prompt_tokens <= first:
            return  # a server that counts no tokens: words are taken for tokens, and the report says so
        self.words_per_token = (LENGTHS_PROBED[1] - LENGTHS_PROBED[0]) / (second.prompt_tokens - first)
        self.words_more = LENGTHS_PROBED[0] - self.words_per_token * first

    def _bodies(self, model: str, label: str) -> Iterator[bytes]:
        """Yields requests of the asked lengths without end, each with a prompt of its own."""
        for number, tokens in zip(count(), _lengths(self.config, label), strict=False):
            yield self._body(model, *tokens, f"{label} {number}")

    def _body(self, model: str, prompt_tokens: int, tokens: int, label: str) -> bytes:
        words = self.words_more + self.words_per_token * prompt_tokens
        return self._words(model, max(1, round(words)), tokens, f"{self.config.seed} {label}")

    def _words(self, model: str, words: int, tokens: int, label: str) -> bytes:
        chance = random.Random(label)
        text = " ".join(chance.choices(TEXT.split(), k=words))
        asked = (
            {"prompt": text} if self.path == COMPLETION else {"messages": [{"role": "user", "content": text}]}
        )
        plain = {"model": model, **asked, "max_tokens": tokens, "temperature": 0, "stream": True}
        return self.server.request(self.path, json.dumps(plain | self.extra).encode())

    async def _open(self, times: Sequence[float], bodies: Sequence[bytes], began: float) -> list[Sample]:
        limit = None if self.config.cap is None else asyncio.Semaphore(self.config.cap)
        with self.progress.task("load", len(times), "requests") as task:

            async def arrival(at: float, body: bytes) -> Sample:
                async with limit or contextlib.nullcontext():
                    sample = await self._one(body, at)
                task.advance(1)
                return sample

            under_way = []
            for at, body in zip(times, bodies, strict=True):
                await asyncio.sleep(max(0.0, began + at - time.monotonic()))
                if self.over.is_set():
                    break
                under_way.append(asyncio.create_task(arrival(began + at, body)))
            return list(await asyncio.gather(*under_way))

    async def _closed(self, model: str, began: float, clients: int) -> list[Sample]:
        bodies = self._bodies(model, "load")
        samples: list[Sample] = []
        with self.progress.task("load", self.config.seconds, "seconds") as task:

            async def client() -> None:
                while (now := time.monotonic()) < began + self.config.seconds and not self.over.is_set():
                    samples.append(sample := await self._one(next(bodies), now))
                    task.at(min(self.config.seconds, time.monotonic() - began))
                    if sample.status != 200:
                        await asyncio.sleep(0.1)  # a server that refuses is not asked ten thousand times

            await asyncio.gather(*(client() for _ in range(clients)))
        return samples

    async def _one(self, raw: bytes, scheduled: float) -> Sample:
        """Sends a request and times its answer; what goes wrong stands in the sample."""
        sample = Sample(scheduled, time.monotonic())
        try:
            async with asyncio.timeout(self.config.deadline), self.server.connection() as (reader, writer):
                await send(writer, raw)
                head = await read_head(reader)
                sample.status = head.status
                if head.status != 200:
                    async for _ in pieces(reader, head):
                        pass
                else:
                    async for data in events(reader, head):
                        sample.event(data, time.monotonic())
                    if not sample.done:
                        sample.error = "unfinished"
        except TimeoutError:
            sample.error = "timeout"
        except BrokenAnswer:
            sample.error = "broken"
        except OSError:
            sample.error = "no connection"
        sample.last = time.monotonic()
        return sample
