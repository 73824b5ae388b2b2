"""Drafts from the text itself: what followed the last tokens when they stood there before.

```
prompt and answer   ... def add ( a , b ) : return a + b ... def add (
                        \\_____/                             \\_____/     the last three tokens
                                a , b ) :   the draft
```

Code that is edited, documents that are quoted and answers that repeat themselves are guessed well by this,
at no cost of a second model (Saxena 2023, "Prompt lookup decoding").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from ingot.config import Config
from ingot.inference.request import Request

if TYPE_CHECKING:
    from ingot.inference.engine import Engine


class PromptLookup(Config):
    """Drafts from the prompt and the answer so far.

    Args:
        most: tokens of a draft at most.
        longest: tokens that must have stood there before; as many of them as can be found.
        shortest: fewer are not looked for.
        free_rows: rows that a pass computes in the time that it takes anyway.

    Example:
        >>> Engine(model, tokenizer, speculate=PromptLookup())
    """

    most: int = Field(default=8, ge=1, le=64)
    longest: int = Field(default=4, ge=1, le=16)
    shortest: int = Field(default=2, ge=1, le=16)
    free_rows: float = Field(default=8.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.shortest > self.longest:
            raise ValueError(f"shortest is {self.shortest}, longest only {self.longest}")
        return self

    def cost(self, engine: Engine) -> float:
        """Returns 0: to look up is no pass of a model."""
        return 0.0

    def build(self, engine: Engine | None = None) -> Lookup:
        """Makes the drafter."""
        return Lookup(self.longest, self.shortest)


class Lookup:
    """What followed which tokens, for each request.

    Args:
        longest: tokens to look for at most.
        shortest: and at least.
    """

    def __init__(self, longest: int, shortest: int) -> None:
        self._sizes = range(longest, shortest - 1, -1)
        self._texts: dict[Request, Text] = {}

    def propose(self, requests: Sequence[Request], lengths: Sequence[int]) -> list[list[int]]:
        """See `Drafter`."""
        return [self._text(request).draft(length) for request, length in zip(requests, lengths, strict=True)]

    def forget(self, request: Request) -> None:
        """See `Drafter`."""
        self._texts.pop(request, None)

    def _text(self, request: Request) -> Text:
        text = self._texts.get(request)
        if text is None:
            text = self._texts[request] = Text(self._sizes)
            text.add(request.prompt)
        text.add(request.tokens[len(text.tokens) - len(request.prompt) :])
        return text


class Text:
    """Tokens, and where each few of them stood last.

    Args:
        sizes: of those few, the first that is found first.

    Example:
        >>> text = Text(range(2, 0, -1))
        >>> text.add([5, 6, 7, 5, 6])
        >>> text.draft(2)
        [7, 5]
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.tokens: list[int] = []
        self._sizes = sizes
        self._after: dict[tuple[int, ...], int] = {}

    def add(self, tokens: Sequence[int]) -> None:
        """Goes on with tokens."""
        for token in tokens:
            end = len(self.tokens)  # what ends here is noted now that something follows it
            for size in self._sizes:
                if size <= end:
                    self._after[tuple(self.tokens[end - size :])] = end
            self.tokens.append(token)

    def draft(self, length: int) -> list[int]:
        """Returns what would follow if the text went on as it did last time, or [] if it is new.

        Where that reaches the end of the text, the draft goes on with itself: a loop.
        """
        for size in self._sizes:
            start = self._after.get(tuple(self.tokens[-size:]))
            if start is not None:
                found = self.tokens[start : start + length]
                while len(found) < length:
                    found += found[: length - len(found)]
                return found
        return []
