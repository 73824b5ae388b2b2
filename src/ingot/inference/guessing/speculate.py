"""Speculative decoding: the next tokens are guessed, and verified by the model in one pass.

```
one segment of the pass    last   d1   d2   d3       a draft of three tokens
sampled at each place       s1    s2   s3   s4       by the place's own random number
                           = d1  = d2  not d3        s1 s2 s3 are the answer; s4 followed a wrong guess
```

A pass over a few tokens takes hardly longer than one over a single token, as long as reading the weights is
what takes the time (Leviathan et al. 2023, arXiv 2211.17192, section 2). Their rule accepts a guess x with
probability min(1, p(x)/q(x)) and then samples from what is left of p. Here a token's random number is a hash
of the request's seed and its place, so the token that the model itself would have sampled is known as soon as
its logits are: a guess is accepted while it is that token. The answer is then not only of the same
distribution but the same, token for token, at any temperature, and logprobs are those of the model. A draft
that is not sampled itself (prompt lookup, or the draft model's own keyed choice) is accepted with probability
p(x), which is what their rule comes to when q is certain of x.

Drafts cost time where they are wrong. Each request keeps account of how often they are right, and guesses
as many tokens as pay for themselves, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ingot.inference.choosing.sampling import Sampling
from ingot.inference.request import Request

if TYPE_CHECKING:
    from ingot.inference.engine import Engine
    from ingot.inference.schedule import Entry

FADING = 0.9
"""What an earlier draft weighs beside the next one."""

FIRST, LONGEST = 16, 512
"""Tokens without drafts after they ceased to pay: at first, and at most after doubling."""


class Drafter(Protocol):
    """Guesses how answers go on."""

    def propose(self, requests: Sequence[Request], lengths: Sequence[int]) -> list[list[int]]:
        """Returns a draft for each request, of at most the given length; [] where it knows none."""
        ...

    def forget(self, request: Request) -> None:
        """Lets go of what it keeps of a request."""
        ...


class Speculate(Protocol):
    """What `Engine(speculate=...)` takes: how to guess, and what guessing costs."""

    @property
    def most(self) -> int:
        """Tokens of a draft at most."""
        ...

    @property
    def free_rows(self) -> float:
        """Rows that a pass computes in the time that it takes anyway: where one more begins to cost."""
        ...

    def cost(self, engine: Engine) -> float:
        """Returns the time of making one guess, by that of the engine's pass over one token."""
        ...

    def build(self, engine: Engine) -> Drafter:
        """Makes the drafter of an engine."""
        ...


def suits(sampling: Sampling) -> bool:
    """Whether a request can be guessed ahead: scores may depend on earlier tokens by the model only.

    Penalties, a grammar and a least length change the scores of a place by what was sampled before it.
    """
    free = sampling.grammar is None and not sampling.min_new_tokens
    return (
        free
        and sampling.repetition_penalty == 1
        and not sampling.presence_penalty
        and not sampling.frequency_penalty
    )


def agreed(draft: Sequence[int], sampled: Sequence[int]) -> int:
    """Returns how many guesses are right, up to the first that is not.

    Args:
        draft: k guesses.
        sampled: k + 1 tokens: what the model chose at the place of each guess, and after the last.

    Example:
        >>> agreed([5, 7, 9], [5, 7, 8, 1])
        2
    """
    for right, (guess, token) in enumerate(zip(draft, sampled, strict=False)):
        if guess != token:
            return right
    return len(draft)


@dataclass
class Pace:
    """How long the drafts of one request should be.

    The share of right guesses is a running one: a draft of k of which n were right is n successes in
    min(n + 1, k) trials.
    """

    right: float = 1.5
    tried: float = 2.0
    pause: int = FIRST
    resting: int = 0  # tokens until the next try

    @property
    def acceptance(self) -> float:
        """The share of guesses that are right, of those that follow right ones."""
        return self.right / self.tried

    def length(self, most: int, price: float) -> int:
        """Returns the number of guesses that makes the most tokens in the least time; 0 while it rests.

        With a share a of right guesses, a draft of k makes (1 - a^(k + 1)) / (1 - a) tokens in the time
        1 + k price (Leviathan et al. 2023, theorem 3.8).

        Args:
            most: guesses at most.
            price: time of making and verifying one guess, by that of the request's token.
        """
        if self.resting > 0:
            return 0
        best, fastest, made, follows = 0, 1.0, 1.0, 1.0
        for k in range(1, most + 1):
            follows *= self.acceptance
            made += follows
            if made / (1 + k * price) > fastest:
                best, fastest = k, made / (1 + k * price)
        if not best:
            self.resting, self.pause = self.pause, min(2 * self.pause, LONGEST)
            # The next try after the rest counts more than what came before it.
            self.right, self.tried = 1.5, 2.0
        return best

    def settle(self, guessed: int, right: int) -> None:
        """Takes note of a pass: so many guesses, of which so many were right."""
        if not guessed:
            self.resting = max(0, self.resting - 1)
            return
        self.right = FADING * self.right + right
        self.tried = FADING * self.tried + min(right + 1, guessed)
        if right == guessed:
            self.pause = FIRST


@dataclass
class Speculation:
    """The drafts of an engine's requests.

    Args:
        drafter: makes them.
        most: guesses of a draft at most.
        free_rows: rows that a pass computes in the time that it takes anyway.
        cost: of making one guess, by the time of a pass over one token.
    """

    drafter: Drafter
    most: int
    free_rows: float
    cost: float
    proposed: int = 0
    accepted: int = 0
    _paces: dict[Request, Pace] = field(default_factory=dict)
    _guessed: list[tuple[Entry, Pace, int, int]] = field(default_factory=list)
    """Of the pass under way: who, its pace, its tokens and guesses."""

    @classmethod
    def of(cls, wish: Speculate, engine: Engine) -> Speculation:
        """Makes what an engine needs from what it was asked for."""
        return cls(wish.build(engine), wish.most, wish.free_rows, wish.cost(engine))

    def guess(self, running: Sequence[Entry]) -> None:
        """Gives those that make one token in the next pass their guesses, where guessing pays."""
        self._guessed = []
        ready = [entry for entry in running if entry.leader is None]
        if any(len(entry.tokens) > entry.stored + 1 for entry in ready):
            return  # a prompt that is read fills the pass: no row of it is free
        price = len(ready) / (self.free_rows + len(ready)) + self.cost
        asked = [(entry, length) for entry in ready if (length := self._length(entry.request, price))]
        made: list[list[int]] = []
        if asked:
            made = self.drafter.propose(
                [entry.request for entry, _ in asked], [length for _, length in asked]
            )
        for (entry, _), draft in zip(asked, made, strict=True):
            entry.guesses = draft
        self._guessed = [
            (entry, pace, len(entry.tokens), len(entry.guesses))
            for entry in ready
            if (pace := self._paces.get(entry.request)) is not None
        ]

    def settle(self) -> None:
        """Takes note of how many guesses of the pass were right."""
        for entry, pace, before, guesses in self._guessed:
            made = len(entry.tokens) - before
            if made:  # none where it gave way to others
                pace.settle(guesses, made - 1)
                self.proposed += guesses
                self.accepted += made - 1

    def forget(self, request: Request) -> None:
        """Lets go of a request that has left."""
        if self._paces.pop(request, None) is not None:
            self.drafter.forget(request)

    def _length(self, request: Request, price: float) -> int:
        most = min(self.most, request.limit - len(request.tokens) - 1)
        if most < 1 or not suits(request.sampling):
            return 0
        return self._paces.setdefault(request, Pace()).length(most, price)
