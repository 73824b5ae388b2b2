"""Sampling: from logits to the next token, for all rows of a batch at once.

Temperature first, then the k best, then the smallest set whose probability reaches p (nucleus
sampling, Holtzman et al. 2020, arXiv 1904.09751, section 3.1), in the order that `transformers` uses.
One uniform number per row picks the token by the inverse of the cumulative distribution. That number
is a hash of the request's seed and the token's place in the text, so what a request says does not
depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from ingot.config import Config
from ingot.errors import RequestError
from ingot.inference.choosing.grammar import Grammar
from ingot.inference.choosing.penalties import Edits
from ingot.inference.choosing.truncation import threshold, typical

COOLEST = 1e-6
"""Temperatures above zero are at least this: below, division by them would overflow to NaN."""

FIRST_LOOK = 128
"""Best scores that are looked at first: tokens that share 0.9 of the probability are rarely more."""

MOST_BIASES = 4096
"""Tokens that one request may give a bias."""

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]


class Sampling(Config):
    """How a request wants its tokens chosen.

    Args:
        max_new_tokens: tokens to make at most; the context's end can come sooner.
        temperature: 0 always takes the likeliest token; 1 samples from the model's distribution.
        top_k: sample from this many likeliest tokens; 0 means all.
        top_p: sample from the likeliest tokens that together have this probability.
        seed: the same seed gives the same text; None draws one.
        stop: texts that end the answer and are cut from it.
        min_p: sample from tokens with at least this share of the likeliest one's probability (Nguyen et
            al. 2024, arXiv 2407.01082); 0 means all.
        typical_p: sample from the tokens whose surprise is nearest to what is expected and that
            together have this probability (Meister et al. 2022, arXiv 2202.00666); 1 means all.
        repetition_penalty: a token that the prompt or the answer holds has its logit divided by this
            where that is positive, else multiplied (Keskar et al. 2019, arXiv 1909.05858); 1 is none.
        presence_penalty: taken off the logit of every token that the answer holds.
        frequency_penalty: taken off the logit of a token for each time that the answer holds it.
        logit_bias: token -> added to its logit.
        min_new_tokens: before this many, the answer is not ended by a stop token or stop text.
        ignore_eos: stop tokens are tokens like others, as measurements of speed want it.
        top_logprobs: how many of the likeliest tokens to report at every place.
        prompt_logprobs: whether to report how likely the prompt's own tokens are.
        grammar: what the answer must look like.
    """

    max_new_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.8, ge=0, allow_inf_nan=False)
    top_k: int = Field(default=0, ge=0, lt=2**31)
    top_p: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: tuple[str, ...] = ()
    min_p: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    typical_p: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
    repetition_penalty: float = Field(default=1.0, ge=0.01, le=100, allow_inf_nan=False)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2, allow_inf_nan=False)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2, allow_inf_nan=False)
    logit_bias: dict[TokenId, Bias] = Field(default={}, max_length=MOST_BIASES)
    min_new_tokens: int = Field(default=0, ge=0)
    ignore_eos: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)
    prompt_logprobs: bool = False
    grammar: Grammar | None = None

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

    @model_validator(mode="after")
    def _wishes_agree(self) -> Self:
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens is {self.min_new_tokens}, max_new_tokens only {self.max_new_tokens}"
            )
        if self.grammar is not None and (self.ignore_eos or self.min_new_tokens):
            raise ValueError(
                "a grammar says itself where the answer may end: no ignore_eos, no min_new_tokens"
            )
        return self

    @property
    def penalised(self) -> bool:
        """Whether what has been said changes what may come."""
        none = (1.0, 0.0, 0.0)
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != none

    def check(self, vocabulary: int) -> None:
        """Sees whether a model with so many tokens can do what is asked.

        Raises:
            RequestError: a bias for a token that there is not.
        """
        if (largest := max(self.logit_bias, default=0)) >= vocabulary:
            raise RequestError(
                f"there is no token {largest}",
                where="logit_bias",
                fix=f"the model's tokens are 0 to {vocabulary - 1}",
            )


class Rows(NamedTuple):
    """The choices of every row of a batch, as tensors."""

    seed: Tensor  # [b] int64
    temperature: Tensor  # [b] float32, 0 means greedy
    top_k: Tensor  # [b] int64, the vocabulary's size where all may be sampled
    top_p: Tensor  # [b] float32
    greedy: bool  # some row is
    random: bool  # some row is not
    best: int  # how many of the best scores `threshold` should look at first; 0 where no row has a k or p
    min_p: Tensor | None = None  # [b] float32; None where no row has one
    typical_p: Tensor | None = None  # [b] float32; None where no row has one
    edits: Edits | None = None  # what changes logits before anything is chosen
    alternatives: int = 0  # likeliest tokens that some row wants to have reported

    @classmethod
    def of(
        cls,
        choices: Sequence[tuple[Sampling, int]],
        vocabulary: int,
        device: torch.device,
        edits: Edits | None = None,
    ) -> Self:
        """Makes the tensors from each row's sampling and seed."""
        settings = [sampling for sampling, _ in choices]
        ks = [min(s.top_k or vocabulary, vocabulary) for s in settings]
        restricted = any(k < vocabulary or s.top_p < 1 for k, s in zip(ks, settings, strict=True))
        largest = max((k for k in ks if k < vocabulary), default=0)

        def column(values: Iterable[float]) -> Tensor:
            return torch.tensor(list(values), dtype=torch.float32, device=device)

        return cls(
            seed=torch.tensor([seed for _, seed in choices], dtype=torch.int64, device=device),
            temperature=column(s.temperature for s in settings),
            top_k=torch.tensor(ks, dtype=torch.int64, device=device),
            top_p=column(s.top_p for s in settings),
            greedy=any(s.temperature == 0 for s in settings),
            random=any(s.temperature > 0 for s in settings),
            best=min(vocabulary, max(FIRST_LOOK, largest)) if restricted else 0,
            min_p=column(s.min_p for s in settings) if any(s.min_p > 0 for s in settings) else None,
            typical_p=column(s.typical_p for s in settings)
            if any(s.typical_p < 1 for s in settings)
            else None,
            edits=edits,
            alternatives=max((s.top_logprobs for s in settings), default=0),
        )


