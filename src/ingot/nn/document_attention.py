"""Causal attention inside documents on CPUs: PyTorch's own, for one document after another.

A mask would have all scores of a row computed, and most of them thrown away. Documents by themselves need
those that count only: fewer than plain causal attention, where a row holds several documents.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward_of = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def attend(query: Tensor, key: Tensor, value: Tensor, starts: Tensor) -> Tensor:
    """Causal attention inside documents, scaled by 1/sqrt(e).

    Args:
        query: [b, h, t, e], on a CPU.
        key: [b, k, t, e], k a divisor of h.
        value: [b, k, t, e].
        starts: [b, t] int32, the first token of each token's document.

    Returns:
        [b, h, t, e].
    """
    shared = query.shape[1] // key.shape[1]
    if shared > 1:
        key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    mixed, _ = _attend(query, key, value, starts)
    return mixed


def _documents(starts: Tensor) -> Iterator[tuple[slice, slice]]:
    """Row and tokens of each document."""
    t = starts.shape[1]
    for row, begins in enumerate(starts.tolist()):
        first = 0
        while first < t:
            last = first + 1
            while last < t and begins[last] == first:
                last += 1
            yield slice(row, row + 1), slice(first, last)
            first = last


def _empty(like: Tensor) -> Tensor:
    """[b, h, t, e] in the order [b, t, h, e]."""
    b, h, t, e = like.shape
    return like.new_empty(b, t, h, e).transpose(1, 2)


@torch.library.custom_op("ingot::blocked_attention_by_document", mutates_args=())
def _attend(query: Tensor, key: Tensor, value: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    mixed, logsumexp = _empty(query), query.new_empty(query.shape[:3], dtype=torch.float32)
    for row, tokens in _documents(starts):
        one = (x[row, :, tokens] for x in (query, key, value))
        mixed[row, :, tokens], logsumexp[row, :, tokens] = _forward(*one, 0.0, True)
    return mixed, logsumexp


@_attend.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    return _empty(query), query.new_empty(query.shape[:3], dtype=torch.float32)


@torch.library.custom_op("ingot::blocked_attention_by_document_gradient", mutates_args=())
def _gradient(
    given: Tensor, query: Tensor, key: Tensor, value: Tensor, mixed: Tensor, logsumexp: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    found = _empty(query), _empty(key), _empty(value)
    for row, tokens in _documents(starts):
        one = (x[row, :, tokens] for x in (given, query, key, value, mixed, logsumexp))
        for whole, part in zip(found, _backward_of(*one, 0.0, True), strict=True):
            whole[row, :, tokens] = part
    return found


@_gradient.register_fake
def _(
    given: Tensor, query: Tensor, key: Tensor, value: Tensor, mixed: Tensor, logsumexp: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty(query), _empty(key), _empty(value)


def _keep(ctx, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:  # type: ignore[no-untyped-def]
    ctx.set_materialize_grads(False)  # nobody differentiates logsumexp: no zeros for it
    *qkv, starts = inputs
    ctx.save_for_backward(*qkv, *output, starts)


def _backward(ctx, given: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
    return *_gradient(given, *ctx.saved_tensors), None


_attend.register_autograd(_backward, setup_context=_keep)
