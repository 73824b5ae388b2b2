"""What changes logits before a token is chosen: penalties, biases, bans, and what a grammar forbids.

```
logits -> repetition -> presence, frequency -> bias -> ban of stop tokens -> grammar -> chosen from
```

Only rows that ask for something are touched. What a request has said is kept by the request itself
(`History`, `Guide`), so a batch may be put together anew at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ingot.inference.choosing.constrain import Guide

if TYPE_CHECKING:
    from ingot.inference.choosing.sampling import Sampling


class History:
    """The different tokens of one request, and how often its answer holds each.

    Args:
        prompt: tokens that count as seen, but zero times as said.
    """

    def __init__(self, prompt: Iterable[int] = ()) -> None:
        self._place: dict[int, int] = {}
        self._ids = np.zeros(16, np.int64)
        self._counts = np.zeros(16, np.float32)
        for token in prompt:
            self._place_of(token)

    @property
    def ids(self) -> NDArray[np.int64]:
        """The tokens, [n]."""
        return self._ids[: len(self._place)]

    @property
    def counts(self) -> NDArray[np.float32]:
        """How often the answer holds each, [n]."""
        return self._counts[: len(self._place)]

    def push(self, token: int) -> None:
        """Counts a token of the answer."""
        place = self._place_of(token)
        self._counts[place] += 1

    def _place_of(self, token: int) -> int:
        place = self._place.setdefault(token, len(self._place))
        if place == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._ids[place] = token
        return place


class Edited(Protocol):
    """What is needed of a request here."""

    sampling: Sampling
    tokens: list[int]
    stop_ids: frozenset[int]
    history: History | None
    guide: Guide | None


class Edits:
    """The changes to the logits of a batch.

    Args:
        requests: one for each row.
        device: where the logits are.
    """

    def __init__(self, requests: Sequence[Edited], device: torch.device) -> None:
        self._device = device
        rows = list(enumerate(requests))
        self._guided = [(row, request.guide) for row, request in rows if request.guide is not None]
        self._held = [(row, request) for row, request in rows if _still_banned(request)]
        self._histories = [(row, request.history) for row, request in rows if request.history is not None]
        penalised = [requests[row].sampling for row, _ in self._histories]
        self._penalised = self._numbers([row for row, _ in self._histories])[:, None]  # [n, 1]
        self._repetition = self._floats([s.repetition_penalty for s in penalised])[:, None]
        self._presence = self._floats([s.presence_penalty for s in penalised])[:, None]
        self._frequency = self._floats([s.frequency_penalty for s in penalised])[:, None]
        biases = [(row, *pair) for row, request in rows for pair in request.sampling.logit_bias.items()]
        self._biased = (
            self._numbers([row for row, _, _ in biases]),
            self._numbers([token for _, token, _ in biases]),
        )
        self._bias = self._floats([bias for _, _, bias in biases])

    @classmethod
    def of(cls, requests: Sequence[Edited], device: torch.device) -> Self | None:
        """Makes the changes that some row asks for; None where none does."""
        asked = any(
            request.history is not None
            or request.guide is not None
            or request.sampling.logit_bias
            or _still_banned(request)
            for request in requests
        )
        return cls(requests, device) if asked else None

    def apply(self, logits: Tensor) -> Tensor:
        """Returns the changed logits.

        Args:
            logits: [b, v] float32; they stay as they are.
        """
        logits = logits.clone()
        if self._histories:
            self._penalise(logits)
        if len(self._bias):
            logits.index_put_(self._biased, self._bias, accumulate=True)
        self._ban(logits)
        if self._guided:
            self._guide(logits)
        return logits

    def _penalise(self, logits: Tensor) -> None:
        """Works on as many columns as the richest history has tokens, not on the whole vocabulary."""
        histories = [history for _, history in self._histories]
        width = max(1, *(len(history.ids) for history in histories))
        ids = np.zeros((len(histories), width), np.int64)
        counts = np.zeros((len(histories), width), np.float32)
        for i, history in enumerate(histories):
            n = len(history.ids)
            # What is left of a row repeats its first: that is written twice, with the same number. One that
            # has nothing changes token 0 by nothing: without a prompt in it, there is no repetition penalty.
            if n:
                ids[i], counts[i] = history.ids[0], history.counts[0]
                ids[i, :n], counts[i, :n] = history.ids, history.counts
        places = self._penalised, torch.from_numpy(ids).to(self._device)  # [n, 1], [n, width]
        said = torch.from_numpy(counts).to(self._device)
        scores = logits[places]
        scores = torch.where(scores > 0, scores / self._repetition, scores * self._repetition)
        logits[places] = scores - self._frequency * said - self._presence * (said > 0)

    def _ban(self, logits: Tensor) -> None:
        """Keeps those who have not said enough from stopping."""
        self._held = [(row, request) for row, request in self._held if _still_banned(request)]
        banned = [(row, token) for row, request in self._held for token in request.stop_ids]
        banned = [(row, token) for row, token in banned if token < logits.shape[1]]
        if banned:
            rows, tokens = (self._numbers(list(column)) for column in zip(*banned, strict=True))
            logits[rows, tokens] = -torch.inf

    def _guide(self, logits: Tensor) -> None:
        allowed = np.stack([guide.allowed(logits.shape[1]) for _, guide in self._guided])  # [n, v]
        rows = self._numbers([row for row, _ in self._guided])
        forbidden = ~torch.from_numpy(allowed).to(self._device)
        logits[rows] = logits[rows].masked_fill_(forbidden, -torch.inf)

    def _numbers(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)

    def _floats(self, values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self._device)


def _still_banned(request: Edited) -> bool:
    return len(request.tokens) < request.sampling.min_new_tokens and bool(request.stop_ids)
