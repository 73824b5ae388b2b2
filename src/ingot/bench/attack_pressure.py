"""Clients that behave badly in time: they leave, they dribble, they all come at once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ingot.bench.attack_cases import encoded
from ingot.bench.wire import BrokenAnswer, Head, Server, events, read_head, send

PAUSE = 0.5
"""Seconds between the bytes of a slow client."""

Told = Callable[[str, Head | None, str], None]
"""Is told of every outcome: `answered`, `hung`, `dropped`, `left` or `cut`; the answer; and words."""


async def disconnects(
    server: Server, path: str, asked: dict[str, Any], count: int, seed: int, deadline: float, told: Told
) -> None:
    """Leaves in the middle, again and again, at every stage of an exchange.

    Args:
        server: who is left.
        path: where the requests go.
        asked: a good request, which is made long and streamed.
        count: how many clients leave.
        seed: of who leaves when.
        deadline: seconds within which an answer must begin.
        told: is told of every client.
    """
    chance = random.Random(f"{seed} disconnects")
    streamed = server.request(path, encoded({**asked, "max_tokens": 64, "stream": True}))
    whole = server.request(path, encoded({**asked, "max_tokens": 64}))

    async def leave(kind: int, share: float) -> None:
        async with server.connection() as (reader, writer):
            if kind == 0:
                return told("left", None, "")
            if kind == 1:
                await send(writer, streamed[: int(share * len(streamed))])
                return told("left", None, "")
            await send(writer, whole if kind == 2 else streamed)
            if kind == 2:
                await asyncio.sleep(share * 0.05)
                return told("left", None, "")
            head = await read_head(reader)
            if kind == 4:
                async for _ in events(reader, head):
                    break
            told("answered", head, "a stream that is left")

    async def client(kind: int, share: float) -> None:
        await bounded(leave(kind, share), deadline, told, "a stream that is left")

    plan = ((chance.choice((0, 1, 2, 3, 3, 4, 4)), chance.random()) for _ in range(count))
    await crowd((client(*one) for one in plan), 16)


async def burst(server: Server, raw: bytes, count: int, deadline: float, told: Told) -> None:
    """Sends many good requests at once; overload may be refused by 429, or 503 with Retry-After."""

    async def client() -> None:
        async def exchange() -> None:
            told("answered", await server.ask(raw), "one of many at once")

        await bounded(exchange(), deadline, told, "one of many at once")

    await asyncio.gather(*(client() for _ in range(count)))


async def slow(
    server: Server, path: str, asked: dict[str, Any], count: int, seconds: float, deadline: float, told: Told
) -> None:
    """Holds connections by dribbling heads and bodies, or by not reading, while others must be served.

    Args:
        server: who is kept waiting.
        path: where the requests go.
        asked: a good request.
        count: how many connections are held.
        seconds: how long.
        deadline: seconds within which good requests must be answered meanwhile.
        told: is told of every good request, and of every slow connection: `cut` or `left`.
    """
    end = time.monotonic() + seconds
    good = server.request(path, encoded(asked))
    split = good.index(b"\r\n\r\n") + 4
    unread = server.request(path, encoded({**asked, "max_tokens": 64, "stream": True}))

    async def dribble(kind: int) -> None:
        try:
            async with server.connection() as (reader, writer):
                sent = (0, split, len(unread))[kind]
                await send(writer, unread if kind == 2 else good[:sent])
                while time.monotonic() < end:
                    if kind < 2:
                        if reader.at_eof() or writer.is_closing():
                            return told("cut", None, "")
                        # The last byte never comes: a dribbled request is never whole.
                        await send(writer, good[sent : sent + 1] if sent < len(good) - 1 else b"")
                        sent += 1
                    await asyncio.sleep(PAUSE)
                what = ("a head that dribbles", "a body that dribbles", "")[kind]
                told("left", None, what and f"{what} is still open after {seconds:g} s")
        except OSError:
            told("cut", None, "")

    async def meanwhile() -> None:
        await asyncio.sleep(min(1.0, seconds / 4))
        while time.monotonic() < end:
            words = "a good request beside slow ones"

            async def exchange(words: str = words) -> None:
                told("answered", await server.ask(good), words)

            await bounded(exchange(), deadline, told, words)
            await asyncio.sleep(PAUSE / 2)

    await asyncio.gather(meanwhile(), *(dribble(number % 3) for number in range(count)))


async def bounded(work: Awaitable[None], deadline: float, told: Told, words: str) -> None:
    """Does work to a deadline, and tells what became of it where it did not tell so itself."""
    try:
        async with asyncio.timeout(deadline):
            await work
    except TimeoutError:
        told("hung", None, f"{words}: no answer within {deadline:g} s")
    except BrokenAnswer as error:
        told("dropped", None, f"{words}: {error}")
    except OSError as error:
        told("dropped", None, f"{words}: no connection ({error})")


async def crowd(work: Any, size: int) -> None:
    """Awaits what an iterator yields, `size` at a time, without asking for more than that in advance.

    Args:
        work: yields coroutines.
        size: how many are under way at once.
    """
    rest = iter(work)

    async def worker() -> None:
        for one in rest:
            await one

    await asyncio.gather(*(worker() for _ in range(size)))


def memory(pid: int) -> float | None:
    """Returns what a process holds of the machine's memory, in MiB; None where that cannot be read."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return None
