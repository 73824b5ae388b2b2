"""What finders of repeated passages remember, told piece by piece: a killed run goes on from the last.

A finder goes through a corpus in order, and what it takes out of a text depends on all texts before. What it
learnt of a piece of the corpus is a few hashes: kept beside the piece, they bring the finder to where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingot.data.dedup.paragraphs import Paragraphs, ParagraphsConfig
from ingot.data.dedup.rolling import Hashes
from ingot.data.dedup.runs import Runs
from ingot.data.dedup.substrings import Substrings, SubstringsConfig
from ingot.data.document import Document, Dropped

Cut = Callable[[int, Document], tuple[Document, list[Dropped]]]
"""Takes passages out of a document, given its number: what is left, and an entry for each that went."""

_HASHES, _VALUES = "hashes.npy", "values.npy"


class Memory:
    """A finder of repeated passages, and what it learnt since this was last kept.

    Args:
        drop: takes the repeated passages out of a document and remembers the rest.
        learnt: the set of hashes that it remembers by.
    """

    def __init__(self, drop: Cut, learnt: _Noted) -> None:
        self.drop = drop
        self._learnt = learnt

    def keep(self, folder: Path) -> None:
        """Writes to a folder what was learnt since this was last called."""
        for name, values in zip((_HASHES, _VALUES), self._learnt.since(), strict=True):
            np.save(folder / name, values)

    def recall(self, folder: Path) -> None:
        """Learns again what was kept in a folder; the folders come in their order."""
        hashes, values = (np.load(folder / name, allow_pickle=False) for name in (_HASHES, _VALUES))
        self._learnt.add(hashes, values if len(values) else None)
        self._learnt.since()


def of_paragraphs(least: int) -> Memory:
    """Returns the memory of repeated paragraphs of so many characters or more, empty."""
    finder = _Paragraphs(ParagraphsConfig(min_characters=least))
    return Memory(lambda _, document: finder.drop(document), finder.learnt)


def of_substrings(length: int, text_of: Callable[[int], str]) -> Memory:
    """Returns the memory of repeated passages of so many characters or more, empty.

    Args:
        length: characters.
        text_of: returns an earlier text by its number, just as it was given.
    """
    finder = _Substrings(SubstringsConfig(length=length), text_of)
    return Memory(finder.drop, finder.learnt)


class _Noted(Runs):
    """Hashes that also note what was added, and in which order."""

    def __init__(self) -> None:
        super().__init__()
        self._noted: list[tuple[Hashes, Hashes]] = []

    def add(self, hashes: Hashes, values: Hashes | None = None) -> None:
        super().add(hashes, values)
        if len(hashes):
            self._noted.append((hashes, np.empty(0, np.uint64) if values is None else values))

    def since(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Returns hashes and values since this was last asked."""
        noted, self._noted = self._noted, []
        nothing = np.empty(0, dtype=np.uint64)
        hashes = np.concatenate([nothing, *(one for one, _ in noted)])
        return hashes, np.concatenate([nothing, *(one for _, one in noted)])


class _Paragraphs(Paragraphs):
    def __init__(self, config: ParagraphsConfig) -> None:
        super().__init__(config)
        self._seen = self.learnt = _Noted()


class _Substrings(Substrings):
    def __init__(self, config: SubstringsConfig, text_of: Callable[[int], str]) -> None:
        super().__init__(config, text_of)
        self._places = self.learnt = _Noted()
