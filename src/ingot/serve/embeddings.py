"""`/v1/embeddings`: vectors of texts, for models that make them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field, field_validator

from ingot.errors import RequestError
from ingot.inference.embedding import Embedder
from ingot.serve.asks import IGNORED, Prompts, Text, shaped
from ingot.serve.limits import Limits
from ingot.serve.models import Models, Served
from ingot.serve.protocol import ApiError, Shape, invalid
from ingot.serve.sending import read, takes

INPUTS = 2048
"""Texts of one request at most."""

AT_ONCE = 8192
"""Tokens after which others get their turn at the model."""


class EmbeddingAsk(Shape):
    """`POST /v1/embeddings`.

    Args:
        input: a text, texts, token ids or lists of them. Ids are those of this model's tokenizer, control
            tokens included: ids of another one cannot be told from them.
        dimensions: keep so many numbers, for models that were trained for it.
        truncate_prompt_tokens: -1 cuts texts that are too long; without it they are refused.
    """

    ignored: ClassVar[frozenset[str]] = IGNORED | {"input_type"}
    neutral: ClassVar[dict[str, Sequence[Any]]] = {"add_special_tokens": (True,), "normalize": (True,)}

    model: str | None = None
    input: Prompts
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1, lt=2**31)
    truncate_prompt_tokens: Literal[-1] | None = None
    user: Text | None = None

    @field_validator("input", mode="plain", json_schema_input_type=Prompts)
    @classmethod
    def _texts(cls, given: object) -> object:
        return shaped(given, "input")

    @property
    def texts(self) -> Sequence[str | list[int]]:
        """The texts, each as such or as token ids."""
        if isinstance(self.input, str):
            return [self.input]
        tokens = [part for part in self.input if isinstance(part, int)]
        return [tokens] if tokens else [part for part in self.input if not isinstance(part, int)]


def embedding_routes(models: Models, limits: Limits) -> APIRouter:
    """Returns the route that makes vectors."""
    router = APIRouter()

    @router.post("/v1/embeddings", openapi_extra=takes(EmbeddingAsk))
    async def embeddings(request: Request) -> Response:
        ask = await read(request, limits, EmbeddingAsk)
        served = models.find(ask.model, request, ask.user)
        embedder = embedder_of(served, "embeddings")
        if not 0 < len(ask.texts) <= INPUTS:
            raise invalid(f"{len(ask.texts)} texts; from 1 to {INPUTS} may be", "input")
        cut = ask.truncate_prompt_tokens is not None
        try:
            rows = await asyncio.to_thread(_rows, embedder, ask.texts, cut)
            vectors: list[Any] = []
            for part in _parts(rows):
                tokens = sum(map(len, part))
                made = await served.call(_embed, embedder, part, cut, ask.dimensions, tokens=tokens)
                vectors += made.tolist() if ask.encoding_format == "float" else map(_base64, made.numpy())
                if await request.is_disconnected():
                    raise ApiError(400, "the client went away", code="disconnected")
        except RequestError as error:
            param = "dimensions" if error.where == "dimensions" else "input"
            raise invalid(str(error), param) from None
        tokens = sum(map(len, rows))
        data = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ]
        counted = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": data, "model": served.name, "usage": counted})

    return router


def embedder_of(served: Served, what: str) -> Embedder:
    """Returns what makes vectors.

    Raises:
        ApiError: 400, the model does not.
    """
    if served.embedder is None:
        message = f"the model '{served.name}' gives no {what}: its kind is '{served.kind}'"
        raise invalid(message, "model", "unsupported_model")
    return served.embedder


def _rows(embedder: Embedder, texts: Sequence[str | list[int]], cut: bool) -> list[list[int]]:
    return [embedder.encode(text, cut) if isinstance(text, str) else text for text in texts]


def _embed(embedder: Embedder, rows: list[list[int]], cut: bool, dimensions: int | None) -> Any:
    return embedder.embed(rows, cut=cut, dimensions=dimensions)


def _parts(rows: list[list[int]]) -> Iterator[list[list[int]]]:
    """Rows in order, in parts of a bounded number of tokens (one longer row goes alone)."""
    part: list[list[int]] = []
    tokens = 0
    for row in rows:
        if part and tokens + len(row) > AT_ONCE:
            yield part
            part, tokens = [], 0
        part.append(row)
        tokens += len(row)
    yield part


def _base64(vector: Any) -> str:
    """Little-endian float32, as the official client reads them."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
