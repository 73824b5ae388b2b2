"""Borders: places in a text that no token can cross, found from the vocabulary alone.

Tokenizers without a cut of their own, such as LLaMA's, see a whole text as one piece. Two neighbouring
characters that stand side by side in no token are a border all the same: what is left of it and what is
right of it can be encoded apart, and short pieces can be remembered.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable


class Borders:
    """Where texts can be cut without changing a token.

    Args:
        names: of all tokens that the model makes of characters.

    Example:
        >>> Borders(["a", "b", "ab", "ba"]).cut("abcba")
        ['ab', 'c', 'ba']
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._inside = {pair for name in names for pair in itertools.pairwise(name)}
        self._known = {character for pair in self._inside for character in pair}

    def cut(self, piece: str) -> list[str]:
        """Returns the parts of a piece; characters that are in no token stay with each other."""
        inside, known = self._inside, self._known
        parts = []
        start = 0
        for place, pair in enumerate(itertools.pairwise(piece), 1):
            if pair not in inside and (pair[0] in known or pair[1] in known):
                parts.append(piece[start:place])
                start = place
        return [*parts, piece[start:]]
