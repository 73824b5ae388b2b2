"""Parameters that are spread over ranks: this rank's part, the whole, and back.

Under fully sharded data parallelism a parameter, its gradient and its state are `DTensor`s. What an
optimizer does element by element it does to the local parts; what needs whole matrices gathers them, or
hands each to an owner. A tensor that is not spread passes through as it is, and `torch.distributed` is
imported only where there is one that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


def is_spread(tensor: Tensor) -> bool:
    """Returns whether a tensor is a `DTensor`."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """Returns this rank's part of a tensor, sharing its memory."""
    spread: Any = tensor
    return spread.to_local() if is_spread(tensor) else tensor


def all_local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Returns this rank's part of every tensor, sharing memory."""
    return [local(tensor) for tensor in tensors]


def whole(tensor: Tensor) -> Tensor:
    """Returns all of a tensor on every rank; collective where it is spread."""
    spread: Any = tensor
    return spread.full_tensor() if is_spread(tensor) else tensor


def spread_like(full: Tensor, like: Tensor) -> Tensor:
    """Returns a whole tensor that every rank holds, spread over them as `like` is; sends nothing.

    Args:
        full: the same on every rank.
        like: of the same shape; where it is not spread, `full` comes back as it is.
    """
    if not is_spread(like) or is_spread(full):
        return full
    from torch.distributed.tensor import distribute_tensor

    spread: Any = like
    return distribute_tensor(full, spread.device_mesh, spread.placements, src_data_rank=None)


def on_wholes(parts: Sequence[Tensor], like: Tensor, compute: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Applies a function of whole matrices to matrices that are spread, each rank doing its share of them.

    Every rank sends its parts of a matrix to that matrix's owner and gets its part of the result back.

    Args:
        parts: this rank's, of matrices that are all of one shape.
        like: one tensor of that shape, spread as they are.
        compute: from [n, rows, columns] to the same shape, matrix by matrix.

    Returns:
        This rank's parts of the results.
    """
    stacked = torch.stack(list(parts))
    if not is_spread(like):
        return list(compute(stacked).unbind())
    from torch.distributed.tensor import DTensor, Shard

    spread: Any = like
    mesh, shape = spread.device_mesh, torch.Size((len(parts), *like.shape))
    size: dict[str, Any] = {"shape": shape, "stride": (like.numel(), *like.stride()), "run_check": False}
    cut = [Shard(p.dim + 1) if p.is_shard() else p for p in spread.placements]
    owned = [Shard(0) if p.is_shard() else p for p in spread.placements]
    mine = DTensor.from_local(stacked, mesh, cut, **size).redistribute(placements=owned).to_local()
    back = DTensor.from_local(compute(mine).contiguous(), mesh, owned, **size).redistribute(placements=cut)
    return list(back.to_local().unbind())
