"""Freezing: weights, named by patterns, that keep their values while the others are trained."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from ingot.errors import ConfigError


def freeze(model: nn.Module, patterns: Sequence[str], where: str = "freeze") -> list[str]:
    """Has the weights whose names match a pattern get no gradient: optimizers made afterwards leave them out.

    Args:
        model: changed in place.
        patterns: shell patterns over dotted names (`embedding*`, `blocks.[01].*`); `*` crosses dots.
        where: to name in an error.

    Returns:
        The names of the frozen weights, in the model's order. A tied head is frozen by the embedding's name.

    Raises:
        ConfigError: a pattern matches no weight (with the nearest names), or nothing is left to train.

    Example:
        >>> freeze(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), ["0.*"])
        ['0.weight', '0.bias']
    """
    chosen = matching([name for name, _ in model.named_parameters()], patterns, where)
    for name, parameter in model.named_parameters():
        if name in chosen:
            parameter.requires_grad_(False)
    return [name for name, _ in model.named_parameters() if name in chosen]


def matching(names: Iterable[str], patterns: Sequence[str], where: str = "freeze") -> set[str]:
    """Returns the names that match a pattern; see `freeze`."""
    known = list(names)
    chosen: set[str] = set()
    for pattern in patterns:
        found = {name for name in known if fnmatchcase(name, pattern)}
        if not found:
            near = difflib.get_close_matches(pattern.strip("*."), known, n=3, cutoff=0.0)
            what = f"'{pattern}' matches no weight"
            raise ConfigError(what, where=where, fix="nearest names: " + ", ".join(near))
        chosen |= found
    if patterns and len(chosen) == len(known):
        raise ConfigError("every weight is frozen", where=where, fix="leave some weight to train")
    return chosen
