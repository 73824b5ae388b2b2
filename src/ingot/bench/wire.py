"""HTTP/1.1 over bare sockets: what may be broken on purpose, and timed to the byte.

An ordinary client library mends or refuses the very requests that an attack is made of, and hides when
bytes arrived. Every exchange opens a connection of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from ingot.errors import ConfigError, ResourceError

LINE = 2**20
"""The longest head or chunk line of an answer that is read, in bytes."""


class BrokenAnswer(Exception):
    """What came back is no HTTP answer, or ends too early."""


class Dropped(BrokenAnswer):
    """The connection was closed before an answer began."""


@dataclass(frozen=True)
class Server:
    """Where requests go.

    Args:
        host: its name or address.
        port: its port.
        path: what stands before `/v1` in every path.
        secure: whether it speaks TLS.
        key: sent as `Authorization: Bearer KEY`; None sends none.
    """

    host: str
    port: int
    path: str = ""
    secure: bool = False
    key: str | None = field(default=None, repr=False)

    @classmethod
    def at(cls, url: str, key: str | None = None) -> Self:
        """Returns the server of a URL, with or without `/v1` at its end.

        Raises:
            ConfigError: it is no http or https URL.

        Example:
            >>> Server.at("http://127.0.0.1:8000/v1").port
            8000
        """
        fix = "write it as http://127.0.0.1:8000"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ConfigError(f"'{url}' is no URL", where="URL", fix=fix) from None
        if parts.scheme not in ("http", "https") or not host:
            raise ConfigError(f"'{url}' is no http or https URL", where="URL", fix=fix)
        if key is not None and not (key.isascii() and key.isprintable()):
            raise ConfigError("the key has characters that no header can hold", where="key")
        secure = parts.scheme == "https"
        path = parts.path.rstrip("/").removesuffix("/v1")
        return cls(host, port or (443 if secure else 80), path, secure, key)

    def headers(self) -> dict[str, str]:
        """Returns the headers that every plain request carries."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        headers = {"Host": f"{name}:{self.port}", "Accept": "*/*"}
        return headers if self.key is None else {**headers, "Authorization": f"Bearer {self.key}"}

    def request(
        self,
        path: str,
        body: bytes | None = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Returns a request as bytes.

        Args:
            path: such as `/v1/models`.
            body: a body of JSON, or None.
            method: POST where there is a body, else GET.
            headers: further ones, or others in place of the usual ones.
        """
        said = {**self.headers(), "Connection": "close"}
        if body is not None:
            said |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        said |= headers or {}
        method = method or ("GET" if body is None else "POST")
        lines = [
            f"{method} {self.path}{path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in said.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Opens a connection, and closes it at once when the block ends, whatever is still under way."""
        secure = ssl.create_default_context() if self.secure else None
        reader, writer = await asyncio.open_connection(self.host, self.port, ssl=secure, limit=LINE)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def ask(self, raw: bytes) -> Answer:
        """Sends bytes and returns the answer to them.

        Raises:
            Dropped: the connection was closed in silence.
            BrokenAnswer: what came is no whole HTTP answer.
            OSError: there was no connection.
        """
        async with self.connection() as (reader, writer):
            sending = asyncio.create_task(send(writer, raw))  # a refusal may come before all is sent
            try:
                head = await read_head(reader)
                body = b"".join([piece async for piece in pieces(reader, head)])
            finally:
                sending.cancel()
            return Answer(head.status, head.headers, body)

    async def get(self, path: str) -> Answer:
        """Asks for a path."""
        return await self.ask(self.request(path))

    async def post(self, path: str, values: Any) -> Answer:
        """Sends plain data as JSON."""
        return await self.ask(self.request(path, json.dumps(values).encode()))


@dataclass(frozen=True)
class Head:
    """The beginning of an answer.

    Args:
        status: its number.
        headers: by name in lower case.
    """

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Answer(Head):
    """A whole answer.

    Args:
        body: its bytes.
    """

    body: bytes = b""

    def json(self) -> Any:
        """Returns what the body says.

        Raises:
            ValueError: it is no JSON; `NaN` and `Infinity` are none.
        """
        return json.loads(self.body, parse_constant=_no_number)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


async def send(writer: asyncio.StreamWriter, raw: bytes) -> None:
    """Sends bytes; a server that stops listening halfway may still have answered."""
    with contextlib.suppress(ConnectionError):
        writer.write(raw)
        await writer.drain()


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Reads the beginning of an answer; `100 Continue` and its like are passed over.

    Raises:
        Dropped: the connection was closed in silence.
        BrokenAnswer: what came is no HTTP answer.
    """
    while True:
        try:
            raw = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise BrokenAnswer(f"no whole head: {error.partial[:80]!r}") from None
            raise Dropped("closed without an answer") from None
        except asyncio.LimitOverrunError:
            raise BrokenAnswer(f"a head of more than {LINE:,} bytes") from None
        except ConnectionError:
            raise Dropped("reset without an answer") from None
        first, *lines = raw[:-4].decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdecimal():
            raise BrokenAnswer(f"no status line: {first[:80]!r}")
        status = int(words[1])
        if status >= 200 or status == 101:
            pairs = (line.partition(":") for line in lines)
            return Head(status, {name.strip().lower(): value.strip() for name, _, value in pairs})


async def pieces(reader: asyncio.StreamReader, head: Head) -> AsyncIterator[bytes]:
    """Yields an answer's body as it comes.

    Raises:
        BrokenAnswer: it ends before its own end.
    """
    try:
        if head.status in (101, 204, 304):
            return
        if "chunked" in head.headers.get("transfer-encoding", "").lower():
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                yield (await reader.readexactly(size + 2))[:-2]
            await reader.readuntil(b"\r\n")
        elif (length := head.headers.get("content-length")) is not None:
            yield await reader.readexactly(int(length))
        else:
            while piece := await reader.read(2**16):
                yield piece
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError) as error:
        raise BrokenAnswer(f"the answer's body breaks off ({type(error).__name__})") from None


async def events(reader: asyncio.StreamReader, head: Head) -> AsyncIterator[str]:
    """Yields the data of server-sent events, the last `[DONE]` included."""
    rest = b""
    async for piece in pieces(reader, head):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip().decode("utf-8", "replace")


async def first_model(server: Server) -> str:
    """Returns the name of the first model that a server lists.

    Raises:
        ResourceError: there is no such server, or it lists none.
    """
    where = f"{server.host}:{server.port}"
    try:
        answer = await asyncio.wait_for(server.get("/v1/models"), 30)
        name = answer.json()["data"][0]["id"]
    except OSError as error:  # a deadline's TimeoutError is one too
        what = f"no server answers ({error or type(error).__name__})"
        raise ResourceError(what, where=where, fix="start it, or correct the URL") from None
    except (BrokenAnswer, ValueError, KeyError, IndexError, TypeError):
        fix = "give --key where it wants one; else name the model by --model"
        raise ResourceError("/v1/models lists no model", where=where, fix=fix) from None
    return str(name)
