"""Answers: what the engine made for one request, whole or in chunks."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingot.serve.asks import StreamOptions
from ingot.serve.counts import usage
from ingot.serve.job_making import pieces
from ingot.serve.protocol import DONE, ApiError, event
from ingot.serve.voices import Form, Voice
from ingot.serve.worker import Job, Piece


@dataclass
class Answer:
    """One HTTP request's answer, being made.

    Args:
        job: what was handed to the worker; all its choices.
        form: the names of the objects.
        voices: word the choices, one each.
        model: name to say.
        prompt_tokens: to count, each prompt once.
        best: (made, sent) for each prompt; of those made, the likeliest by token are sent.
        silent: no new tokens were asked for, so none are counted.

    Attributes:
        made: tokens of all answers so far.
        cached: tokens of its prompt that did not have to be computed, for each answer that has begun.
    """

    job: Job
    form: Form
    voices: Sequence[Voice]
    model: str
    prompt_tokens: int
    best: tuple[int, int] = (1, 1)
    silent: bool = False
    made: int = 0
    cached: dict[int, int] = field(default_factory=dict)
    created: int = field(default_factory=lambda: int(time.time()))
    id: str = ""

    def __post_init__(self) -> None:
        self.id = f"{self.form.prefix}-{uuid.uuid4().hex}"

    async def whole(self) -> dict[str, Any]:
        """Returns the finished object."""
        reasons = [""] * len(self.voices)
        scores: list[list[float]] = [[] for _ in self.voices]
        async for piece in pieces(self.job):
            self._count(piece)
            self.voices[piece.answer].add(piece)
            scores[piece.answer] += piece.logprobs
            reasons[piece.answer] = piece.finish_reason or ""
        choices = [
            {"index": index, **voice.whole(), "finish_reason": voice.finish(reasons[number])}
            for index, number in enumerate(self._sent(scores))
            for voice in [self.voices[number]]
        ]
        return {**self._head(self.form.whole), "choices": choices, "usage": self._usage()}

    async def chunks(self, options: StreamOptions) -> AsyncIterator[bytes]:
        """Yields server-sent events."""
        head = self._head(self.form.chunk)

        def chunk(index: int, body: dict[str, Any], reason: str | None = None) -> bytes:
            rest: dict[str, Any] = {"usage": None} if options.include_usage else {}
            if options.continuous_usage_stats:
                rest = {"usage": self._usage()}
            choice = {"index": index, **body, "finish_reason": reason}
            return event({**head, "choices": [choice], **rest})

        try:
            for index, voice in enumerate(self.voices):
                for body in voice.opening():
                    yield chunk(index, body)
            async for piece in pieces(self.job):
                self._count(piece)
                voice = self.voices[piece.answer]
                bodies = voice.add(piece)
                for body in bodies[:-1]:
                    yield chunk(piece.answer, body)
                if bodies:
                    reason = piece.finish_reason and voice.finish(piece.finish_reason)
                    yield chunk(piece.answer, bodies[-1], reason)
            if options.include_usage:
                yield event({**head, "choices": [], "usage": self._usage()})
        except ApiError as error:  # the status is long sent: clients look for "error" in a chunk
            yield event(error.body)
        yield DONE

    def _count(self, piece: Piece) -> None:
        self.made += 0 if self.silent else len(piece.tokens)
        self.cached[piece.answer] = piece.cached

    def _usage(self) -> dict[str, Any]:
        prompts: dict[int, int] = {}  # each counts once: the answer that read it had to compute the most
        for number, cached in self.cached.items():
            prompt = number // self.best[0]
            prompts[prompt] = min(cached, prompts.get(prompt, cached))
        return usage(self.prompt_tokens, self.made, sum(prompts.values()))

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _sent(self, scores: Sequence[Sequence[float]]) -> list[int]:
        """The numbers of the answers to send, of each prompt's the likeliest ones first."""
        made, sent = self.best
        if made == sent:
            return list(range(len(scores)))
        means = [sum(values) / max(len(values), 1) for values in scores]
        numbers: list[int] = []
        for first in range(0, len(means), made):
            group = range(first, first + made)
            numbers += sorted(group, key=lambda number: -means[number])[:sent]
        return numbers
