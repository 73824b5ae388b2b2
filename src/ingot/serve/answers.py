"""Answers: what the engine made, as OpenAI's objects, whole or in chunks.

The two routes differ only in names: a `Dialect` writes one of them.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from ingot.serve.protocol import DONE, ApiError, event, usage
from ingot.serve.worker import Job, Piece
from ingot.tokenizer import Tokenizer


class Dialect(Protocol):
    """How one route words its answers."""

    prefix: str
    whole: str
    chunk: str

    def opening(self) -> dict[str, Any] | None:
        """What a stream says first about each answer."""
        ...

    def said(self, text: str, logprobs: dict[str, Any] | None) -> dict[str, Any]:
        """A finished answer's text."""
        ...

    def added(self, text: str, logprobs: dict[str, Any] | None) -> dict[str, Any]:
        """What a chunk adds to an answer."""
        ...

    def logprobs(self, tokenizer: Tokenizer, tokens: list[int], values: list[float]) -> dict[str, Any]:
        """The tokens of an answer with their log-probabilities."""
        ...


class Chat:
    """`/v1/chat/completions`."""

    prefix = "chatcmpl"
    whole = "chat.completion"
    chunk = "chat.completion.chunk"

    def opening(self) -> dict[str, Any] | None:
        """The role, which clients expect in the first delta."""
        return {"delta": {"role": "assistant", "content": ""}, "logprobs": None}

    def said(self, text: str, logprobs: dict[str, Any] | None) -> dict[str, Any]:
        """The assistant's message."""
        return {"message": {"role": "assistant", "content": text, "refusal": None}, "logprobs": logprobs}

    def added(self, text: str, logprobs: dict[str, Any] | None) -> dict[str, Any]:
        """More of the message's content."""
        return {"delta": {"content": text} if text else {}, "logprobs": logprobs}

    def logprobs(self, tokenizer: Tokenizer, tokens: list[int], values: list[float]) -> dict[str, Any]:
        """One entry per token."""
        entries = [
            {
                "token": tokenizer.decode([token]),
                "logprob": value,
                "bytes": list(tokenizer.token_bytes(token)),
                "top_logprobs": [],
            }
            for token, value in zip(tokens, values, strict=True)
        ]
        return {"content": entries, "refusal": None}


class Plain:
    """`/v1/completions`."""

    prefix = "cmpl"
    whole = "text_completion"
    chunk = "text_completion"

    def opening(self) -> dict[str, Any] | None:
        """Nothing: completions have no roles."""
        return None

    def said(self, text: str, logprobs: dict[str, Any] | None) -> dict[str, Any]:
        """The text."""
        return {"text": text, "logprobs": logprobs}

    def added(self, text: str, logprobs: dict[str, Any] | None) -> dict[str, Any]:
        """More of the text."""
        return {"text": text, "logprobs": logprobs}

    def logprobs(self, tokenizer: Tokenizer, tokens: list[int], values: list[float]) -> dict[str, Any]:
        """Parallel lists, as the older route has them."""
        texts = [tokenizer.decode([token]) for token in tokens]
        return {"tokens": texts, "token_logprobs": values, "top_logprobs": None, "text_offset": None}


@dataclass
class Answer:
    """One HTTP request's answer, being made.

    Args:
        job: what was handed to the worker; all its choices.
        dialect: how to word it.
        model: name to say.
        tokenizer: writes tokens beside their log-probabilities; None where nobody asked for them.
        prompt_tokens: to count, each prompt once.
    """

    job: Job
    dialect: Dialect
    model: str
    tokenizer: Tokenizer | None
    prompt_tokens: int
    made: int = 0
    created: int = field(default_factory=lambda: int(time.time()))
    id: str = ""

    def __post_init__(self) -> None:
        self.id = f"{self.dialect.prefix}-{uuid.uuid4().hex}"

    async def whole(self) -> dict[str, Any]:
        """Returns the finished object."""
        pieces: list[list[Piece]] = [[] for _ in self.job.prompts]
        async for piece in self.job.pieces():
            pieces[piece.answer].append(piece)
        choices = []
        for index, parts in enumerate(pieces):
            tokens = [token for part in parts for token in part.tokens]
            values = [value for part in parts for value in part.logprobs]
            self.made += len(tokens)
            said = self.dialect.said("".join(part.text for part in parts), self._logprobs(tokens, values))
            choices.append({"index": index, **said, "finish_reason": parts[-1].finish_reason})
        counted = usage(self.prompt_tokens, self.made)
        return {**self._head(self.dialect.whole), "choices": choices, "usage": counted}

    async def chunks(self, include_usage: bool) -> AsyncIterator[bytes]:
        """Yields server-sent events."""
        rest = {"usage": None} if include_usage else {}
        head = self._head(self.dialect.chunk)
        try:
            if (opening := self.dialect.opening()) is not None:
                for index in range(len(self.job.prompts)):
                    choice = {"index": index, **opening, "finish_reason": None}
                    yield event({**head, "choices": [choice], **rest})
            async for piece in self.job.pieces():
                self.made += len(piece.tokens)
                added = self.dialect.added(piece.text, self._logprobs(piece.tokens, piece.logprobs))
                choice = {"index": piece.answer, **added, "finish_reason": piece.finish_reason}
                yield event({**head, "choices": [choice], **rest})
            if include_usage:
                yield event({**head, "choices": [], "usage": usage(self.prompt_tokens, self.made)})
        except ApiError as error:  # the status is long sent: clients look for "error" in a chunk
            yield event(error.body)
        yield DONE

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _logprobs(self, tokens: list[int], values: list[float]) -> dict[str, Any] | None:
        if self.tokenizer is None:
            return None
        return self.dialect.logprobs(self.tokenizer, tokens, values)
