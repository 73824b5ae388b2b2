"""Which examples are held out: those whose text a keyed hash puts first, equal texts on the same side."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

ASKED = ("text", "words", "question", "context", "first", "source")
"""Keys of what a model is given; examples that agree in them must not be on both sides."""


class Sides(NamedTuple):
    """Examples to learn from, and others to measure on."""

    train: list[dict[str, Any]]
    heldout: list[dict[str, Any]]


def split(examples: Sequence[dict[str, Any]], share: float) -> Sides:
    """Holds a share of the examples out, the same ones in every run.

    Args:
        examples: of one task; their order is kept.
        share: of the different texts.

    Example:
        >>> [len(side) for side in split([{"text": str(i)} for i in range(20)], 0.1)]
        [18, 2]
    """
    keys = [_key(example) for example in examples]
    queue = sorted(set(keys))
    front = set(queue[: max(1, round(share * len(queue)))]) if len(queue) > 1 else set()
    train = [example for example, key in zip(examples, keys, strict=True) if key not in front]
    heldout = [example for example, key in zip(examples, keys, strict=True) if key in front]
    return Sides(train, heldout)


def _key(example: dict[str, Any]) -> bytes:
    asked = [example[key] for key in ASKED if key in example]
    return hashlib.blake2b(json.dumps(asked).lower().encode(), digest_size=16).digest()
