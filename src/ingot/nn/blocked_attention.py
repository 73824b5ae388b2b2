"""Causal attention for training on CPUs: in pieces whose scores stay in the caches.

PyTorch's flash attention for CPUs is quick forwards and six times slower backwards. Where the machine has
AMX tiles and a compiler, `kernels.attention` does better at both. Elsewhere the five products of attention
and its gradient are plain batched matrix products, for a few rows of the batch and one block of queries at
a time:

```
keys     0      B     2B    3B
queries  | s s                 |  a block of B queries meets the keys up to its own end only, so that
   B     | s s s s             |  nearly half of the products with the masked part are never made;
   2B    | s s s s s s         |  probabilities are kept for the way back (bf16: 2 bytes a score)
```

Where rows hold several documents, each query has a first key that it sees, the beginning of its document;
scores before it are masked.

Dao et al. 2022, arXiv 2205.14135, explain why the scores must not travel to memory and back.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ingot.nn.kernels import attention as tiles

BLOCK = 128  # queries
PIECE_BYTES = 6 << 20  # scores that are worked on at once
LONGEST = 512  # tokens; beyond, probabilities no longer pay their way through memory


def suits(query: Tensor) -> bool:
    """Whether this way is faster than PyTorch's own, on a CPU in bf16.

    Tiles are, except for a prompt on its own, whose few heads may leave threads idle; the way in PyTorch
    is for short sequences of which a gradient is wanted.

    Args:
        query: [b, h, t, e].
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return False
    wanted = torch.is_grad_enabled() and query.requires_grad
    if tiles.suits(query):
        return wanted or query.shape[0] > 1
    return wanted and query.shape[2] <= LONGEST


def attend(query: Tensor, key: Tensor, value: Tensor, starts: Tensor | None = None) -> Tensor:
    """Causal attention, scaled by 1/sqrt(e).

    Probabilities have the inputs' dtype, as in any attention written out under autocast.

    Args:
        query: [b, h, t, e].
        key: [b, k, t, e], k a divisor of h.
        value: [b, k, t, e].
        starts: [b, t] int32, the first key that each query sees, never less than that of the query before;
            None means 0.

    Returns:
        [b, h, t, e].
    """
    if starts is None and tiles.suits(query):
        return tiles.attend(query, key, value)
    mixed, _ = _attend(query, key, value, starts)
    return mixed


def _scores(t: int) -> int:
    """How many scores one head of one row computes."""
    return sum((stop - start) * stop for start, stop in _blocks(t))


def _blocks(t: int) -> list[tuple[int, int]]:
    return [(start, min(start + BLOCK, t)) for start in range(0, t, BLOCK)]


def _mask(start: int, stop: int, shared: int, like: Tensor) -> Tensor:
    """What is added to a block's scores: minus infinity where a key comes after its query. [g*B, keys]."""
    mask = torch.zeros(stop - start, stop, dtype=like.dtype)
    mask[:, start:] = torch.full((stop - start, stop - start), float("-inf"), dtype=like.dtype).triu(1)
    return mask.repeat(shared, 1)


def _hidden(mask: Tensor, starts: Tensor, start: int, stop: int, kv_heads: int, shared: int) -> Tensor:
    """The mask of a block for some rows of the batch, in which queries have a first key. [n*k, g*B, keys]."""
    before = torch.arange(stop, dtype=starts.dtype) < starts[:, start:stop, None]  # [n, B, keys]
    block = mask[: stop - start].masked_fill(before, float("-inf"))
    return block.repeat_interleave(kv_heads, 0).repeat(1, shared, 1)


