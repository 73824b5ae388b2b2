"""Sampling: from logits to the next token, for all rows of a batch at once.

Temperature first, then the k best, then the smallest set whose probability reaches p (nucleus
sampling, Holtzman et al. 2020, arXiv 1904.09751, section 3.1), in the order that `transformers` uses.
One uniform number per row picks the token by the inverse of the cumulative distribution. That number
is a hash of the request's seed and the token's place in the text, so what a request says does not
depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from pydantic import Field, field_validator
from torch import Tensor

from ingot.config import Config

COOLEST = 1e-6
"""Temperatures above zero are at least this: below, division by them would overflow to NaN."""


class Sampling(Config):
    """How a request wants its tokens chosen.

    Args:
        max_new_tokens: tokens to make at most; the context's end can come sooner.
        temperature: 0 always takes the likeliest token; 1 samples from the model's distribution.
        top_k: sample from this many likeliest tokens; 0 means all.
        top_p: sample from the likeliest tokens that together have this probability.
        seed: the same seed gives the same text; None draws one.
        stop: texts that end the answer and are cut from it.
    """

    max_new_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.8, ge=0, allow_inf_nan=False)
    top_k: int = Field(default=0, ge=0, lt=2**31)
    top_p: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: tuple[str, ...] = ()

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_is_enough(cls, stop: object) -> object:
        return (stop,) if isinstance(stop, str) else stop

    @field_validator("stop")
    @classmethod
    def _stops_have_text(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError("an empty text would stop at once")
        return stop


class Rows(NamedTuple):
    """The choices of every row of a batch, as tensors."""

    seed: Tensor  # [b] int64
    temperature: Tensor  # [b] float32, 0 means greedy
    top_k: Tensor  # [b] int64, the vocabulary's size where all may be sampled
    top_p: Tensor  # [b] float32
    greedy: bool  # some row is
    random: bool  # some row is not
    best: int  # how many of the best scores `threshold` should look at first; 0 where no row has a k or p

    @classmethod
    def of(cls, choices: Sequence[tuple[Sampling, int]], vocabulary: int, device: torch.device) -> Self:
        """Makes the tensors from each row's sampling and seed."""
        settings = [sampling for sampling, _ in choices]
        ks = [min(s.top_k or vocabulary, vocabulary) for s in settings]
        restricted = any(k < vocabulary or s.top_p < 1 for k, s in zip(ks, settings, strict=True))
        largest = max((k for k in ks if k < vocabulary), default=0)
        return cls(
            seed=torch.tensor([seed for _, seed in choices], dtype=torch.int64, device=device),
            temperature=torch.tensor([s.temperature for s in settings], dtype=torch.float32, device=device),
            top_k=torch.tensor(ks, dtype=torch.int64, device=device),
            top_p=torch.tensor([s.top_p for s in settings], dtype=torch.float32, device=device),
            greedy=any(s.temperature == 0 for s in settings),
            random=any(s.temperature > 0 for s in settings),
            best=min(vocabulary, max(128, largest)) if restricted else 0,
        )


def sample(logits: Tensor, rows: Rows, places: Tensor) -> tuple[Tensor, Tensor]:
    """Chooses one token per row.

    Args:
        logits: [b, v], any floating dtype.
        rows: each row's settings.
        places: [b] int64: where in its text each row's token will stand.

    Returns:
        Tokens [b] int64, and the natural logarithm of each one's probability under the model itself
        (temperature 1, nothing cut off), [b] float32.
    """
    logits = logits.float()
    if not rows.random:
        tokens = logits.argmax(-1)
    else:
        scores = logits - logits.amax(-1, keepdim=True)
        scores /= rows.temperature.clamp(min=COOLEST)[:, None]
        if rows.best:
            smallest = threshold(scores, rows.top_k, rows.top_p, rows.best)
            scores = scores.masked_fill(scores < smallest, -torch.inf)
        tokens = draw(scores.softmax(-1), uniform(rows.seed, places))
        if rows.greedy:
            tokens = torch.where(rows.temperature == 0, logits.argmax(-1), tokens)
    chosen = logits.gather(-1, tokens[:, None]).squeeze(-1)
    return tokens, chosen - logits.logsumexp(-1)


def threshold(scores: Tensor, top_k: Tensor, top_p: Tensor, best: int) -> Tensor:
    """Returns the smallest score that each row may sample, [b, 1].

    Only as many of the best scores are sorted as the rows turn out to need: sorting whole vocabularies
    would cost more than the model.

    Args:
        scores: [b, v] float32, logits over temperature.
        top_k: [b] int64, from 1 to v; v keeps everything.
        top_p: [b] float32, above 0; 1 keeps everything.
        best: how many scores to look at first; at least every k below v.
    """
    v = scores.shape[-1]
    k, p = top_k[:, None], top_p[:, None]
    free = (k == v) & (p >= 1)
    log_total = scores.logsumexp(-1, keepdim=True)  # [b, 1]
    while True:
        high = scores.topk(best).values  # [b, best], descending
        allowed = torch.arange(best, device=scores.device) < k
        mass = (high - log_total).exp() * allowed
        total = torch.where(k < v, mass.sum(-1, keepdim=True), 1.0)  # [b, 1]
        before = mass.cumsum(-1) - mass
        kept = allowed & ((before < p * total) | (p >= 1))
        if best == v or bool((free | (k <= best) | ~kept[:, -1:]).all()):
            smallest = high.masked_fill(~kept, torch.inf).amin(-1, keepdim=True)
            return smallest.masked_fill(free, -torch.inf)
        best = min(v, 8 * best)


def draw(probabilities: Tensor, numbers: Tensor) -> Tensor:
    """Picks one index per row by the inverse of the cumulative distribution.

    Args:
        probabilities: [b, v] float32; need not sum to exactly one.
        numbers: [b] float32 in [0, 1).

    Returns:
        [b] int64; never an index of probability zero.
    """
    heap = probabilities.cumsum(-1)  # [b, v]
    total = heap[:, -1:]
    # Rounding may lift number * total to total, behind which nothing stands.
    below = torch.nextafter(total, torch.zeros_like(total))
    mark = torch.minimum(numbers[:, None] * total, below)
    found = torch.searchsorted(heap, mark, right=True).squeeze(-1)
    return found.clamp(max=probabilities.shape[-1] - 1)


def uniform(seeds: Tensor, places: Tensor) -> Tensor:
    """Returns numbers in [0, 1) that are a fixed function of seed and place, [b] float32.

    SplitMix64's finaliser (Steele et al. 2014, doi 10.1145/2660193.2660195, figure 16), over a counter
    that mixes seed and place.

    Args:
        seeds: [b] int64.
        places: [b] int64.
    """
    mixed = _mixed(_mixed(seeds) + places * -7046029254386353131)  # 2^64 over the golden ratio
    return _shifted(mixed, 40).to(torch.float32) * 2.0**-24


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * -4658895280553007687
    x = (x ^ _shifted(x, 27)) * -7723592293110705685
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, count: int) -> Tensor:
    """A right shift that brings in zeros: torch's copies the sign."""
    return (x >> count) & (2 ** (64 - count) - 1)
