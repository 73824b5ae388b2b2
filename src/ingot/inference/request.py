"""One request on its way through the engine, and the completion it becomes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ingot.inference.sampling import Sampling
from ingot.inference.text import Transcript


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
    """'stop' (a stop token or stop text), 'length' (no room or no budget left) or 'cancelled'."""
    prompt_tokens: int
    seconds: float
    """From the start of the prompt's pass to the last token."""

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
    """

    prompt: list[int]
    sampling: Sampling
    stop_ids: frozenset[int]
    seed: int
    limit: int
    transcript: Transcript
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str | None = None
    started: float = 0.0
    ended: float = 0.0

    @property
    def length(self) -> int:
        """Tokens of prompt and answer together."""
        return len(self.prompt) + len(self.tokens)

    def push(self, token: int, logprob: float) -> bool:
        """Adds a sampled token. Returns whether the request is finished by it."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        if token in self.stop_ids or self.transcript.push(token):
            self.finish("stop")
        elif len(self.tokens) >= self.limit:
            self.finish("length")
        return self.finish_reason is not None

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
        )