def _pieces(b: int, h: int, t: int, bytes_each: int) -> Iterator[slice]:
    """Rows of the batch that are worked on together."""
    rows = max(1, PIECE_BYTES // (h * min(BLOCK, t) * t * bytes_each))
    for start in range(0, b, rows):
        yield slice(start, min(start + rows, b))


def _flat(x: Tensor) -> Tensor:
    """[n, k, t, e] -> [n*k, t, e], contiguous: small enough to be copied inside the caches."""
    return x.reshape(-1, *x.shape[2:])


def _grouped(x: Tensor, k: int) -> Tensor:
    """[n, h, t, e] -> [n*k, g*t, e]: the query heads that share a key head stand below one another."""
    n, h, t, e = x.shape
    return x.reshape(n * k, (h // k) * t, e)


@torch.library.custom_op("ingot::blocked_attention", mutates_args=())
def _attend(query: Tensor, key: Tensor, value: Tensor, starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    b, h, t, e = query.shape
    k = key.shape[1]
    mixed = query.new_empty(b, t, h, e).transpose(1, 2)
    kept = query.new_empty(b * h * _scores(t))
    masks = [_mask(start, stop, h // k, query) for start, stop in _blocks(t)]
    at = 0
    for rows in _pieces(b, h, t, query.element_size()):
        keys, values = _flat(key[rows]).mT, _flat(value[rows])
        for (start, stop), mask in reversed(list(zip(_blocks(t), masks, strict=True))):
            queries = _grouped(query[rows, :, start:stop], k)
            if starts is not None:
                mask = _hidden(mask, starts[rows], start, stop, k, h // k)
            scores = torch.baddbmm(mask, queries, keys[..., :stop], alpha=e**-0.5)  # [n*k, g*B, keys]
            chances = kept[at : at + scores.numel()].view_as(scores)
            at += scores.numel()
            torch.softmax(scores, -1, out=chances)
            block = torch.bmm(chances, values[:, :stop])
            mixed[rows, :, start:stop] = block.view(-1, h, stop - start, e)
    return mixed, kept


@_attend.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    b, h, t, e = query.shape
    return query.new_empty(b, t, h, e).transpose(1, 2), query.new_empty(b * h * _scores(t))


@torch.library.custom_op("ingot::blocked_attention_gradient", mutates_args=())
def _gradient(
    given: Tensor, query: Tensor, key: Tensor, value: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    b, h, t, e = query.shape
    k = key.shape[1]
    to_query, to_key, to_value = (
        x.new_empty(b, t, x.shape[1], e).transpose(1, 2) for x in (query, key, value)
    )
    at = 0
    for rows in _pieces(b, h, t, query.element_size()):
        keys, values = _flat(key[rows]), _flat(value[rows]).mT
        sum_key, sum_value = torch.empty_like(keys), torch.empty_like(keys)
        # The last block meets all keys, so it writes the sums that the others are added to.
        for start, stop in reversed(_blocks(t)):
            queries, gives = (_grouped(x[rows, :, start:stop], k) for x in (query, given))
            shape = (len(keys), queries.shape[1], stop)
            count = shape[0] * shape[1] * shape[2]
            chances = kept[at : at + count].view(shape)
            at += count
            before = 0 if stop == t else 1
            sum_value[:, :stop].baddbmm_(chances.mT, gives, beta=before)
            to_chances = torch.bmm(gives, values[..., :stop])
            to_scores = torch._softmax_backward_data(to_chances, chances, -1, query.dtype)
            block = torch.bmm(to_scores, keys[:, :stop]).mul_(e**-0.5)
            to_query[rows, :, start:stop] = block.view(-1, h, stop - start, e)
            sum_key[:, :stop].baddbmm_(to_scores.mT, queries, beta=before, alpha=e**-0.5)
        to_key[rows], to_value[rows] = sum_key.view(-1, k, t, e), sum_value.view(-1, k, t, e)
    return to_query, to_key, to_value


@_gradient.register_fake
def _(
    given: Tensor, query: Tensor, key: Tensor, value: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    b, _, t, e = query.shape
    to_query, to_key, to_value = (
        x.new_empty(b, t, x.shape[1], e).transpose(1, 2) for x in (query, key, value)
    )
    return to_query, to_key, to_value


def _keep(ctx, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs[:3], output[1])


def _backward(ctx, given: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
    return *_gradient(given, *ctx.saved_tensors), None  # hidden keys have chances of 0: no mask is needed


_attend.register_autograd(_backward, setup_context=_keep)
