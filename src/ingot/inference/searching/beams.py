"""The bookkeeping of beam search: which continuations of one prompt go on, and which are kept as finished.

```
w running texts x v tokens -> the best (1 + stops) * w, at least 2w
     those that end, among the best w   -> finished, the best w of them by score / length^penalty
     the best w that do not             -> running
over when all w finished ones are better than what the best running one is worth now
```

No model stands here: who calls `advance` computes the logprobs, and keeps the rows of its memory that the
answer names. The rules are those of `transformers` (`num_beams`, `early_stopping=False`).

Source: Sutskever et al. 2014, arXiv 1409.3215, section 3.2; Wu et al. 2016, arXiv 1609.08144, section 7.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from ingot.errors import RequestError

MOST = 64
"""Beams that a search may have."""


class Found(NamedTuple):
    """A text that a search found."""

    score: float  # sum of logprobs / length^penalty
    tokens: list[int]  # with the one that ended it


class Beams:
    """One prompt's beams.

    Args:
        width: w, how many texts run side by side.
        limit: tokens that a text may have.
        stop_ids: tokens that end a text.
        length_penalty: power of the length that sums of logprobs are divided by; 0 divides by nothing.

    Attributes:
        tokens: the newest token of each running text.
        over: whether nothing can be improved any more.

    Raises:
        RequestError: a width or limit that cannot be used.

    Example:
        >>> beams = Beams(2, limit=8, stop_ids={0})
        >>> rows = beams.advance(logits.log_softmax(-1))  # [1, v] first, [w, v] later
    """

    def __init__(
        self, width: int, limit: int, stop_ids: Collection[int] = (), length_penalty: float = 1.0
    ) -> None:
        if not 1 <= width <= MOST:
            raise RequestError(f"{width} beams", where="beams", fix=f"use 1 to {MOST}")
        if limit < 1:
            raise RequestError(f"a limit of {limit} tokens", where="beams", fix="use 1 or more")
        self.width, self.limit = width, limit
        self.stop_ids = frozenset(stop_ids)
        self.length_penalty = length_penalty
        self.tokens: list[int] = []
        self.over = False
        self._running: list[tuple[float, list[int]]] = [(0.0, [])]  # best first
        self._finished: list[Found] = []  # best first

    @property
    def length(self) -> int:
        """Tokens of every running text."""
        return len(self._running[0][1]) if self._running else self.limit

    def advance(self, logprobs: Tensor) -> list[int]:
        """Goes one token on.

        Args:
            logprobs: [r, v] of the next token of each running text: one text at first, then w of them.

        Returns:
            Which of the r texts each running text goes on from; empty when the search is over.
        """
        width, v = self.width, logprobs.shape[-1]
        sums = torch.tensor([score for score, _ in self._running], device=logprobs.device)
        scores = (logprobs.float() + sums[:, None]).flatten()
        most = min(max(2, 1 + len(self.stop_ids)) * width, len(scores))
        best = scores.topk(most)
        length = self.length + 1
        rows: list[int] = []
        running: list[tuple[float, list[int]]] = []
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        for rank, (score, index) in enumerate(pairs):
            parent, token = divmod(index, v)
            if score == -float("inf"):
                break
            ends = token in self.stop_ids or length >= self.limit
            if ends and rank < width:
                text = [*self._running[parent][1], token]
                self._finished.append(Found(score / length**self.length_penalty, text))
            elif not ends and len(running) < width:
                running.append((score, [*self._running[parent][1], token]))
                rows.append(parent)
        self._finished = sorted(self._finished, key=lambda found: -found.score)[:width]
        self._running = running
        self.tokens = [text[-1] for _, text in running]
        full = len(self._finished) == width
        self.over = not running or (
            full and running[0][0] / length**self.length_penalty <= self._finished[-1].score
        )
        return [] if self.over else rows

    def best(self) -> list[Found]:
        """Returns what was found, best first; texts that still run only where none has ended."""
        if self._finished:
            return list(self._finished)
        return [
            Found(score / max(len(text), 1) ** self.length_penalty, text) for score, text in self._running
        ]
