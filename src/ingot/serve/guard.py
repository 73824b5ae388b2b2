"""The guard before the application: host, key, quota, headers, request ids, failures, the access log."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingot.serve.keys import Keys
from ingot.serve.life import Life
from ingot.serve.listen import LOOPBACK
from ingot.serve.page_files import page_files
from ingot.serve.protocol import ApiError
from ingot.serve.visits import Visit, request_number, traced

if TYPE_CHECKING:
    from ingot.serve.metrics import Metrics

log = logging.getLogger("ingot.serve")

PROBES = frozenset({"/health", "/ready"})
"""Paths that need no key and always answer, and that the access log leaves out."""

PUBLIC = PROBES | {*page_files()}
"""Paths that need no key: the page holds no secrets."""

ALWAYS = PUBLIC | {"/metrics"}
"""Paths that answer while the server starts or ends."""

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Stands before the application, so that no route can forget what it checks.

    Args:
        app: what to guard.
        keys: who may ask, and how much.
        life: whether the server takes requests now.
        metrics: counts refusals.
        local: whether the server listens on loopback only. Then the `Host` header must name loopback,
            or a web page could reach the server under a name of its own that it points here.
    """

    def __init__(self, app: ASGIApp, keys: Keys, life: Life, metrics: Metrics, local: bool) -> None:
        self.app = app
        self.keys = keys
        self.life = life
        self.metrics = metrics
        self.local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        client = scope.get("client")
        visit = Visit(
            number=request_number(headers.get("x-request-id", "")),
            method=scope["method"],
            path=scope["path"],
            client=client[0] if client else "?",
        )
        scope.setdefault("state", {})["visit"] = visit

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.status = message["status"]
                extra = {**HEADERS, "x-request-id": visit.number}
                added = [(name.encode(), value.encode()) for name, value in extra.items()]
                message["headers"] = [*message.get("headers", ()), *added]
            elif message["type"] == "http.response.body":
                visit.sent += len(message.get("body", b""))
            await send(message)

        counts = visit.path not in ALWAYS
        self.life.busy += counts
        try:
            refusal = self._refusal(visit, headers)
            if refusal is None:
                await self.app(scope, receive, send_with_headers)
            else:
                await _answer(refusal, scope, receive, send_with_headers)
        except Exception as error:
            log.error("request %s failed: %s", visit.number, traced(error))
            if visit.status:
                raise  # the answer has begun: all that is left is to break it off
            await _answer(
                ApiError(500, "the server failed at this request"), scope, receive, send_with_headers
            )
        finally:
            self.life.busy -= counts
            if visit.path not in PROBES:
                if visit.status >= 400:
                    self.metrics.refused.labels(str(visit.status)).inc()
                visit.write()

    def _refusal(self, visit: Visit, headers: dict[str, str]) -> ApiError | None:
        host = re.sub(r":\d+$", "", headers.get("host", "").lower()).strip("[]")
        if self.local and host not in LOOPBACK:
            return ApiError(403, "this server answers to its loopback address only", code="wrong_host")
        if visit.path in PUBLIC:
            return None
        if len(self.keys):
            scheme, _, sent = headers.get("authorization", "").partition(" ")
            visit.holder = (
                self.keys.holder(sent.strip().encode("latin-1")) if scheme.lower() == "bearer" else None
            )
            if visit.holder is None:
                return ApiError(
                    401,
                    "the API key is missing or wrong: send 'Authorization: Bearer KEY'",
                    code="invalid_api_key",
                    headers={"www-authenticate": "Bearer"},
                )
            visit.keyed = True
        else:
            visit.holder = self.keys.stranger(visit.client)
        if visit.path in ALWAYS:
            return None
        if (refusal := self.life.refusal()) is not None:
            return refusal
        if visit.method == "POST":
            try:
                visit.holder.admit()
            except ApiError as error:
                return error
        return None


async def _answer(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse(error.body, error.status, error.headers)(scope, receive, send)
