"""Attention to both sides: every token of a text gathers from all others, or from those near it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ingot.nn.mixed import shortened


class BothSides:
    """Attention to both sides, past padding; in local layers to the near ones only.

    Args:
        mask: [b, t] bool, true where tokens are; None where all are.
        length: t.
        device: of the tokens.
        window: tokens that a local layer sees on each side; None where no layer is local.
        whole: whether a layer sees all.
    """

    def __init__(
        self,
        mask: Tensor | None,
        length: int,
        device: torch.device,
        *,
        window: int | None,
        whole: Callable[[int], bool],
    ) -> None:
        self.whole = whole
        self.seen = None if mask is None else mask[:, None, None]  # [b, 1, 1, t]
        self.near: Tensor | None = None
        if window is not None:
            places = torch.arange(length, device=device)
            distance = (places - places[:, None]).abs()
            near = distance <= window
            # A token of padding among padding would see nothing, which has no softmax: let it see itself.
            self.near = near if self.seen is None else (near & self.seen) | (distance == 0)

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `Attend`."""
        seen = self.seen if self.whole(layer) else self.near
        return scaled_dot_product_attention(
            shortened(query), shortened(key), shortened(value), attn_mask=seen
        )
