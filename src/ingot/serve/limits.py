"""Limits: how much at once, how large, and how long sending it may take."""

from __future__ import annotations

import asyncio

from fastapi import Request
from pydantic import Field
from starlette.requests import ClientDisconnect

from ingot.config import Config
from ingot.serve.protocol import ApiError


class Limits(Config):
    """How much the server takes on.

    Args:
        body_bytes: of one request.
        receive_seconds: for a request's body to arrive.
        head_seconds: for a request's head to arrive, and for the first after connecting.
        send_seconds: that a client may take without reading any of its answer.
        idle_seconds: that a connection may stay open between two requests.
        connections: open at once; more are refused with 503.
        waiting: answers that may wait for a slot; beyond them requests are refused with 429.
        waiting_tokens: prompt tokens that may wait; one prompt may always.
        drain_seconds: that answers under way may take when the server was told to end.
    """

    body_bytes: int = Field(default=2**20, gt=0)
    receive_seconds: float = Field(default=30, gt=0)
    head_seconds: float = Field(default=10, gt=0)
    send_seconds: float = Field(default=60, gt=0)
    idle_seconds: int = Field(default=15, gt=0)
    connections: int = Field(default=512, gt=0)
    waiting: int = Field(default=64, ge=0)
    waiting_tokens: int = Field(default=131_072, ge=0)
    drain_seconds: float = Field(default=60, ge=0)


async def read_body(request: Request, limits: Limits) -> bytes:
    """Returns a request's body.

    Raises:
        ApiError: 415 no JSON, 413 too large, 408 too slow.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # Browsers let any web page send the other types here without asking first.
        raise ApiError(
            415, "send the body as 'content-type: application/json'", code="unsupported_media_type"
        )
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(limits.receive_seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limits.body_bytes:
                    body += chunk
                elif size > 16 * limits.body_bytes:
                    break  # up to there it is read and dropped, so that the client gets to see the answer
    except TimeoutError:
        raise ApiError(
            408, f"the body took longer than {limits.receive_seconds:g} s", code="timeout"
        ) from None
    except ClientDisconnect:
        raise ApiError(400, "the client went away", code="disconnected") from None
    if size > limits.body_bytes:
        what = f"the body has more than {limits.body_bytes:,} bytes"
        raise ApiError(413, what, code="body_too_large", headers={"connection": "close"})
    return bytes(body)
