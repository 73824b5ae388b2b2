"""`/v1/rerank`: documents in the order in which they answer a query, in the shape of Jina and Cohere."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from ingot.errors import RequestError
from ingot.inference.embedding import Embedder
from ingot.serve.asks import IGNORED, Count, Text
from ingot.serve.embeddings import embedder_of
from ingot.serve.limits import Limits
from ingot.serve.models import Models
from ingot.serve.protocol import ApiError, Shape, invalid
from ingot.serve.sending import read, takes

DOCUMENTS = 1024
"""Documents of one request at most."""

AT_ONCE = 32
"""Documents after which others get their turn at the model."""


class Document(Shape):
    """A document as an object."""

    text: Text


class RerankAsk(Shape):
    """`POST /v1/rerank`.

    Args:
        top_n: return only so many, the best ones.
        return_documents: repeat each document beside its score.
        truncate_prompt_tokens: -1 cuts documents that are too long; without it they are refused.
    """

    ignored: ClassVar[frozenset[str]] = IGNORED
    neutral: ClassVar[dict[str, Sequence[Any]]] = {"rank_fields": ([], ["text"])}

    model: str | None = None
    query: Text
    documents: list[str | Document] = Field(min_length=1, max_length=DOCUMENTS, fail_fast=True)
    top_n: Count | None = None
    return_documents: bool = True
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=-1)] | None = None
    user: Text | None = None


def rerank_routes(models: Models, limits: Limits) -> APIRouter:
    """Returns the route that sorts documents."""
    router = APIRouter()

    @router.post("/v1/rerank", openapi_extra=takes(RerankAsk))
    @router.post("/rerank", include_in_schema=False)
    @router.post("/v2/rerank", include_in_schema=False)
    async def rerank(request: Request) -> Response:
        ask = await read(request, limits, RerankAsk)
        served = models.find(ask.model, request, ask.user)
        embedder = embedder_of(served, "ranking")
        texts = [one if isinstance(one, str) else one.text for one in ask.documents]
        cut = ask.truncate_prompt_tokens is not None
        tokens = await asyncio.to_thread(_count, embedder, [ask.query, *texts])
        scores: list[float] = []
        try:
            for start in range(0, len(texts), AT_ONCE):
                pairs = [(ask.query, text) for text in texts[start : start + AT_ONCE]]
                scores += await served.call(_score, embedder, pairs, cut, tokens=0 if start else tokens)
                if await request.is_disconnected():
                    raise ApiError(400, "the client went away", code="disconnected")
        except RequestError as error:
            raise invalid(str(error), "documents") from None
        order = sorted(range(len(texts)), key=lambda index: -scores[index])[: ask.top_n]
        results: list[dict[str, Any]] = [
            {"index": index, "relevance_score": scores[index]}
            | ({"document": {"text": texts[index]}} if ask.return_documents else {})
            for index in order
        ]
        counted = {"prompt_tokens": tokens, "total_tokens": tokens}
        name = f"rerank-{uuid.uuid4().hex}"
        return JSONResponse({"id": name, "model": served.name, "usage": counted, "results": results})

    return router


def _score(embedder: Embedder, pairs: list[tuple[str, str]], cut: bool) -> list[float]:
    scores: list[float] = embedder.score(pairs, cut=cut).tolist()
    return scores


def _count(embedder: Embedder, texts: Sequence[str]) -> int:
    return sum(len(embedder.tokenizer.encode(text)) for text in texts)
