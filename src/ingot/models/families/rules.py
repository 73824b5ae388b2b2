"""Rules between our weights and theirs: which stored tensors are which of ours, both ways, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ingot.errors import ArtifactError
from ingot.models.config_file import AGAIN
from ingot.models.weight_files import listed

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


def written(rules: Sequence[Rule], state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Returns what a folder stores of a model.

    Args:
        rules: of its family.
        state: our weights by name, on any device.
        dtype: to store them in.
    """
    stored: dict[str, Tensor] = {}
    for rule in rules:
        theirs = rule.write([state[name].detach().to("cpu", dtype) for name in rule.ours])
        stored |= {name: one.contiguous().clone() for name, one in zip(rule.theirs, theirs, strict=True)}
    return stored


def stored_shapes(rules: Sequence[Rule], own: Mapping[str, torch.Size]) -> dict[str, torch.Size]:
    """Returns their names and shapes, as they would be written, from our names and shapes."""
    expected: dict[str, torch.Size] = {}
    for rule in rules:
        theirs = rule.write([torch.empty(own[name], device="meta") for name in rule.ours])
        expected |= {name: one.shape for name, one in zip(rule.theirs, theirs, strict=True)}
    return expected


def fitting(
    rules: Sequence[Rule],
    stored: Mapping[str, Tensor],
    own: Mapping[str, torch.Size],
    spare: Callable[[str], bool],
    folder: Path,
) -> dict[str, Tensor]:
    """Returns our weights, after checking that the stored ones are what `config.json` promises.

    Args:
        rules: of the family.
        stored: what the folder holds, by their names.
        own: shapes of our weights.
        spare: which further names may be left over.
        folder: to name in errors.

    Raises:
        ArtifactError: weights that are missing, too many, of another shape, quantized or not finite.
    """
    expected = stored_shapes(rules, own)
    missing = sorted(expected.keys() - stored.keys())
    if missing:
        one = f"weight '{missing[0]}' is missing"
        what = one if len(missing) == 1 else f"weights are missing: {listed(missing)}"
        raise ArtifactError(what, where=folder, fix=AGAIN)
    extra = sorted(name for name in stored.keys() - expected.keys() if not spare(name))
    if extra:
        what = f"weights of no part: {listed(extra)}; config.json knows nothing of them"
        raise ArtifactError(what, where=folder, fix="check that weights and config.json are of one model")
    for name, shape in expected.items():
        if stored[name].shape != shape:
            said = f"weight '{name}' is {list(stored[name].shape)}, config.json says {list(shape)}"
            raise ArtifactError(said, where=folder, fix=AGAIN)
        if not stored[name].is_floating_point():
            said = f"weight '{name}' is stored as {stored[name].dtype}"
            raise ArtifactError(said, where=folder, fix="load the dense model that it was made from")
        if not all(map(torch.isfinite, torch.aminmax(stored[name]))):  # far sooner than asking each number
            raise ArtifactError(f"weight '{name}' holds NaN or infinity", where=folder, fix=AGAIN)
    state: dict[str, Tensor] = {}
    for rule in rules:
        state |= dict(zip(rule.ours, rule.read([stored[name] for name in rule.theirs]), strict=True))
    return state
