"""Which parameter learns how fast: by its role in the network, its block, and patterns over its name.

```
role (embedding, head, matrix, kernel, vector) -> rate and weight decay of the optimizer
block number                                   -> rate * layer_decay ^ (blocks above it)
first pattern that matches the name            -> other rate, other decay, or frozen
```
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from ingot.config import Config
from ingot.errors import ConfigError

Role = Literal["embedding", "head", "vector", "kernel", "matrix"]

_NUMBER = re.compile(r"(?:^|\.)(\d+)(?=\.)")


class GroupConfig(Config):
    """Other settings for the parameters whose names match a pattern.

    Args:
        match: shell pattern over dotted names (`blocks.0.*`, `*.norm.weight`); `*` crosses dots. Of several
            groups the first that matches counts.
        rate_scale: times the rate that they would have.
        rate: instead of the rate that they would have; layer decay does not touch it.
        weight_decay: instead of the one that they would have.
        frozen: whether they keep their values and get no gradient.

    Example:
        >>> GroupConfig(match="embedding*", frozen=True).weight_decay is None
        True
    """

    match: str = Field(min_length=1)
    rate_scale: float = Field(default=1.0, ge=0)
    rate: float | None = Field(default=None, ge=0)
    weight_decay: float | None = Field(default=None, ge=0)
    frozen: bool = False

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        if self.rate is not None and self.rate_scale != 1:
            raise ValueError(f"rate ({self.rate}) and rate_scale ({self.rate_scale}) exclude each other")
        return self


class Assignment(NamedTuple):
    """How one parameter is trained."""

    name: str
    parameter: Tensor
    role: Role
    rate: float
    weight_decay: float
    frozen: bool


def role(name: str, parameter: Tensor) -> Role:
    """Returns the part that a parameter plays, read from its name and its dimensions."""
    if name.startswith(("embedding", "position", "segment")) or name.endswith(".relative.table.weight"):
        return "embedding"  # a table whose rows are looked up: most get no gradient from a token
    if name.startswith("head"):
        return "head"
    if parameter.dim() < 2:
        return "vector"
    stacked = parameter.dim() == 3 and ".experts." in name  # a matrix per expert
    return "matrix" if parameter.dim() == 2 or stacked else "kernel"


def assign(
    model: nn.Module,
    rate: Callable[[Role], float],
    weight_decay: Callable[[Role], float],
    groups: Sequence[GroupConfig] = (),
    layer_decay: float | None = None,
) -> list[Assignment]:
    """Decides how every parameter that wants a gradient is trained.

    Args:
        model: whose parameters; nothing is changed.
        rate: of a role.
        weight_decay: of a role.
        groups: exceptions; the first that matches counts.
        layer_decay: factor between the rates of one block and the block above it, or None.

    Returns:
        One assignment per parameter, in the model's order.

    Raises:
        ConfigError: a pattern matches no parameter, or only what earlier patterns took.
    """
    named = list(model.named_parameters())
    scales = layer_scales([name for name, _ in named], layer_decay)
    ordinary = GroupConfig(match="*")
    used: set[int] = set()
    result = []
    for name, parameter in named:
        number = next((i for i, g in enumerate(groups) if fnmatchcase(name, g.match)), None)
        group = ordinary if number is None else groups[number]
        used |= set() if number is None else {number}
        if not parameter.requires_grad:
            continue
        part = role(name, parameter)
        scaled = rate(part) * scales[name] * group.rate_scale
        decay = weight_decay(part) if group.weight_decay is None else group.weight_decay
        chosen = scaled if group.rate is None else group.rate
        result.append(Assignment(name, parameter, part, chosen, decay, group.frozen))
    for number, group in enumerate(groups):
        if number not in used:
            raise _unused(group, number, [name for name, _ in named])
    return result


def layer_scales(names: Sequence[str], layer_decay: float | None) -> dict[str, float]:
    """Returns what to multiply each parameter's rate by, so that lower blocks learn more slowly.

    The block is the first number in a dotted name. The last block of each stack, the head and the last
    norm keep their rate; each block below has `layer_decay` times the rate of the one above it, and the
    embedding that of a block below the first.

    Source: discriminative fine-tuning, Howard and Ruder 2018, arXiv 1801.06146, section 3.2.

    Args:
        names: dotted, of parameters.
        layer_decay: the factor; None is 1.

    Example:
        >>> layer_scales(["embedding.weight", "blocks.0.w", "blocks.1.w", "head.weight"], 0.5)
        {'embedding.weight': 0.25, 'blocks.0.w': 0.5, 'blocks.1.w': 1.0, 'head.weight': 1.0}
    """
    if layer_decay is None:
        return dict.fromkeys(names, 1.0)
    places = {name: _NUMBER.search(name) for name in names}
    heights: dict[str, int] = defaultdict(int)
    for name, place in places.items():
        if place is not None:
            stack = name[: place.start()]
            heights[stack] = max(heights[stack], int(place[1]) + 1)
    highest = max(heights.values(), default=0)

    def blocks_above(name: str) -> int:
        place = places[name]
        if name.startswith(("embedding", "position")):
            return highest
        return 0 if place is None else heights[name[: place.start()]] - 1 - int(place[1])

    return {name: layer_decay ** blocks_above(name) for name in names}


def _unused(group: GroupConfig, number: int, names: Iterable[str]) -> ConfigError:
    names = sorted(names)
    where = f"optimizer.groups.{number}.match"
    if any(fnmatchcase(name, group.match) for name in names):
        what = f"'{group.match}' matches only parameters that earlier groups took"
        return ConfigError(what, where=where, fix="put the narrower pattern first, or leave this one out")
    near = difflib.get_close_matches(group.match.strip("*"), names, n=3, cutoff=0.0)
    what = f"'{group.match}' matches no parameter"
    return ConfigError(what, where=where, fix="nearest names: " + ", ".join(near))
