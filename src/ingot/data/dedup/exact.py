"""Exact duplicates, and what a duplicate is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Duplicate:
    """Text `index` repeats the earlier text `of`; `similarity` is 1.0 for an exact copy."""

    index: int
    of: int
    similarity: float


def text_hash(text: str) -> bytes:
    """Returns 16 bytes that stand for a text: two texts that differ share them with a chance of 2^-128.

    Half characters (surrogates), which UTF-8 cannot write, count as what they are.
    """
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def exact_duplicates(texts: Iterable[str]) -> list[Duplicate]:
    """Finds texts that are the same, character for character, as an earlier one.

    Args:
        texts: in order of preference: of two, the earlier stays. About 100 bytes are kept of each.

    Returns:
        One entry per text to drop, in order.

    Example:
        >>> exact_duplicates(["a", "b", "a"])
        [Duplicate(index=2, of=0, similarity=1.0)]
    """
    first: dict[bytes, int] = {}
    found = []
    for index, text in enumerate(texts):
        original = first.setdefault(text_hash(text), index)
        if original != index:
            found.append(Duplicate(index, original, 1.0))
    return found
