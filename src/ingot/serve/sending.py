"""Requests in and answers out: bodies read and judged, jobs that end when their client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ingot.config import Config
from ingot.serve.limits import Limits, read_body
from ingot.serve.models import Served
from ingot.serve.protocol import ApiError, Shape, parse_json
from ingot.serve.worker import Job

QUICK = 2**16
"""Bytes that may be read in the event loop; longer bodies would hold up everybody else's answers."""

T = TypeVar("T", bound=Shape)


async def read(request: Request, limits: Limits, shape: type[T]) -> T:
    """Returns a request's body as what it must be.

    Raises:
        ApiError: it is no such thing; the message names the field.
    """
    body = await read_body(request, limits)

    def parse() -> T:
        return shape.read(parse_json(body))

    return parse() if len(body) <= QUICK else await asyncio.to_thread(parse)


def takes(shape: type[Shape], usage: type[Config] | None = None) -> dict[str, Any]:
    """Returns what the OpenAPI document says of a route.

    Args:
        shape: of the body.
        usage: how its answers count tokens, for routes whose answers can be streamed.
    """
    schema = shape.model_json_schema(ref_template="#/components/schemas/{model}")
    inner = schema.pop("$defs", {})
    schema = _inlined(schema, inner)
    _lenient(schema)
    for name in ("messages", "input"):  # whose fields may be null too, as clients send answers back
        _lenient(schema["properties"].get(name, {}).get("items", {}))
    for name in shape.ignored:
        schema["properties"].setdefault(name, {"description": "Accepted; it changes nothing."})
    for name, values in shape.neutral.items():
        schema["properties"].setdefault(name, {"enum": [*values, None]})
    said: dict[str, Any] = {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}
    }
    if usage is not None:
        counted = usage.model_json_schema(ref_template="#/components/schemas/{model}")
        inner = counted.pop("$defs", {})
        whole = {"type": "object", "properties": {"usage": _inlined(counted, inner)}, "required": ["usage"]}
        content = {"application/json": {"schema": whole}, "text/event-stream": {"schema": {"type": "string"}}}
        said["responses"] = {"200": {"content": content}}
    return said


def _lenient(schema: dict[str, Any]) -> None:
    """Says that null stands for a field's absence."""
    for name, field in schema.get("properties", {}).items():
        if name not in schema.get("required", ()):
            told = {key: field.pop(key) for key in ("default", "title", "description") if key in field}
            schema["properties"][name] = {"anyOf": [field, {"type": "null"}], **told}


def _inlined(value: Any, inner: dict[str, Any]) -> Any:
    """A schema with its definitions in place of the references to them; none of ours refers to itself."""
    if isinstance(value, list):
        return [_inlined(one, inner) for one in value]
    if not isinstance(value, dict):
        return value
    target = value.get("$ref")
    if isinstance(target, str):
        rest = {key: one for key, one in value.items() if key != "$ref"}
        return _inlined({**inner[target.rpartition("/")[2]], **rest}, inner)
    return {key: _inlined(one, inner) for key, one in value.items()}


async def send(
    request: Request, served: Served, job: Job, making: Coroutine[Any, Any, dict[str, Any]]
) -> Response:
    """Answers with an object once it is made; the job ends early when the client goes away."""
    made = asyncio.ensure_future(making)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({made, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not made.done():
            raise ApiError(400, "the client went away", code="disconnected")  # nobody reads this
        return JSONResponse(made.result())
    finally:
        made.cancel()
        leaving.cancel()
        served.cancel(job)


async def _disconnected(request: Request) -> None:
    """Returns when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class EventStream(StreamingResponse):
    """Server-sent events of one answer, whose job ends with the response, however that ends."""

    def __init__(self, events: AsyncIterator[bytes], served: Served, job: Job) -> None:
        super().__init__(
            events,
            media_type="text/event-stream",
            headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
        )
        self.served = served
        self.job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.served.cancel(self.job)
