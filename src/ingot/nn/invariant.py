"""Arithmetic that does not depend on company: a row is computed alike wherever it stands, whatever beside it.

```
x [n, i] -> tiles of the same few rows -> x w^T of each -> y [n, o]    gradient: ordinary products of all rows
silu(x)  -> whole vectors, never a rest that another loop computes     gradient: the ordinary one
```

PyTorch's products sum in another order for other numbers of rows, and some of its activations compute the
last few numbers of a tensor in another way than the others. While `RowTiles` is entered, whatever model runs
is computed in tiles. Norms, softmax and all that only adds and multiplies treat rows alike as they are.

That batch size is what makes answers differ, and fixed shapes the cure, is He et al. 2025, "Defeating
nondeterminism in LLM inference" (Thinking Machines Lab); there, too, the same kernels in sampler and trainer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

WHOLE = 64
"""Numbers that vector loops take at once are a divisor of this."""

PIECE = 2**15
"""Numbers that an activation is computed of at once: no more than PyTorch gives to one thread."""

ALIGNED = 64
"""Bytes: products of few rows are summed in another order where these do not begin at a multiple."""

TRIED = 2**11
"""Results of a layer that are looked at, at least: of short sums, most are the same in any order."""

CURVES = frozenset({functional.silu, functional.gelu, functional.softplus, torch.sigmoid, Tensor.sigmoid})
"""Activations whose last numbers PyTorch computes in another way."""


class RowTiles(TorchFunctionMode):
    """While entered, linear layers and activations compute every row alike; gradients are the ordinary ones.

    Args:
        rows: of a tile, as `steady_rows` found them.

    Example:
        >>> layer, x = nn.Linear(4, 4), torch.randn(100, 4)
        >>> with RowTiles(8):
        ...     torch.equal(layer(x)[70:71], layer(x[70:71]))
        True
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        own = getattr(torch.ops.ingot, "product", None)  # of `linear`, where it is registered
        self._products = {functional.linear, *(() if own is None else (own, own.default))}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Takes the place of what would depend on the number of rows."""
        kwargs = kwargs or {}
        if func in self._products:
            return tiled_product(*args, rows=self.rows, **kwargs)
        if func in CURVES and not kwargs.get("inplace"):
            return exactly(
                lambda x: in_whole_vectors(lambda part: func(part, *args[1:], **kwargs), x),
                lambda x: func(x, *args[1:], **kwargs),
                args[0],
            )
        return func(*args, **kwargs)


def tiled_product(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, rows: int) -> Tensor:
    """x w^T + b over tiles of so many rows; the gradient is made of ordinary products.

    Args:
        input: [..., i], named as PyTorch names it.
        weight: [o, i].
        bias: [o].
        rows: of a tile.

    Returns:
        [..., o], in the type that autocast asks for, else in the input's.
    """
    kind = input.device.type
    if torch.is_autocast_enabled(kind):
        short = torch.get_autocast_dtype(kind)
        input, weight = input.to(short), weight.to(short)
        bias = None if bias is None else bias.to(short)
    flat = input.reshape(-1, input.shape[-1])
    made = _TiledProduct.apply(flat, weight, bias, rows) if _learns(flat, weight, bias) else None
    if made is None:
        made = _tiles(flat, weight, bias, rows)
    return made.view(*input.shape[:-1], len(weight))


def _tiles(x: Tensor, weight: Tensor, bias: Tensor | None, rows: int) -> Tensor:
    """x [n, i] -> [n, o]."""
    count = len(x)
    if count % rows:  # the last tile is filled up with the last row
        x = torch.cat([x, x[-1:].expand(rows - count % rows, -1)])
    x = x.contiguous()
    made = x.new_empty(len(x), len(weight))
    for first in range(0, len(x), rows):
        tile = x[first : first + rows]
        if tile.data_ptr() % ALIGNED:
            tile = tile.clone()
        made[first : first + rows] = functional.linear(tile, weight, bias)
    return made[:count]


class _TiledProduct(torch.autograd.Function):
    """Forwards in tiles, backwards at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rows: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _tiles(x, weight, bias, rows)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias, _ = ctx.needs_input_grad
        return (
            given @ weight if to_x else None,
            given.T @ x if to_weight else None,
            given.sum(0) if to_bias else None,
            None,
        )


