"""One request on its way through the engine, and the completion it becomes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch

from ingot.inference.choosing.constrain import Guide, guide
from ingot.inference.choosing.penalties import Edits, History
from ingot.inference.choosing.sampling import Rows, Sampling
from ingot.inference.text import Bytes, Transcript

Alternatives = list[tuple[int, float]]
"""Tokens that are likely at a place, best first, with the natural logarithms of their probabilities."""


@dataclass(frozen=True)
class Completion:
    """What the engine made of a prompt."""

    tokens: list[int]
    """The sampled tokens. A stop token that ended the answer is the last of them."""
    text: str
    """Their text; without special tokens, and cut before a stop text."""
    logprobs: list[float]
    """Natural logarithm of each token's probability under the model at temperature 1."""
    finish_reason: str
    """'stop' (a stop token or stop text, or a grammar that nothing can follow), 'length' (no room or no
    budget left), 'cancelled', or 'error' (a grammar that could not be followed any further)."""
    prompt_tokens: int
    seconds: float
    """From the start of the prompt's pass to the last token."""
    alternatives: list[Alternatives] = field(default_factory=list)
    """For each token, as many of the likeliest as were asked for; nothing where none were."""
    prompt_logprobs: list[float | None] = field(default_factory=list)
    """Of each token of the prompt, if asked for; the first has none."""
    prompt_alternatives: list[Alternatives] = field(default_factory=list)
    """For each token of the prompt, if its logprobs and alternatives were asked for."""

    @property
    def tokens_per_second(self) -> float:
        """New tokens per second of this request."""
        return len(self.tokens) / self.seconds if self.seconds > 0 else 0.0


@dataclass(eq=False)
class Request:
    """A prompt, how to continue it, and what has come of it so far.

    Args:
        prompt: token ids.
        sampling: how to choose tokens.
        stop_ids: tokens that end the answer.
        seed: of this request's random numbers.
        limit: new tokens at most, with the room in the context already counted.
        transcript: turns tokens into text.
        priority: lower goes first.
        adapter: name of the adapter that answers; None is the model itself.
        guide: leads the answer through a grammar.

    Attributes:
        history: what penalties look at; None where there are none.
        cached: tokens of the prompt that did not have to be computed, because others had computed them.
    """

    prompt: list[int]
    sampling: Sampling
    stop_ids: frozenset[int]
    seed: int
    limit: int
    transcript: Transcript
    priority: int = 0
    adapter: str | None = None
    guide: Guide | None = None
    history: History | None = field(default=None, init=False)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    alternatives: list[Alternatives] = field(default_factory=list)
    prompt_logprobs: list[float | None] = field(default_factory=list)
    prompt_alternatives: list[Alternatives] = field(default_factory=list)
    finish_reason: str | None = None
    cached: int = 0
    started: float = 0.0
    ended: float = 0.0

    def __post_init__(self) -> None:
        sampling = self.sampling
        if sampling.ignore_eos:
            self.stop_ids = frozenset()
        if sampling.penalised:
            self.history = History(self.prompt if sampling.repetition_penalty != 1 else ())
        if sampling.prompt_logprobs:
            self.prompt_logprobs = [None]
            self.prompt_alternatives = [[]]

    @classmethod
    def asked(
        cls,
        prompt: Sequence[int],
        sampling: Sampling | None,
        stop_ids: Iterable[int],
        room: int,
        tokenizer: Bytes,
        vocabulary: int,
        priority: int = 0,
        adapter: str | None = None,
    ) -> Self:
        """Makes a request of what an engine is asked for.

        Args:
            prompt: token ids.
            sampling: how to choose tokens; None is as `Sampling` says.
            stop_ids: tokens that end the answer.
            room: new tokens that the context has places for.
            tokenizer: gives the bytes of tokens.
            vocabulary: how many tokens the model knows.
            priority: lower goes first.
            adapter: name of the adapter that answers.

        Raises:
            RequestError: a bias for a token that there is not, or a grammar that cannot be used.
        """
        sampling, stop_ids = sampling or Sampling(), frozenset(stop_ids)
        sampling.check(vocabulary)
        return cls(
            prompt=list(prompt),
            sampling=sampling,
            stop_ids=stop_ids,
            seed=secrets.randbits(63) if sampling.seed is None else sampling.seed,
            limit=min(sampling.max_new_tokens, room),
            transcript=Transcript(tokenizer, sampling.stop),
            priority=priority,
            adapter=adapter,
            guide=guide(sampling.grammar, tokenizer, stop_ids),
        )

    @property
    def length(self) -> int:
        """Tokens of prompt and answer together."""
        return len(self.prompt) + len(self.tokens)

    def push(self, token: int, logprob: float, alternatives: Alternatives | None = None) -> bool:
        """Adds a sampled token.

        Args:
            token: its id.
            logprob: of the token under the model itself.
            alternatives: the likeliest tokens at its place, at least as many as were asked for.

        Returns:
            Whether the request is finished by it.
        """
        if self.guide is not None and self.guide.failed:
            self.finish("error")
            return True
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.alternatives.append((alternatives or [])[: self.sampling.top_logprobs])
        if self.history is not None:
            self.history.push(token)
        if token in self.stop_ids or self._written(token):
            self.finish("stop")
        elif self.guide is not None and self.guide.failed:
            self.finish("error")
        elif len(self.tokens) >= self.limit:
            self.finish("length")
        return self.finish_reason is not None

    def _written(self, token: int) -> bool:
        """Adds a token to the text. Returns whether a stop text or the grammar ends it there."""
        stopped = self.transcript.push(token, len(self.tokens) > self.sampling.min_new_tokens)
        complete = self.guide is not None and self.guide.push(token)
        return stopped or complete

    def score(
        self, place: int, logprobs: Sequence[float], alternatives: Sequence[Alternatives] | None = None
    ) -> None:
        """Notes how likely some neighbouring tokens of the prompt are; saying it twice does no harm.

        Args:
            place: of the first of them in the prompt; all before it are scored.
            logprobs: of each.
            alternatives: the likeliest tokens at each place, if asked for.
        """
        asked = self.sampling.top_logprobs
        self.prompt_logprobs[place:] = logprobs
        self.prompt_alternatives[place:] = [one[:asked] for one in alternatives or [[]] * len(logprobs)]

    def finish(self, reason: str) -> None:
        """Ends the request and sets free what the transcript held back."""
        self.finish_reason = reason
        self.transcript.finish()
        self.ended = time.perf_counter()

    def completion(self) -> Completion:
        """Returns what has come of the request."""
        return Completion(
            tokens=self.tokens,
            text=self.transcript.text,
            logprobs=self.logprobs,
            finish_reason=self.finish_reason or "cancelled",
            prompt_tokens=len(self.prompt),
            seconds=(self.ended or time.perf_counter()) - self.started if self.started else 0.0,
            alternatives=self.alternatives,
            prompt_logprobs=self.prompt_logprobs,
            prompt_alternatives=self.prompt_alternatives,
        )


def rows_of(requests: Sequence[Request], vocabulary: int, device: torch.device) -> Rows:
    """Returns the choices of every row of a batch; they stay right while its requests go on.

    Args:
        requests: one for each row.
        vocabulary: tokens that logits are given for.
        device: where the logits are.
    """
    choices = [(request.sampling, request.seed) for request in requests]
    return Rows.of(choices, vocabulary, device, Edits.of(requests, device))
