"""How rotary positions are stretched to contexts longer than those that a model learned on."""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ingot.config import Config


class RopeScaling(Config):
    """How the frequencies of rotary positions differ from plain ones.

    ```
    linear     all divided by the factor (Chen et al. 2023, arXiv 2306.15595)
    dynamic    plain up to the context that was learned on, which is as far as a model here goes
    yarn       quick ones stay, slow ones are divided, those between are mixed (Peng et al. 2023,
               arXiv 2309.00071, section 3.2)
    llama3     the same by wavelength (Llama 3: Grattafiori et al. 2024, arXiv 2407.21783, section 3.4.2)
    longrope   each divided by a number of its own (Ding et al. 2024, arXiv 2402.13753); a model has two rows
               of them, one for texts within the original context and one for longer ones
    ```

    Args:
        kind: which of these.
        factor: how much longer the context becomes.
        original_context: tokens of the context before.
        low, high: llama3: wavelengths longer than original_context / low are divided, those shorter than
            original_context / high stay.
        fast, slow: yarn: turns in the original context from which on a frequency stays, and up to which it
            is divided.
        attention: multiplies the rotated queries and keys; None is what the kind's paper says.
        mscale, mscale_all: yarn as DeepSeek has it: attention is the ratio of both.
        truncate: yarn: whether the borders are rounded to whole coordinates.
        short, long: longrope: e/2 numbers each, up to the original context and beyond it.
    """

    kind: Literal["linear", "dynamic", "yarn", "llama3", "longrope"]
    factor: float = Field(default=1.0, gt=0)
    original_context: int | None = Field(default=None, gt=0)
    low: float | None = Field(default=None, gt=0)
    high: float | None = Field(default=None, gt=0)
    fast: float | None = Field(default=None, gt=0)
    slow: float | None = Field(default=None, gt=0)
    attention: float | None = Field(default=None, gt=0)
    mscale: float | None = None
    mscale_all: float | None = None
    truncate: bool = True
    short: tuple[float, ...] | None = None
    long: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        wanted = {
            "yarn": ("original_context",),
            "llama3": ("original_context", "low", "high"),
            "longrope": ("original_context", "short", "long"),
        }
        for key in wanted.get(self.kind, ()):
            if getattr(self, key) is None:
                raise ValueError(f"{self.kind} needs {key}")
        if self.kind == "llama3" and self.low == self.high:
            raise ValueError("low and high must differ")
        return self

    def beyond(self, context: int) -> bool:
        """Whether texts of so many tokens have other frequencies than those within the original context."""
        return self.kind == "longrope" and context > (self.original_context or 0)

    def stretched(self, frequency: Tensor, theta: float, context: int = 0) -> Tensor:
        """Returns the frequencies to turn by.

        Args:
            frequency: [e/2] plain ones, the quickest first.
            theta: their base.
            context: tokens of the longest text.

        Raises:
            ValueError: longrope has another number of factors than there are frequencies.
        """
        if self.kind == "linear":
            return frequency / self.factor
        if self.kind == "yarn":
            return self._by_place(frequency, theta)
        if self.kind == "llama3":
            return self._by_wavelength(frequency)
        if self.kind == "longrope":
            row = self.long if self.beyond(context) else self.short
            assert row is not None
            if len(row) != len(frequency):
                raise ValueError(f"longrope has {len(row)} factors for {len(frequency)} frequencies")
            return frequency / torch.tensor(row, dtype=frequency.dtype)
        return frequency

    def _by_place(self, frequency: Tensor, theta: float) -> Tensor:
        assert self.original_context is not None
        width = 2 * len(frequency)
        around = self.original_context / (2 * math.pi)

        def place(turns: float) -> float:
            """The coordinate that turns so many times in the original context."""
            return width * math.log(around / turns) / (2 * math.log(theta))

        first, last = place(self.fast or 32.0), place(self.slow or 1.0)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, width - 1)
        ramp = (torch.arange(len(frequency), dtype=torch.float32) - first) / ((last - first) or 0.001)
        divided = ramp.clamp(0, 1)
        return frequency * (1 - divided) + frequency / self.factor * divided

    def _by_wavelength(self, frequency: Tensor) -> Tensor:
        assert self.original_context is not None and self.low is not None and self.high is not None
        turns = self.original_context * frequency / (2 * math.pi)  # in the original context
        kept = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return (1 - kept) * frequency / self.factor + kept * frequency

    def temperature(self) -> float:
        """Returns what rotated queries and keys are multiplied by."""
        if self.attention is not None:
            return self.attention
        if self.kind == "yarn":
            if self.mscale and self.mscale_all:
                return _yarn(self.factor, self.mscale) / _yarn(self.factor, self.mscale_all)
            return _yarn(self.factor, 1.0)
        if self.kind == "longrope" and self.factor > 1:
            assert self.original_context is not None
            return math.sqrt(1 + math.log(self.factor) / math.log(self.original_context))
        return 1.0


def _yarn(factor: float, weight: float) -> float:
    """Peng et al. 2023, arXiv 2309.00071, equation 22."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def longer_theta(theta: float, factor: float, width: int) -> float:
    """Returns the base that stretches the slowest frequency by a factor and leaves the quickest (static NTK).

    Args:
        theta: the base so far.
        factor: how much longer the context becomes.
        width: coordinates that are turned.

    Source: Peng et al. 2023, arXiv 2309.00071, equation 16.

    Example:
        >>> round(longer_theta(10_000.0, 4.0, 64))
        41829
    """
    return theta * float(factor ** (width / (width - 2)))
