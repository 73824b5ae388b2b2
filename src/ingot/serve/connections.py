"""Connections: deadlines for clients that send or read too slowly, and how many there may be at once.

uvicorn closes connections that are idle between requests, but waits without end for a request that
arrives a byte at a time ("slow loris"), and for a client that does not read its answer.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ingot.serve.limits import Limits
from ingot.serve.protocol import ApiError

GRACE_SECONDS = 2.0
"""Beyond the body's own deadline, after which the application answers by itself."""


class Connection(H11Protocol):
    """One client's connection.

    Attributes:
        limits: how slow and how many connections may be; set on a subclass by `connection_class`.
    """

    limits: Limits

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._receiving: asyncio.TimerHandle | None = None  # runs while a request is not here as a whole
        self._in_body = False
        self._sending: asyncio.TimerHandle | None = None  # runs while the client does not read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes the connection, or refuses it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(ApiError(503, "too many connections", code="overloaded"))
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets it."""
        self._receiving = _stop(self._receiving)
        self._sending = _stop(self._sending)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes what arrived."""
        if not self.transport.is_closing():
            super().data_received(data)
            self._watch()

    def on_response_complete(self) -> None:
        """Turns to the next request, a part of which may be here already."""
        super().on_response_complete()
        if self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]:
            self._watch()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to: from now on it has a deadline."""
        super().pause_writing()
        self._sending = self._sending or self.loop.call_later(self.limits.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read on."""
        super().resume_writing()
        self._sending = _stop(self._sending)

    def _watch(self) -> None:
        """Starts the clock when a request begins, gives its body a time of its own, stops it at its end."""
        state = self.conn.their_state
        if self.transport.is_closing() or state not in (h11.IDLE, h11.SEND_BODY):
            self._receiving = _stop(self._receiving)
            return
        if self._receiving is not None and self._in_body == (state is h11.SEND_BODY):
            return
        self._receiving = _stop(self._receiving)
        self._in_body = state is h11.SEND_BODY
        if self._in_body:
            seconds = self.limits.receive_seconds + GRACE_SECONDS
        else:
            seconds = self.limits.head_seconds
        self._receiving = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        self._receiving = None
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
        elif not self.conn.trailing_data[0]:
            self.transport.close()  # nothing has been asked that could be answered
        else:
            what = f"the request took longer than {self.limits.head_seconds:g} s"
            self._refuse(ApiError(408, what, code="timeout"))

    def _refuse(self, error: ApiError) -> None:
        """Answers without the application, and closes."""
        body = json.dumps(error.body).encode()
        phrase = {408: "Request Timeout", 503: "Service Unavailable"}[error.status]
        head = (
            f"HTTP/1.1 {error.status} {phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def connection_class(limits: Limits) -> type[Connection]:
    """Returns the class of connections with these limits, as uvicorn wants it."""
    return type("LimitedConnection", (Connection,), {"limits": limits})


def _stop(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Stops a clock; returns what takes its place."""
    if timer is not None:
        timer.cancel()
    return None
