"""`/tokenize` and `/detokenize`: what a text is for the model, in vLLM's shapes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field, model_validator

from ingot.serve.asks import Text
from ingot.serve.chats import Message, Tool
from ingot.serve.limits import Limits
from ingot.serve.models import Models, Served
from ingot.serve.protocol import Shape, invalid
from ingot.serve.sending import read, takes
from ingot.tokenizer.rendering import encode


class TokenizeAsk(Shape):
    """`POST /tokenize`: a text, or a conversation as the chat template puts it.

    Args:
        add_special_tokens: with the control tokens around a text that completions put there.
        add_generation_prompt: end a conversation with the beginning of the assistant's message.
        return_token_strs: each token's name too.
    """

    neutral: ClassVar[dict[str, Sequence[Any]]] = {
        "continue_final_message": (False,),
        "chat_template_kwargs": ({},),
        "add_generation_prompt": (True,),
    }

    model: str | None = None
    prompt: Text | None = None
    messages: list[Message] | None = Field(default=None, min_length=1, max_length=1024)
    tools: list[Tool] = Field(default=[], max_length=128, fail_fast=True)
    add_special_tokens: bool = True
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> TokenizeAsk:
        if (self.prompt is None) == (self.messages is None):
            raise invalid("give 'prompt', a text, or 'messages', a conversation", "prompt")
        return self


class DetokenizeAsk(Shape):
    """`POST /detokenize`."""

    model: str | None = None
    tokens: list[int] = Field(fail_fast=True)


def token_routes(models: Models, limits: Limits) -> APIRouter:
    """Returns the routes between texts and tokens."""
    router = APIRouter()

    @router.post("/tokenize", openapi_extra=takes(TokenizeAsk))
    async def tokenize(request: Request) -> Response:
        ask = await read(request, limits, TokenizeAsk)
        served = models.find(ask.model, request, None)
        tokens = await asyncio.to_thread(_tokens, served, ask)
        names = [served.tokenizer.token(token) for token in tokens] if ask.return_token_strs else None
        reader = served.ingot or served.embedder
        return JSONResponse(
            {
                "count": len(tokens),
                "max_model_len": reader.context if reader is not None else 0,
                "tokens": tokens,
                "token_strs": names,
            }
        )

    @router.post("/detokenize", openapi_extra=takes(DetokenizeAsk))
    async def detokenize(request: Request) -> Response:
        ask = await read(request, limits, DetokenizeAsk)
        served = models.find(ask.model, request, None)
        size = served.tokenizer.vocab_size
        if any(not 0 <= token < size for token in ask.tokens):
            raise invalid(f"token ids go from 0 to {size - 1}", "tokens")
        return JSONResponse({"prompt": await asyncio.to_thread(served.tokenizer.decode, ask.tokens)})

    return router


def _tokens(served: Served, ask: TokenizeAsk) -> list[int]:
    if ask.messages is not None:
        tools = [tool.model_dump(exclude_none=True) for tool in ask.tools]
        return encode(served.tokenizer, [message.plain() for message in ask.messages], tools)
    text = ask.prompt or ""
    if not ask.add_special_tokens:
        return served.tokenizer.encode(text)
    if served.ingot is not None:
        return served.ingot.encode(text)
    return served.embedder.encode(text) if served.embedder is not None else served.tokenizer.encode(text)
