"""Routing: which model a name means: aliases, weighted splits that stick to their caller, and shadows.

```
--alias chat=aligned@1          another name
--route chat=a:0.9,b:0.1        nine callers of ten get a, one gets b, each always the same
--shadow a=b:0.05               b answers one in twenty of a's requests again, and nobody hears it
```
"""

from __future__ import annotations

import hashlib
import math
import random
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from pydantic import Field, field_validator

from ingot.config import Config
from ingot.errors import ConfigError, did_you_mean


class Routing(Config):
    """What names mean.

    Args:
        aliases: name to the model that it means.
        splits: name to models with their weights.
        shadows: model to another that also answers a share of its requests.
    """

    aliases: dict[str, str] = Field(default={})
    splits: dict[str, dict[str, float]] = Field(default={})
    shadows: dict[str, tuple[str, float]] = Field(default={})

    @field_validator("splits")
    @classmethod
    def _weights(cls, splits: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for name, weights in splits.items():
            usable = all(math.isfinite(weight) and weight >= 0 for weight in weights.values())
            if not usable or not sum(weights.values()) > 0:
                raise ValueError(f"the weights of '{name}' are not numbers from 0 up, one above it")
        return splits

    @field_validator("shadows")
    @classmethod
    def _shares(cls, shadows: dict[str, tuple[str, float]]) -> dict[str, tuple[str, float]]:
        for name, (target, share) in shadows.items():
            if not 0 <= share <= 1:
                raise ValueError(f"the share {share:g} of '{name}' is not from 0 to 1")
            if target == name:
                raise ValueError(f"'{name}' cannot be its own shadow")
        return shadows


@dataclass(frozen=True)
class Split:
    """Models by weight, the same one for the same caller.

    Args:
        name: that callers ask for; part of the hash, so that splits do not go alike.
        models: to choose from.
        weights: of each, none below 0.

    Example:
        >>> Split("chat", ("a", "b"), (0.9, 0.1)).pick("somebody") in ("a", "b")
        True
    """

    name: str
    models: tuple[str, ...]
    weights: tuple[float, ...]

    def pick(self, caller: str | None) -> str:
        """Returns the model for a caller; None (nobody known) draws one.

        Raising one model's weight moves callers to it from the others and moves nobody between those
        only as far as the borders of their shares shift.
        """
        place = random.random() if caller is None else fraction(f"{self.name}\0{caller}")
        edges = list(accumulate(self.weights))
        index = bisect_right(edges, place * edges[-1])
        return self.models[min(index, len(self.models) - 1)]


def fraction(text: str) -> float:
    """Returns a number in [0, 1) that is the same for the same text and even over different ones."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:6], "big") / 2**48


def read_routing(
    aliases: Sequence[str] = (), routes: Sequence[str] = (), shadows: Sequence[str] = ()
) -> Routing:
    """Reads the command line's forms: `name=model`, `name=a:0.9,b:0.1`, `a=b:0.05`.

    Raises:
        ConfigError: a text of another form, or a weight that is no number.
    """
    splits = {
        name: dict(_weighted(part, f"--route {text}") for part in rest.split(","))
        for text, name, rest in _named(routes, "--route", "NAME=MODEL:WEIGHT,MODEL:WEIGHT")
    }
    also = {
        name: _weighted(rest, f"--shadow {text}")
        for text, name, rest in _named(shadows, "--shadow", "MODEL=OTHER:SHARE")
    }
    plain = {name: rest for _, name, rest in _named(aliases, "--alias", "NAME=MODEL")}
    return Routing.parse({"aliases": plain, "splits": splits, "shadows": also}, where="routing")


def check_names(routing: Routing, served: Iterable[str]) -> None:
    """Checks that every name leads to a model that is served, and none hides another.

    Raises:
        ConfigError: otherwise.
    """
    models = set(served)
    for name in (*routing.aliases, *routing.splits):
        if name in models or (name in routing.aliases and name in routing.splits):
            fix = "choose another name"
            raise ConfigError(f"'{name}' is the name of something else already", where="routing", fix=fix)
    known = models | set(routing.aliases)
    wanted = [
        *routing.aliases.values(),
        *routing.shadows,
        *(target for target, _ in routing.shadows.values()),
    ]
    for model in wanted:
        if model not in models:
            raise ConfigError(
                f"no model '{model}' is served", where="routing", fix=did_you_mean(model, models)
            )
    for weights in routing.splits.values():
        for model in weights:
            if model not in known:
                fix = did_you_mean(model, known)
                raise ConfigError(f"no model '{model}' is served", where="routing", fix=fix)


def _named(texts: Sequence[str], option: str, form: str) -> Iterable[tuple[str, str, str]]:
    for text in texts:
        name, equals, rest = text.partition("=")
        if not (name.strip() and equals and rest.strip()):
            raise ConfigError(f"'{text}' cannot be read", where=option, fix=f"write {form}")
        yield text, name.strip(), rest.strip()


def _weighted(text: str, where: str) -> tuple[str, float]:
    name, colon, weight = text.strip().rpartition(":")
    try:
        if not (name and colon):
            raise ValueError
        return name, float(weight)
    except ValueError:
        raise ConfigError(f"'{text}' has no weight", where=where, fix="write MODEL:0.1") from None
