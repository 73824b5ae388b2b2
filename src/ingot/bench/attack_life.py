"""The end of a server's process while it is at work: it is killed, or asked to end, and started again."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import subprocess
import time
from collections.abc import AsyncIterator
from typing import Any

from ingot.bench.attack_cases import encoded
from ingot.bench.attack_pressure import Told, bounded
from ingot.bench.wire import BrokenAnswer, Server, events, read_head, send
from ingot.errors import ResourceError

CLIENTS = 16
"""Streams that are under way when the process ends."""

LOOK = 0.1
"""Seconds between two looks at whether a server answers."""


class Program:
    """A server as a command that is started here, ended here, and started again.

    Args:
        command: as in a shell, without its operators.
        server: where it then answers.
        deadline: seconds within which it must.

    Example:
        Program("ingot serve runs/demo --port 8000", Server.at("http://127.0.0.1:8000"), 60)
    """

    def __init__(self, command: str, server: Server, deadline: float) -> None:
        self.command = command
        self.server = server
        self.deadline = deadline
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> float:
        """Starts it, and returns the seconds until it answered.

        Raises:
            ResourceError: there is no such program, it ended, or did not answer in time.
        """
        began, fix = time.monotonic(), "run it by itself to see what it says"
        try:
            self._process = subprocess.Popen(
                shlex.split(self.command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        except (OSError, ValueError) as error:
            raise ResourceError(f"cannot be started ({error})", where=self.command) from None
        while time.monotonic() < began + self.deadline:
            with contextlib.suppress(OSError, BrokenAnswer):
                if (await self.server.get("/v1/models")).status < 500:
                    return time.monotonic() - began
            if self._process.poll() is not None:
                what = f"ended at once with {self._process.returncode}"
                raise ResourceError(what, where=self.command, fix=fix)
            await asyncio.sleep(LOOK)
        self.kill()
        raise ResourceError(f"no answer within {self.deadline:g} s", where=self.command, fix=fix)

    def kill(self) -> None:
        """Ends it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def terminate(self) -> int | None:
        """Asks it to end; returns the exit status, or None where it did not end in time, and was killed."""
        assert self._process is not None
        self._process.terminate()
        try:
            return await asyncio.to_thread(self._process.wait, self.deadline)
        except subprocess.TimeoutExpired:
            self.kill()
            return None


@contextlib.asynccontextmanager
async def streams(
    server: Server, path: str, asked: dict[str, Any], deadline: float, told: Told, whole: bool
) -> AsyncIterator[None]:
    """Keeps streams under way while the block runs, and waits for their ends.

    Args:
        server: who is asked.
        path: where the requests go.
        asked: a good request, which is made long and streamed.
        deadline: seconds within which a stream must end, one way or the other.
        told: is told of every end.
        whole: whether a stream that breaks off is a fault.
    """
    raw = server.request(path, encoded({**asked, "max_tokens": 64, "stream": True}))
    begun = asyncio.Semaphore(0)

    async def stream() -> None:
        head, done = None, False
        try:
            async with server.connection() as (reader, writer):
                await send(writer, raw)
                head = await read_head(reader)
                begun.release()
                async for data in events(reader, head):
                    done = data == "[DONE]"
        except (OSError, BrokenAnswer):
            pass  # the server has ended, and `done` says whether in the middle
        finally:
            begun.release()
        if head is not None and (done or head.status != 200):
            told("answered", head, "a stream while the server ended")
        else:
            told("dropped" if whole else "cut", None, "a stream broke off when the server was asked to end")

    ends = [
        asyncio.create_task(bounded(stream(), deadline, told, "a stream while the server ended"))
        for _ in range(CLIENTS)
    ]
    await begun.acquire()  # one answer has begun; the others wait or have begun too
    try:
        yield
    finally:
        await asyncio.gather(*ends)


async def killed(program: Program, path: str, asked: dict[str, Any], times: int, told: Told) -> None:
    """Kills the process under load, and starts it again, which must go as well as the first time."""
    for _ in range(times):
        async with streams(program.server, path, asked, program.deadline, told, whole=False):
            program.kill()
        told("left", None, f"it answers again {await program.start():.1f} s after it was started")


async def drained(program: Program, path: str, asked: dict[str, Any], told: Told) -> None:
    """Asks the process to end under load: what is under way is finished, and the exit status is 0."""
    async with streams(program.server, path, asked, program.deadline, told, whole=True):
        status = await program.terminate()
    if status is None:
        told("hung", None, f"SIGTERM: still there after {program.deadline:g} s")
    elif status != 0:
        told("dropped", None, f"SIGTERM: the exit status is {status}")
    await program.start()
