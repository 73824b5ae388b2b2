"""Rules between our weights and theirs: which stored tensors are which of ours, both ways, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Change = Callable[[list[Tensor]], list[Tensor]]


@dataclass(frozen=True)
class Rule:
    """Some of our weights, and the stored tensors that hold the same numbers.

    Args:
        ours: names in our model.
        theirs: names in their folder.
        read: their tensors -> ours, in the order of the names.
        write: the inverse.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    read: Change
    write: Change


def _as_they_are(tensors: list[Tensor]) -> list[Tensor]:
    return tensors


def same(ours: str, theirs: str) -> Rule:
    """Returns the rule of a tensor that only has another name."""
    return Rule((ours,), (theirs,), _as_they_are, _as_they_are)


def turned(rule: Rule) -> Rule:
    """Returns a rule whose stored tensors are transposed: [in, out] where a linear layer has [out, in].

    What has one dimension stays as it is.
    """

    def turn(tensors: list[Tensor]) -> list[Tensor]:
        return [one.mT if one.ndim > 1 else one for one in tensors]

    return Rule(
        rule.ours, rule.theirs, lambda theirs: rule.read(turn(theirs)), lambda ours: turn(rule.write(ours))
    )


def transposed(ours: str, theirs: str) -> Rule:
    """Returns the rule of one tensor that is stored transposed."""
    return turned(same(ours, theirs))


def joined(ours: tuple[str, ...], theirs: str, sizes: tuple[int, ...], dim: int = 0) -> Rule:
    """Returns the rule of a stored tensor that is several of ours, one after the other.

    Args:
        ours: names, in order.
        theirs: the name it is stored under.
        sizes: of each of ours along `dim`.
        dim: along which they are joined.
    """
    return Rule(
        ours,
        (theirs,),
        lambda tensors: list(tensors[0].split(sizes, dim)),
        lambda tensors: [torch.cat(tensors, dim)],
    )


def interleaved(ours: tuple[str, ...], theirs: str, heads: int) -> Rule:
    """Returns the rule of a stored tensor in which several of ours alternate, head by head.

    Args:
        ours: names; each has the same number of rows.
        theirs: [heads * parts * e, ...]: the first head's rows of every part, then the second head's.
        heads: how many.
    """
    parts = len(ours)

    def read(tensors: list[Tensor]) -> list[Tensor]:
        (whole,) = tensors
        by_head = whole.unflatten(0, (heads, parts, -1))  # [h, parts, e, ...]
        return [one.flatten(0, 1) for one in by_head.unbind(1)]

    def write(tensors: list[Tensor]) -> list[Tensor]:
        by_head = torch.stack([one.unflatten(0, (heads, -1)) for one in tensors], 1)
        return [by_head.flatten(0, 2)]

    return Rule(ours, (theirs,), read, write)


def stacked(ours: str, theirs: tuple[str, ...]) -> Rule:
    """Returns the rule of one of our tensors whose leading dimension counts theirs (experts).

    Args:
        ours: [x, ...].
        theirs: x names, [...] each.
    """
    return Rule(
        (ours,), theirs, lambda tensors: [torch.stack(tensors)], lambda tensors: list(tensors[0].unbind(0))
    )
