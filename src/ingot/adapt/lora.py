"""Low-rank adaptation: a linear layer's change as the product of two narrow matrices.

```
y = W x + up (down x)          down [r, i], up [o, r], r much smaller than i and o
```

In a batch of several requests each has its own change, or none; W x is computed once for all of them.

| letter | meaning | letter | meaning |
|---|---|---|---|
| t | tokens of a pass | r | rank |
| i | inputs of a layer | o | outputs |

Source: Hu et al. 2021, arXiv 2106.09685, section 4.1; a batch of many: Chen et al. 2023 (Punica),
arXiv 2310.18547, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Places = slice | Tensor
"""Which tokens of a pass: neighbours, or [n] int64 indexes."""


class LowRank(NamedTuple):
    """The change of one linear layer; the scale is in `up` already."""

    down: Tensor  # [r, i]
    up: Tensor  # [o, r]

    def dense(self) -> Tensor:
        """Returns what would be added to the weight, [o, i]."""
        return self.up @ self.down


def scale(alpha: float, rank: int, stable: bool) -> float:
    """Returns the factor of a change.

    Args:
        alpha: the numerator that it was trained with.
        rank: r.
        stable: divided by the root of the rank (Kalajdzievski 2023, arXiv 2312.03732, section 3), not by it.

    Example:
        >>> scale(16, 4, stable=False), scale(16, 4, stable=True)
        (4.0, 8.0)
    """
    return alpha / (math.sqrt(rank) if stable else rank)


def add(y: Tensor, x: Tensor, parts: Sequence[tuple[LowRank, Places]]) -> None:
    """Adds to each token's output what its own change makes of its input.

    Args:
        y: [t, o], changed in place.
        x: [t, i], what the layer read.
        parts: changes, each with its tokens; no token is in two of them.
    """
    for change, places in parts:
        if isinstance(places, slice):
            y[places].addmm_(x[places] @ change.down.T, change.up.T)
        else:
            y.index_add_(0, places, (x[places] @ change.down.T) @ change.up.T)


def places_of(owners: Sequence[int], starts: Sequence[int], device: torch.device) -> dict[int, Places]:
    """Returns the tokens of each owner in a flat pass.

    Args:
        owners: of each segment; below zero is nobody's.
        starts: n + 1 numbers: segment i is tokens starts[i] to starts[i + 1] - 1.
        device: of the indexes.

    Returns:
        A slice where an owner's segments are neighbours, else indexes.

    Example:
        >>> places_of([2, 2, -1], [0, 3, 4, 9], torch.device("cpu"))
        {2: slice(0, 4, None)}
    """
    spans: dict[int, list[list[int]]] = {}
    for owner, start, stop in zip(owners, starts, starts[1:], strict=False):
        if owner < 0 or start == stop:
            continue
        held = spans.setdefault(owner, [])
        if held and held[-1][1] == start:
            held[-1][1] = stop
        else:
            held.append([start, stop])
    return {
        owner: slice(*held[0])
        if len(held) == 1
        else torch.tensor([i for start, stop in held for i in range(start, stop)], device=device)
        for owner, held in spans.items()
    }