def in_whole_vectors(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a function of single numbers so that no number's place among the others matters.

    Args:
        function: from any tensor to one of its shape and type.
        x: of any shape.
    """
    flat = x.reshape(-1)
    count = flat.numel()
    flat = functional.pad(flat, (0, -count % WHOLE))
    made = torch.empty_like(flat)
    for first in range(0, len(flat), PIECE):
        made[first : first + PIECE] = function(flat[first : first + PIECE])
    return made[:count].view(x.shape)


def exactly(exact: Callable[..., Tensor], ordinary: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor:
    """Computes a function in one way and its gradient in another, which is the same but for rounding.

    Args:
        exact: gives the result; no gradient goes through it.
        ordinary: the same function; run again in the backward pass, and differentiated.
        tensors: what both are given.
    """
    return _Exactly.apply(exact, ordinary, *tensors) if _learns(*tensors) else exact(*tensors)


class _Exactly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exact: Any, ordinary: Any, *tensors: Tensor | None) -> Tensor:
        ctx.ordinary = ordinary
        ctx.kind = next(x.device.type for x in tensors if x is not None)
        ctx.short = torch.get_autocast_dtype(ctx.kind) if torch.is_autocast_enabled(ctx.kind) else None
        ctx.save_for_backward(*tensors)
        made: Tensor = exact(*tensors)
        return made

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[2:]
        inputs = [
            x if x is None else x.detach().requires_grad_(wish)
            for x, wish in zip(ctx.saved_tensors, wanted, strict=True)
        ]
        around: AbstractContextManager[Any] = nullcontext()
        if ctx.short is not None:
            around = torch.autocast(ctx.kind, dtype=ctx.short)
        with torch.enable_grad(), around:
            made = ctx.ordinary(*inputs)
        asked = [x for x, wish in zip(inputs, wanted, strict=True) if x is not None and wish]
        found = iter(torch.autograd.grad(made, asked, given.to(made.dtype)))
        return (None, None, *(next(found) if wish else None for wish in wanted))


def _learns(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def steady_rows(model: nn.Module, most: int, short: torch.dtype | None = None) -> int:
    """Returns the rows of a tile in which every row is computed alike: `most`, half of it, ... or 1.

    Kernels for matrices of odd sizes may treat the last rows in another way, which one sees by trying.

    Args:
        model: whose linear layers are tried, one of each size.
        most: rows to begin with.
        short: type that autocast has products run in; None is the weights' own.
    """
    layers: dict[tuple[object, ...], tuple[nn.Module, int]] = {}
    for layer in model.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() == 2 and not isinstance(layer, nn.Embedding):
            layers[type(layer), weight.shape, weight.dtype] = layer, weight.shape[1]
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    rows = most
    while rows > 1 and not all(_alike(*layer, rows, own, short) for layer in layers.values()):
        rows //= 2
    return max(rows, 1)


@torch.no_grad()
def _alike(layer: nn.Module, width: int, rows: int, kind: torch.dtype, short: torch.dtype | None) -> bool:
    """Whether a layer computes a row bit for bit alike at any place in a tile, beside any others."""
    generator = torch.Generator().manual_seed(0)
    seen = 0
    with nullcontext() if short is None else torch.autocast("cpu", dtype=short):
        while seen < TRIED:
            several = torch.randn(rows, width, generator=generator).to(kind)
            made: Tensor = layer(several[None])[0]
            for shift in range(1, rows):
                moved = layer(several.roll(shift, 0)[None])[0]
                if not torch.equal(moved.roll(-shift, 0), made):
                    return False
            seen += made.numel()
    return True
