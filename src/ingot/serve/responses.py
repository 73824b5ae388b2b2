"""`/v1/responses`: chats whose history the server can keep."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from ingot.inference.choosing.sampling import Sampling
from ingot.serve import job_making
from ingot.serve.counts import ResponseUsage
from ingot.serve.kept import Shelf
from ingot.serve.limits import Limits
from ingot.serve.models import Models
from ingot.serve.protocol import ApiError
from ingot.serve.response_asks import ResponseAsk
from ingot.serve.sending import EventStream, read, send, takes
from ingot.serve.speech import Speech
from ingot.serve.worker import Job

Fields = dict[str, Any]


def response_routes(models: Models, limits: Limits, shelf: Shelf | None = None) -> APIRouter:
    """Returns the routes of responses.

    Args:
        models: that answer.
        limits: of bodies.
        shelf: where responses are kept.
    """
    router = APIRouter()
    kept = shelf or Shelf()

    @router.post("/v1/responses", openapi_extra=takes(ResponseAsk, ResponseUsage))
    async def respond(request: Request) -> Response:
        ask = await read(request, limits, ResponseAsk)
        owner = _owner(request)
        before: list[Fields] = []
        if ask.previous_response_id is not None:
            before = kept.find(ask.previous_response_id, owner, "previous_response_id").messages
        chat = ask.chat(before)
        served = models.find(ask.model, request, ask.user)
        prompt = await asyncio.to_thread(job_making.conversation, served, chat)
        job = job_making.job(served, chat, [prompt], "input", 1)
        tokenizer = served.tokenizer if ask.logprobs else None
        speech = Speech(_object(ask, served.name), tokenizer, job_making.reader(chat), len(prompt))

        def keep() -> None:
            if ask.store:
                kept.keep(speech.response, before + ask.said() + _answered(speech.output), owner)

        served.submit(job)
        if ask.stream:
            return EventStream(_events(job, speech, keep), served, job)
        return await send(request, served, job, _whole(job, speech, keep))

    @router.get("/v1/responses/{name}")
    async def kept_response(name: str, request: Request) -> Response:
        return JSONResponse(kept.find(name, _owner(request)).response)

    @router.delete("/v1/responses/{name}")
    async def drop(name: str, request: Request) -> Response:
        kept.drop(name, _owner(request))
        return JSONResponse({"id": name, "object": "response", "deleted": True})

    return router


async def _whole(job: Job, speech: Speech, keep: Callable[[], None]) -> Fields:
    async for piece in job_making.pieces(job):
        speech.add(piece)
    keep()
    return speech.response


async def _events(job: Job, speech: Speech, keep: Callable[[], None]) -> AsyncIterator[bytes]:
    for first in speech.open():
        yield first
    try:
        async for piece in job_making.pieces(job):
            events = speech.add(piece)
            if piece.finish_reason:
                keep()  # before the client can know of the end and ask for more
            for one in events:
                yield one
    except ApiError as error:  # the status is long sent
        for one in speech.fail(error):
            yield one


def _owner(request: Request) -> str:
    """Whose responses a request may see: those that came with the same key."""
    return hashlib.sha256(request.headers.get("authorization", "").encode("latin-1", "replace")).hexdigest()


def _answered(output: list[Fields]) -> list[Fields]:
    """Items as the messages of a chat, for requests that go on from them."""
    text = "".join(item["content"][0]["text"] for item in output if item["type"] == "message")
    calls = [
        {"id": item["call_id"], "function": {"name": item["name"], "arguments": item["arguments"]}}
        for item in output
        if item["type"] == "function_call"
    ]
    return [{"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}]


def _object(ask: ResponseAsk, model: str) -> Fields:
    """A response before its answer, with all fields that OpenAI's has."""
    usual = Sampling()
    said = ask.model_dump(mode="json", by_alias=True, exclude_none=True)
    asked = said["text"]["format"]
    if asked["type"] == "json_schema":
        asked = {"name": "answer", "schema": {}, "strict": True, "description": None} | asked
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": ask.instructions,
        "max_output_tokens": ask.max_output_tokens,
        "max_tool_calls": None,
        "metadata": said["metadata"],
        "model": model,
        "output": [],
        "parallel_tool_calls": ask.parallel_tool_calls,
        "previous_response_id": ask.previous_response_id,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": ask.store,
        "temperature": usual.temperature if ask.temperature is None else ask.temperature,
        "text": {"format": asked, "verbosity": "medium"},
        "tool_choice": said["tool_choice"],
        "tools": [
            {"description": None, "parameters": None, "strict": None, **tool} for tool in said["tools"]
        ],
        "top_logprobs": ask.top_logprobs,
        "top_p": usual.top_p if ask.top_p is None else ask.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": ask.user,
    }
