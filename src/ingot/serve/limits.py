"""Limits: who may ask, how much at once, and how long sending it may take."""

from __future__ import annotations

import asyncio
import hmac
import re
import uuid
from collections.abc import MutableMapping
from typing import Any

from fastapi import Request
from pydantic import Field
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingot.config import Config
from ingot.serve.listen import LOOPBACK
from ingot.serve.protocol import ApiError

PUBLIC = frozenset({"/", "/style.css", "/app.js", "/text.js", "/health"})
"""Paths that need no key: the page holds no secrets, and a health check has none."""

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Limits(Config):
    """How much the server takes on."""

    body_bytes: int = Field(default=2**20, gt=0)
    receive_seconds: float = Field(default=30, gt=0)
    waiting: int = Field(default=64, ge=0)
    """Answers that may wait for a slot; beyond them requests are refused with 429."""


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


class Guard:
    """Stands before the application: checks host and key, and adds headers to every answer.

    Args:
        app: what to guard.
        key: that clients must send as `Authorization: Bearer KEY`; None asks for none.
        local: whether the server listens on loopback only. Then the `Host` header must name loopback,
            or a web page could reach the server under a name of its own that it points here.
    """

    def __init__(self, app: ASGIApp, key: str | None, local: bool) -> None:
        self.app = app
        self.key = key
        self.local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        number = headers.get("x-request-id", "")
        if not re.fullmatch(r"[\w.-]{1,128}", number, re.ASCII):
            number = uuid.uuid4().hex

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = {**HEADERS, "x-request-id": number}
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name.encode(), value.encode()) for name, value in extra.items()),
                ]
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is None:
            await self.app(scope, receive, send_with_headers)
        else:
            answer = JSONResponse(refusal.body, refusal.status, refusal.headers)
            await answer(scope, receive, send_with_headers)

    def _refusal(self, scope: MutableMapping[str, Any], headers: dict[str, str]) -> ApiError | None:
        host = re.sub(r":\d+$", "", headers.get("host", "").lower()).strip("[]")
        if self.local and host not in LOOPBACK:
            return ApiError(403, "this server answers to its loopback address only", code="wrong_host")
        if self.key is None or scope["path"] in PUBLIC:
            return None
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        # Compared in constant time, or the time taken would tell how much of a guess is right.
        if scheme.lower() == "bearer" and hmac.compare_digest(
            sent.strip().encode("latin-1"), self.key.encode()
        ):
            return None
        return ApiError(
            401,
            "the API key is missing or wrong: send 'Authorization: Bearer KEY'",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )
