"""The routes of OpenAI's surface: check a request, hand it to the worker, word the answer.

```
GET  /health                  is it up, how busy     POST /v1/chat/completions
GET  /v1/models               the one model          POST /v1/completions
```
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ingot.errors import RequestError
from ingot.inference.ingot import Ingot
from ingot.serve.answers import Answer, Chat, Dialect, Plain
from ingot.serve.limits import Limits, read_body
from ingot.serve.protocol import CHOICES, ApiError, Ask, ChatAsk, CompletionAsk, parse_json
from ingot.serve.worker import Job, Worker


def routes(ingot: Ingot, worker: Worker, limits: Limits) -> APIRouter:
    """Returns the routes over one model."""
    router = APIRouter()
    name = ingot.name
    model = {
        "id": name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "ingot",
        "context": ingot.context,
        "parameters": ingot.parameters,
    }

    @router.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "model": name, "answers": worker.taken, "capacity": worker.capacity}

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @router.get("/v1/models/{wanted:path}")
    async def one_model(wanted: str) -> dict[str, Any]:
        _check_model(wanted, name)
        return model

    @router.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        ask = ChatAsk.read(parse_json(await read_body(request, limits)))
        _check_model(ask.model, name)
        messages = [message.plain() for message in ask.messages]
        prompt = await asyncio.to_thread(ingot.encode, messages)
        job = _job(ingot, ask, [prompt], "messages")
        return await _answer(request, ingot, worker, ask, job, Chat(), ask.logprobs)

    @router.post("/v1/completions")
    async def complete(request: Request) -> Response:
        ask = CompletionAsk.read(parse_json(await read_body(request, limits)))
        _check_model(ask.model, name)
        prompts = await asyncio.to_thread(_encode, ingot, ask.prompts)
        job = _job(ingot, ask, prompts, "prompt")
        return await _answer(request, ingot, worker, ask, job, Plain(), ask.logprobs is not None)

    return router


def _check_model(wanted: str | None, name: str) -> None:
    """One model is served; its version may be left out, and so may the whole name."""
    if wanted not in (None, name, name.partition("@")[0]):
        what = f"the model '{wanted[:100]}' is not served here: use '{name}'"
        raise ApiError(404, what, param="model", code="model_not_found")


def _encode(ingot: Ingot, prompts: Sequence[str | list[int]]) -> list[list[int]]:
    """Texts as tokens after BOS; token ids as they are."""
    encoded = [ingot.encode(prompt) if isinstance(prompt, str) else prompt for prompt in prompts]
    size = ingot.tokenizer.vocab_size
    if not all(0 <= token < size for prompt in encoded for token in prompt):
        raise ApiError(400, f"token ids go from 0 to {size - 1}", param="prompt", code="invalid_value")
    return encoded


def _job(ingot: Ingot, ask: Ask, prompts: list[list[int]], param: str) -> Job:
    """All answers that are asked for: `n` to each prompt.

    Raises:
        ApiError: 400, a prompt that does not fit (with both numbers), or too many answers.
    """
    count = len(prompts) * ask.n
    if not 0 < count <= CHOICES:
        what = f"{count} answers asked for at once; from 1 to {CHOICES} may be"
        raise ApiError(400, what, param="n" if ask.n > 1 else param, code="invalid_value")
    job = Job()
    for prompt in prompts:
        try:
            room = ingot.engine.room(len(prompt))
        except RequestError as error:
            code = "context_length_exceeded" if prompt else "invalid_value"
            raise ApiError(400, str(error), param=param, code=code) from None
        for _ in range(ask.n):
            job.add(prompt, ask.sampling(room, len(job.prompts)))
    return job


async def _answer(
    request: Request, ingot: Ingot, worker: Worker, ask: Ask, job: Job, dialect: Dialect, logprobs: bool
) -> Response:
    """Starts the job and answers with its stream or its end; it ends early when the client goes away."""
    worker.submit(job)
    answer = Answer(
        job=job,
        dialect=dialect,
        model=ingot.name,
        tokenizer=ingot.tokenizer if logprobs else None,
        prompt_tokens=sum(map(len, job.prompts[:: ask.n])),
    )
    if ask.stream:
        return EventStream(answer, worker, ask.stream_options.include_usage)
    making = asyncio.ensure_future(answer.whole())
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({making, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not making.done():
            raise ApiError(400, "the client went away", code="disconnected")  # nobody reads this
        return JSONResponse(making.result())
    finally:
        making.cancel()
        leaving.cancel()
        worker.cancel(job)


async def _disconnected(request: Request) -> None:
    """Returns when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class EventStream(StreamingResponse):
    """Server-sent events of one answer, whose job ends with the response, however that ends."""

    def __init__(self, answer: Answer, worker: Worker, include_usage: bool) -> None:
        super().__init__(
            answer.chunks(include_usage),
            media_type="text/event-stream",
            headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
        )
        self.answer = answer
        self.worker = worker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.worker.cancel(self.answer.job)
