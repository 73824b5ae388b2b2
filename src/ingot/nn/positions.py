"""Positions: where a token stands, told to attention."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from ingot.nn.rope_scaling import RopeScaling

Angles = tuple[Tensor, Tensor]  # cosines and sines


class _Tables(nn.Module):
    """Buffers that go to the model's device but stay in float32: bf16 angles are wrong ones."""

    def _apply(self, function: Any, recurse: bool = True) -> Self:
        before = dict(self._buffers)
        super()._apply(function, recurse)
        for name, table in before.items():
            moved = self._buffers[name]
            assert table is not None and moved is not None
            self._buffers[name] = table.to(moved.device)
        return self


class Rotary(_Tables):
    """Rotary position embedding: turns pairs of query and key coordinates by an angle per position.

    The pairs are (i, i + e/2), the layout of the Hugging Face models. A dot product of a turned query
    and a turned key then depends on their distance only.

    Long-RoPE has other frequencies for texts beyond its original context: `near` turns those within it, where
    `context` is longer. Both are right for a whole text only, whose length is known (`whole_angles`); a text
    that grows behind a cache has `context`'s from its first token on, because what is cached is turned.

    Args:
        head_width: e, even; the coordinates that are turned, where only some are.
        theta: base of the geometric row of wavelengths.
        context: number of positions whose angles are kept ready.
        scaling: how the frequencies are stretched, or None.

    Source: Su et al. 2021, arXiv 2104.09864, section 3.2.2.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(
        self, head_width: int, theta: float, context: int, scaling: RopeScaling | None = None
    ) -> None:
        super().__init__()
        if head_width % 2:
            raise ValueError(f"rotary positions need an even head width, got {head_width}")
        frequency = theta ** -(torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
        if scaling is not None:
            frequency = scaling.stretched(frequency, theta, context)
        angle = torch.outer(torch.arange(context, dtype=torch.float32), frequency)  # [t, e/2]
        angle = torch.cat([angle, angle], dim=-1)  # [t, e]
        # By way of float64: in float32 the last bits of MKL's cosine depend on where the numbers lie in
        # memory, and a run that went on in a new process had other losses than one that was never killed.
        cosine, sine = angle.double().cos(), angle.double().sin()
        if scaling is not None:
            cosine, sine = cosine * scaling.temperature(), sine * scaling.temperature()
        self.register_buffer("cosine", cosine.float(), persistent=False)
        self.register_buffer("sine", sine.float(), persistent=False)
        self.near: Rotary | None = None
        if scaling is not None and scaling.beyond(context):
            assert scaling.original_context is not None
            self.near = Rotary(head_width, theta, scaling.original_context, scaling)

    def angles(self, positions: Tensor | None, length: int) -> Angles:
        """The cosines and sines for one forward pass, shared by all layers.

        Args:
            positions: [b, t] or [t] int64, or None for 0, 1, ... length - 1.
            length: t.

        Returns:
            Two float32 tensors, [t, 1, e] or [b, t, 1, e], that broadcast over heads.
        """
        if positions is None:
            return self.cosine[:length].unsqueeze(1), self.sine[:length].unsqueeze(1)
        return self.cosine[positions].unsqueeze(-2), self.sine[positions].unsqueeze(-2)

    def whole_angles(self, positions: Tensor | None, length: int) -> Angles:
        """The same for rows that hold whole texts: one within the original context is turned as such."""
        if self.near is None:
            return self.angles(positions, length)
        within = len(self.near.cosine)
        if positions is None:
            return (self.near if length <= within else self).angles(None, length)
        is_near = (positions.amax(-1, keepdim=True) < within)[..., None, None]  # [b, 1, 1, 1], or [1, 1, 1]
        nears = self.near.angles(positions.clamp(max=within - 1), length)
        cosine, sine = self.angles(positions, length)
        return torch.where(is_near, nears[0], cosine), torch.where(is_near, nears[1], sine)


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Turns x [b, t, h, e] by the angles that `Rotary.angles` gave, in x's dtype.

    Where there are angles for fewer than e coordinates, the others stay as they are.
    """
    cosine, sine = angles[0].to(x.dtype), angles[1].to(x.dtype)
    turned = cosine.shape[-1]
    if turned < x.shape[-1]:
        return torch.cat([rotate(x[..., :turned], angles), x[..., turned:]], dim=-1)
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine


class Sinusoidal(nn.Module):
    """Fixed waves that are added to the embeddings: sines and cosines in turn, ever slower.

    Args:
        width: d, even.
        context: number of positions that are kept ready.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.5.
    """

    weight: Tensor

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"sinusoidal positions need an even width, got {width}")
        frequency = 10_000.0 ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
        angle = torch.outer(torch.arange(context, dtype=torch.float64), frequency)  # [t, d/2]
        waves = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)  # [t, d]
        self.register_buffer("weight", waves.float(), persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Args: positions [...] int64. Returns: [..., d]."""
        return self.weight[positions]


class Alibi(_Tables):
    """How much each head minds distance: scores fall by slope times distance.

    The slopes are a geometric row from 2^(-8/h) to 2^-8; where h is no power of two, the row of the power
    below, and then every second one of the row twice as fine.

    Args:
        heads: h.

    Source: Press et al. 2021, arXiv 2108.12409, section 3.
    """

    slopes: Tensor

    def __init__(self, heads: int) -> None:
        super().__init__()
        whole: int = 2 ** math.floor(math.log2(heads))
        row = [2.0 ** (-8 * (i + 1) / whole) for i in range(whole)]
        finer = [2.0 ** (-4 * (i + 1) / whole) for i in range(0, 2 * (heads - whole), 2)]
        self.register_buffer("slopes", torch.tensor(row + finer), persistent=False)
