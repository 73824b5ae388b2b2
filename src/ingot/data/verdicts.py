"""Verdicts: which documents of a whole corpus stay, decided from their rows.

In this order: a sample, where one is asked for; exact duplicates, by 128 bits of their hash; near
duplicates, by their true Jaccard similarity. Repeated passages are taken out of those that stay afterwards
(passages.py). Of two that are alike the earlier stays. Nothing here depends on how many workers there are.
"""

from __future__ import annotations

import functools
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingot.data.dedup import MinHashConfig, near_duplicates_of, shingles
from ingot.data.dedup.shingles import WordHashes
from ingot.data.holdout import sampled
from ingot.data.passages import Texts, Whole
from ingot.data.rows import Access, Rows
from ingot.data.signatures import signatures
from ingot.progress import Progress

KEPT, NOT_SAMPLED, CHANGED, EXACT, NEAR, EMPTIED = range(6)
"""States of a document."""


class Deduplication(NamedTuple):
    """What repeats are dropped.

    Args:
        near: documents of this Jaccard similarity or more; None drops exact copies only.
        paragraphs: repeated paragraphs of so many characters or more; None leaves them.
        substrings: repeated passages of so many characters or more; None leaves them.
        least: bytes; a document of which fewer are left goes too.
    """

    near: float | None = 0.8
    paragraphs: int | None = None
    substrings: int | None = None
    least: int = 1


@dataclass(frozen=True)
class Verdicts:
    """What becomes of every document.

    Args:
        state: [n] int8, one of the states above.
        of: [n] int64, which document an exact or near duplicate repeats.
        similarity: [n] float64, to that one.
        texts: as they are after passages were taken out.
        sizes: [n] int64, their bytes.
        revised: [n] bool, whether passages were taken out.
        sample_of: how many clean documents a sample was drawn from; None is no sample.
        ledgers: files that say which passages were taken out.
    """

    state: NDArray[np.int8]
    of: NDArray[np.int64]
    similarity: NDArray[np.float64]
    texts: Texts
    sizes: NDArray[np.int64]
    revised: NDArray[np.bool_]
    sample_of: int | None = None
    ledgers: list[Path] = field(default_factory=list)

    @property
    def kept(self) -> NDArray[np.bool_]:
        """[n], which documents stay."""
        return self.state == KEPT


@dataclass
class _Judge:
    """The decisions, step by step, each for the documents that the earlier ones left."""

    rows: Rows
    work: Path
    progress: Progress

    def __post_init__(self) -> None:
        n = len(self.rows)
        self.state = np.zeros(n, dtype=np.int8)
        self.of = np.full(n, -1, dtype=np.int64)
        self.similarity = np.zeros(n, dtype=np.float64)

    @property
    def kept(self) -> NDArray[np.bool_]:
        return self.state == KEPT

    def leave_out(self, changed: Set[str]) -> None:
        if changed:
            wrong = [number for number, name in enumerate(self.rows.names) if name in changed]
            self.state[np.isin(self.rows.sources, wrong)] = CHANGED

    def sample(self, count: int) -> int | None:
        """Keeps so many; returns of how many, or None where there are no more."""
        kept = self.kept
        alive = np.flatnonzero(kept)
        if len(alive) <= count:
            return None
        ids = (id for id, wanted in zip(self.rows.ids(), kept, strict=True) if wanted)
        self.state[alive] = NOT_SAMPLED
        self.state[alive[sampled(ids, count)]] = KEPT
        return len(alive)

    def exact(self) -> None:
        for number, first in exact_copies(self.rows.hashes, self.kept):
            self.state[number], self.of[number], self.similarity[number] = EXACT, first, 1.0

    def near(self, threshold: float, seed: int, workers: int) -> None:
        kept = self.kept
        alive = np.flatnonzero(kept)
        access = Access(self.rows)
        grams = functools.partial(shingles, word_hashes=WordHashes())
        with self.progress.task("making signatures", len(alive), "documents") as task:
            signed = signatures(self.rows, kept, MinHashConfig(seed=seed), self.work, workers, task)
        # Each document is grouped with those that share a band, then compared with them.
        with self.progress.task("finding near-duplicates", 2 * len(alive), "steps") as task:
            found = near_duplicates_of(
                signed,
                lambda index: access.text(int(alive[index])),
                threshold,
                bands=None,
                task=task,
                shingles_of=grams,
                folder=self.work,
            )
        for one in found:
            number = alive[one.index]
            self.state[number], self.of[number], self.similarity[number] = NEAR, alive[one.of], one.similarity


def judge(
    rows: Rows,
    near: float | None,
    max_documents: int | None,
    changed: Set[str],
    work: Path,
    workers: int,
    seed: int,
    progress: Progress,
) -> Verdicts:
    """Decides which whole documents stay.

    Args:
        rows: of the corpus.
        near: the Jaccard similarity of near duplicates; None drops exact copies only.
        max_documents: a sample of so many; None is all.
        changed: names of sources whose documents are not to be used.
        work: for working files.
        workers: processes.
        seed: of the hash functions.
        progress: is told how far it is.
    """
    judged = _Judge(rows, work, progress)
    judged.leave_out(changed)
    sample_of = None if max_documents is None else judged.sample(max_documents)
    judged.exact()
    if near is not None:
        judged.near(near, seed, workers)
    nothing = np.zeros(len(rows), dtype=bool)
    return Verdicts(
        judged.state, judged.of, judged.similarity, Whole(rows), rows.sizes.copy(), nothing, sample_of
    )


def exact_copies(hashes: NDArray[np.uint64], among: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Finds documents whose text is that of an earlier one.

    Args:
        hashes: [n, 2], of the texts.
        among: [n], which to look at.

    Returns:
        Pairs of a document and the first one with its text, ascending.
    """
    numbers = np.flatnonzero(among)
    order = numbers[np.lexsort((hashes[numbers, 1], hashes[numbers, 0]))]  # stable: equal ones stay in order
    same = np.zeros(len(order), dtype=bool)
    same[1:] = (hashes[order[1:]] == hashes[order[:-1]]).all(axis=1)
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
    pairs = zip(order[same].tolist(), order[first[same]].tolist(), strict=True)
    return sorted(pairs)
