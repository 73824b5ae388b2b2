"""Positions: where a token stands, told to attention."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

Angles = tuple[Tensor, Tensor]  # cosines and sines


class Rotary(nn.Module):
    """Rotary position embedding: turns pairs of query and key coordinates by an angle per position.

    The pairs are (i, i + e/2), the layout of the Hugging Face models. A dot product of a turned query
    and a turned key then depends on their distance only.

    Args:
        head_width: e, even.
        theta: base of the geometric row of wavelengths.
        context: number of positions whose angles are kept ready.

    Source: Su et al. 2021, arXiv 2104.09864, section 3.2.2.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, head_width: int, theta: float, context: int) -> None:
        super().__init__()
        if head_width % 2:
            raise ValueError(f"rotary positions need an even head width, got {head_width}")
        frequency = theta ** -(torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
        angle = torch.outer(torch.arange(context, dtype=torch.float32), frequency)  # [t, e/2]
        angle = torch.cat([angle, angle], dim=-1)  # [t, e]
        # By way of float64: in float32 the last bits of MKL's cosine depend on where the numbers lie in
        # memory, and a run that went on in a new process had other losses than one that was never killed.
        self.register_buffer("cosine", angle.double().cos().float(), persistent=False)
        self.register_buffer("sine", angle.double().sin().float(), persistent=False)

    def _apply(self, function: Any, recurse: bool = True) -> Self:
        """Moves the tables to the model's device but leaves them in float32: bf16 angles are wrong ones."""
        cosine, sine = self.cosine, self.sine
        super()._apply(function, recurse)
        self.cosine, self.sine = cosine.to(self.cosine.device), sine.to(self.sine.device)
        return self

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


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Turns x [b, t, h, e] by the angles that `Rotary.angles` gave, in x's dtype."""
    cosine, sine = angles[0].to(x.dtype), angles[1].to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine
