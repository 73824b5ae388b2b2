"""The routes of OpenAI's surface: check a request, hand it to the model's worker, word the answer.

```
POST /v1/chat/completions   POST /v1/embeddings   POST /tokenize
POST /v1/completions        POST /v1/rerank       POST /detokenize
POST /v1/responses          GET, DELETE /v1/responses/{id}
```
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ingot.serve import job_making
from ingot.serve.answers import Answer
from ingot.serve.asks import CompletionAsk
from ingot.serve.chats import ChatAsk
from ingot.serve.counts import Usage
from ingot.serve.embeddings import embedding_routes
from ingot.serve.limits import Limits
from ingot.serve.models import Models, Served
from ingot.serve.rerank import rerank_routes
from ingot.serve.responses import response_routes
from ingot.serve.sending import EventStream, read, send, takes
from ingot.serve.tokens import token_routes
from ingot.serve.voices import CHAT, COMPLETION, ChatVoice, PlainVoice


def routes(models: Models, limits: Limits) -> APIRouter:
    """Returns the routes over the models that are served."""
    router = APIRouter()

    @router.post("/v1/chat/completions", openapi_extra=takes(ChatAsk, Usage))
    async def chat(request: Request) -> Response:
        ask = await read(request, limits, ChatAsk)
        served = models.find(ask.model, request, ask.user)
        prompt = await asyncio.to_thread(job_making.conversation, served, ask)
        job = job_making.job(served, ask, [prompt], "messages", ask.n)
        tokenizer = served.tokenizer if ask.logprobs else None
        answer = Answer(
            job=job,
            form=CHAT,
            voices=[ChatVoice(tokenizer, job_making.reader(ask)) for _ in job.prompts],
            model=served.name,
            prompt_tokens=len(prompt),
            best=(ask.n, ask.n),
        )
        return await _answer(request, served, ask, answer)

    @router.post("/v1/completions", openapi_extra=takes(CompletionAsk, Usage))
    async def complete(request: Request) -> Response:
        ask = await read(request, limits, CompletionAsk)
        served = models.find(ask.model, request, ask.user)
        prompts = await asyncio.to_thread(job_making.texts, served, ask)
        job = job_making.job(served, ask, prompts, "prompt", ask.made)
        answer = Answer(
            job=job,
            form=COMPLETION,
            voices=[
                _voice(served, ask, said, tokens)
                for said, tokens in zip(ask.prompts, prompts, strict=True)
                for _ in range(ask.made)
            ],
            model=served.name,
            prompt_tokens=sum(map(len, prompts)),
            best=(ask.made, ask.n),
            silent=ask.budget == 0,
        )
        return await _answer(request, served, ask, answer)

    router.include_router(response_routes(models, limits))
    router.include_router(embedding_routes(models, limits))
    router.include_router(rerank_routes(models, limits))
    router.include_router(token_routes(models, limits))
    return router


async def _answer(request: Request, served: Served, ask: ChatAsk | CompletionAsk, answer: Answer) -> Response:
    """Starts the job and answers with its stream or its end."""
    served.submit(answer.job)
    if ask.stream:
        return EventStream(answer.chunks(ask.stream_options), served, answer.job)
    return await send(request, served, answer.job, answer.whole())


def _voice(served: Served, ask: CompletionAsk, said: str | list[int], tokens: list[int]) -> PlainVoice:
    """What words one answer to a prompt, sent back before it where that is asked for."""
    tokenizer = None if ask.logprobs is None else served.tokenizer
    echo = ""
    if ask.echo:
        echo = said if isinstance(said, str) else served.tokenizer.decode(said, skip_special=True)
    return PlainVoice(tokenizer, echo, tokens if ask.reads_prompt else (), silent=ask.budget == 0)
