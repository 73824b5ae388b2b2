"""Listening: the socket, taken before the model is loaded, and the HTTP server on it."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ingot.errors import BusyError, RequestError

if TYPE_CHECKING:
    from types import FrameType

    import uvicorn
    from starlette.types import ASGIApp

    from ingot.serve.life import Life
    from ingot.serve.limits import Limits

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Opens a listening socket.

    Args:
        host: name or address of this machine.
        port: 0 takes a free one.

    Raises:
        BusyError: somebody else listens there.
        RequestError: no such address here, or a port that may not be used.
    """
    where = f"{host}:{port}"
    if not 0 <= port < 2**16:
        raise RequestError(f"port {port} does not exist", where=where, fix="use one from 1024 to 65535")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
    except OSError as error:
        raise RequestError(f"no such host ({error.strerror})", where=where, fix="use 127.0.0.1") from None
    with opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(place)
            opened.listen(512)  # at once: until then a second process could bind the same port
        except PermissionError:
            raise RequestError("the port may not be used", where=where, fix="use one above 1023") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                fix = "end what listens there, or choose another port"
                raise BusyError("the port is in use", where=where, fix=fix) from None
            what = f"cannot listen ({error.strerror})"
            raise RequestError(what, where=where, fix="use 127.0.0.1") from None
        yield opened


def url_of(opened: socket.socket, host: str) -> str:
    """Returns the address that a browser on this machine can open."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{opened.getsockname()[1]}"


def make_server(app: ASGIApp, limits: Limits, life: Life) -> uvicorn.Server:
    """Returns the HTTP server around an application, which ends when its life is over."""
    import uvicorn

    from ingot.serve.connections import connection_class

    class Server(uvicorn.Server):
        """uvicorn's, but it goes on answering while it drains."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """The first signal begins the end; a second one ends the process at once."""
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            life.drain(limits.drain_seconds)

        async def on_tick(self, counter: int) -> bool:
            """Looks whether it is over."""
            return await super().on_tick(counter) or life.over

    config = uvicorn.Config(
        app,
        http=connection_class(limits),
        ws="none",
        log_level="warning",
        access_log=False,  # its lines hold query strings, and those can hold prompts
        server_header=False,
        lifespan="on",
        timeout_keep_alive=limits.idle_seconds,
        timeout_graceful_shutdown=1,  # what could finish has finished when this begins
    )
    return Server(config)
