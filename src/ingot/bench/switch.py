"""A switch before servers: connections go to the one that it points at, and stay where they went."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ingot.bench.wire import Server

CHUNK = 2**16
"""Bytes that are passed on at once."""


@dataclass
class Switch:
    """Passes on bytes.

    Args:
        target: where new connections go; may be changed at any moment.
        port: where it listens, on loopback.
    """

    target: Server
    port: int = 0

    @property
    def server(self) -> Server:
        """The switch itself, to be asked as if it were the server."""
        return Server("127.0.0.1", self.port, self.target.path, key=self.target.key)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection; a server that cannot be reached looks like one that hangs up."""
        with contextlib.closing(writer), contextlib.suppress(OSError):
            async with self.target.connection() as (answers, questions):
                asking = asyncio.create_task(_pump(reader, questions))
                try:
                    await _pump(answers, writer)
                finally:
                    asking.cancel()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes on what comes until one of the two has gone."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def switched(target: Server) -> AsyncIterator[Switch]:
    """Runs a switch on a free port of loopback until the block ends."""
    switch = Switch(target)
    listening = await asyncio.start_server(switch._pass_on, "127.0.0.1", 0)
    async with listening:
        switch.port = listening.sockets[0].getsockname()[1]
        yield switch