def sample(logits: Tensor, rows: Rows, places: Tensor) -> tuple[Tensor, Tensor]:
    """Chooses one token per row.

    Args:
        logits: [b, v], any floating dtype.
        rows: each row's settings.
        places: [b] int64: where in its text each row's token will stand.

    Returns:
        Tokens [b] int64, and the natural logarithm of each one's probability under the model itself
        (temperature 1, nothing changed or cut off), [b] float32.
    """
    logits = logits.float()
    wanted = logits if rows.edits is None else rows.edits.apply(logits)
    if not rows.random:
        tokens = likeliest(wanted)
    else:
        tokens = draw(distribution(wanted, rows), uniform(rows.seed, places))
        if rows.greedy:
            tokens = torch.where(rows.temperature == 0, likeliest(wanted), tokens)
    return tokens, told(logits, tokens)


def distribution(wanted: Tensor, rows: Rows) -> Tensor:
    """Returns the probabilities that each row's token is drawn from, after temperature and cut-offs.

    Args:
        wanted: [b, v] float32, logits after biases and penalties.
        rows: each row's settings; those of temperature 0 get nothing useful.

    Returns:
        [b, v] float32.
    """
    scores = wanted - wanted.amax(-1, keepdim=True)
    scores /= rows.temperature.clamp(min=COOLEST)[:, None]
    smallest = threshold(scores, rows.top_k, rows.top_p, rows.best) if rows.best else None
    if rows.min_p is not None:
        relative = rows.min_p.log()[:, None]  # the best score is 0
        smallest = relative if smallest is None else torch.maximum(smallest, relative)
    if smallest is not None:
        scores = scores.masked_fill(scores < smallest, -torch.inf)
    if rows.typical_p is not None:
        scores = typical(scores, rows.typical_p)
    return scores.softmax(-1)


def likeliest(logits: Tensor) -> Tensor:
    """Returns the index of each row's largest logit, the first of equal ones, [b] int64."""
    if logits.device.type == "cpu":  # NumPy's search is about ten times as fast as torch's there
        return torch.from_numpy(np.argmax(logits.numpy(), -1))
    return logits.argmax(-1)


def alternatives(logits: Tensor, count: int) -> list[list[tuple[int, float]]]:
    """Returns the likeliest tokens of every row under the model itself, best first.

    Args:
        logits: [b, v].
        count: how many of each row, at most v.

    Returns:
        For each row, tokens with the natural logarithms of their probabilities.
    """
    logits = logits.float()
    tokens = logits.topk(min(count, logits.shape[-1])).indices
    logprobs = logits.log_softmax(-1).gather(-1, tokens)
    return [
        list(zip(row, values, strict=True))
        for row, values in zip(tokens.tolist(), logprobs.tolist(), strict=True)
    ]


def told(logits: Tensor, tokens: Tensor) -> Tensor:
    """Returns the natural logarithm of the probability that each row gives its token, [b] float32.

    Args:
        logits: [b, v], where the row before a prompt's token stands.
        tokens: [b] int64.
    """
    return logits.float().log_softmax(-1).gather(-1, tokens[:, None]).squeeze(-1)


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
