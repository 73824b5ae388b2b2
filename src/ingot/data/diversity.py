"""Diversity: how a corpus is spread over languages, kinds, licences, sources, lengths; where two differ.

Two corpora (or the two sides of one) never have exactly the same shares. Documents of one file resemble one
another, so a share's doubt is that of a ratio over whole sources (Cochran 1977, section 6.3): with x of a
source's n documents in a category, p = sum x / sum n and

    variance of p = G / (G - 1) * sum over the G sources of (x - p n)^2 / (sum n)^2

A difference counts as a skew when it is at least `SMALLEST` and so far outside that doubt that chance would
show one like it, in any of the categories looked at, in less than one of 1,000 pairs of corpora.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingot.data import tables
from ingot.data.corpus import SIDES, SplitName, document_shards

if TYPE_CHECKING:
    import pyarrow

DIMENSIONS = ("language", "kind", "licence", "source", "length")
SMALLEST = 0.05
"""A difference of shares below this is not told, however certain it is."""

CHANCE = 1e-3

LENGTHS = (512, 2048, 8192, 32768, 131072)
"""Bytes at which the next category of lengths begins."""

_NAMES = ("under 512 B", "512 B to 2 KiB", "2 to 8 KiB", "8 to 32 KiB", "32 to 128 KiB", "128 KiB and more")
_PERCENTILES = (1, 10, 25, 50, 75, 90, 99)


class Share(NamedTuple):
    """A category's part of a corpus.

    Args:
        name: of the category.
        documents: in it.
        bytes: in it.
        share: of all documents.
        deviation: standard error of the share.
    """

    name: str
    documents: int
    bytes: int
    share: float
    deviation: float


class Skew(NamedTuple):
    """A difference between two corpora that is not chance.

    Args:
        dimension: "language", "kind", ...
        name: of the category.
        share: in the one corpus.
        other: in the other.
        deviations: how many standard errors the difference is.
    """

    dimension: str
    name: str
    share: float
    other: float
    deviations: float

    def words(self) -> str:
        """Says it."""
        return (
            f"{self.dimension} {self.name}: {self.share:.1%} against {self.other:.1%} "
            f"({abs(self.deviations):.1f} standard errors apart)"
        )


@dataclass
class _Category:
    """Sums over sources of x (documents here), n (documents of the source) and their products."""

    x: int = 0
    xx: int = 0
    xn: int = 0
    bytes: int = 0


@dataclass
class Spread:
    """How documents are spread; filled one source after another."""

    documents: int = 0
    bytes: int = 0
    sources: int = 0
    squares: int = 0
    categories: dict[str, dict[str, _Category]] = field(
        default_factory=lambda: {dimension: {} for dimension in DIMENSIONS}
    )
    lengths: list[NDArray[np.int64]] = field(default_factory=list)

    def add(
        self,
        groups: NDArray[np.int64],
        of: Mapping[str, tuple[NDArray[np.int64], Sequence[str]]],
        sizes: NDArray[np.int64],
    ) -> None:
        """Adds the documents of some whole sources.

        Args:
            groups: [r], the source of each document, counted from 0.
            of: by dimension the category of each document, [r], as an index into names.
            sizes: [r], their bytes.
        """
        counts = np.bincount(groups)  # n of each source
        self.documents += len(groups)
        self.bytes += int(sizes.sum())
        self.sources += len(counts)
        self.squares += int((counts * counts).sum())
        self.lengths.append(sizes)
        for dimension, (codes, names) in of.items():
            width = len(names)
            pairs, x = np.unique(groups * width + codes, return_counts=True)
            category, n = pairs % width, counts[pairs // width]
            sums = {
                "x": np.bincount(category, x, width),
                "xx": np.bincount(category, x * x, width),
                "xn": np.bincount(category, x * n, width),
                "bytes": np.bincount(codes, sizes, width),
            }
            for index, name in enumerate(names):
                found = self.categories[dimension].setdefault(name, _Category())
                for key, values in sums.items():
                    setattr(found, key, getattr(found, key) + int(values[index]))

    def shares(self, dimension: str) -> list[Share]:
        """Returns the categories of a dimension, the largest first; lengths in their order."""
        found = [
            Share(name, one.x, one.bytes, one.x / self.documents, self._deviation(one))
            for name, one in self.categories[dimension].items()
            if one.x
        ]
        if dimension == "length":
            return sorted(found, key=lambda one: _NAMES.index(one.name))
        return sorted(found, key=lambda one: (-one.documents, one.name))

    def share(self, dimension: str, name: str) -> Share:
        """Returns one category; an absent one has a share of 0."""
        one = self.categories[dimension].get(name, _Category())
        return Share(name, one.x, one.bytes, one.x / self.documents, self._deviation(one))

    def percentiles(self) -> dict[str, int]:
        """Returns the bytes of a document at some percentiles."""
        lengths = np.concatenate(self.lengths)
        values = np.percentile(lengths, _PERCENTILES)
        return {f"p{at}": round(float(value)) for at, value in zip(_PERCENTILES, values, strict=True)}

    def effective(self, dimension: str) -> float:
        """Returns how many equally large categories would be as diverse: the exponential of the entropy."""
        shares = np.array([one.share for one in self.shares(dimension)])
        return float(np.exp(-(shares * np.log(shares)).sum()))

    def plain(self) -> dict[str, Any]:
        """Returns all of it as JSON holds it."""
        return {
            "documents": self.documents,
            "bytes": self.bytes,
            "sources": self.sources,
            "lengths": self.percentiles(),
            **{name: [one._asdict() for one in self.shares(name)] for name in DIMENSIONS},
        }

    def _deviation(self, one: _Category) -> float:
        n = self.documents
        p = one.x / n
        # Documents of their own at least: one more and one less guard against a share of 0 or 1.
        simple = (one.x + 1) * (n - one.x + 1) / (n + 2) ** 3
        if self.sources < 2:
            return simple**0.5
        clustered = (
            (one.xx - 2 * p * one.xn + p * p * self.squares) / n**2 * self.sources / (self.sources - 1)
        )
        return max(simple, clustered) ** 0.5


def spread(corpus: Path, sides: Iterable[SplitName] = SIDES) -> Spread:
    """Reads how a corpus is spread, without its texts.

    Args:
        corpus: the artifact's folder.
        sides: of it.
    """
    found = Spread()
    for side in sides:
        waiting: list[pyarrow.RecordBatch] = []  # of a source that may go on
        for path in document_shards(corpus, side):
            for batch in tables.batches(path, ["source", "kind", "licence", "language", "bytes"]):
                names = batch.column("source")
                whole = _last_change(names)
                before = waiting[-1].column("source")[-1] if waiting else None
                if waiting and (whole > 0 or names[0] != before):
                    ended = 0 if names[0] != before else _first_change(names)
                    _add(found, [*waiting, batch.slice(0, ended)])
                    waiting = []
                    batch = batch.slice(ended)
                    whole = _last_change(batch.column("source"))
                if whole:
                    _add(found, [batch.slice(0, whole)])
                waiting.append(batch.slice(whole))
        if waiting:
            _add(found, waiting)
    return found


def skews(one: Spread, other: Spread, dimensions: Iterable[str] = DIMENSIONS) -> list[Skew]:
    """Finds where two corpora differ by more than chance.

    Args:
        one, other: neither empty.
        dimensions: to look at.

    Returns:
        The differences, the largest first.
    """
    if one.documents == 0 or other.documents == 0:
        return []
    pairs = [
        (dimension, name)
        for dimension in dimensions
        for name in sorted({*one.categories[dimension], *other.categories[dimension]})
    ]
    limit = NormalDist().inv_cdf(1 - CHANCE / (2 * max(1, len(pairs))))
    found = []
    for dimension, name in pairs:
        a, b = one.share(dimension, name), other.share(dimension, name)
        deviations = (a.share - b.share) / (a.deviation**2 + b.deviation**2) ** 0.5
        if abs(a.share - b.share) >= SMALLEST and abs(deviations) >= limit:
            found.append(Skew(dimension, name, a.share, b.share, deviations))
    return sorted(found, key=lambda skew: -abs(skew.share - skew.other))


def _changes(names: pyarrow.Array) -> NDArray[np.int64]:
    """Where a new source begins, but for the first."""
    codes = names.dictionary_encode().indices.to_numpy()
    return np.flatnonzero(np.diff(codes)) + 1


def _last_change(names: pyarrow.Array) -> int:
    found = _changes(names)
    return int(found[-1]) if len(found) else 0


def _first_change(names: pyarrow.Array) -> int:
    found = _changes(names)
    return int(found[0]) if len(found) else len(names)


def _add(found: Spread, batches: list[pyarrow.RecordBatch]) -> None:
    """Adds the documents of whole sources."""
    import pyarrow
    import pyarrow.compute

    table = pyarrow.Table.from_batches(batches).combine_chunks()
    sizes = table.column("bytes").to_numpy().astype(np.int64)
    sources, names = _coded(table.column("source"))
    starts = np.concatenate([[True], np.diff(sources) != 0])
    of = {name: _coded(table.column(name).fill_null("unknown")) for name in ("language", "kind", "licence")}
    roots = [name.partition("/")[0] for name in names]
    known, place = np.unique(np.array(roots, dtype=object), return_inverse=True)
    of["source"] = place[sources], known.tolist()
    of["length"] = np.searchsorted(LENGTHS, sizes, side="right"), list(_NAMES)
    found.add(np.cumsum(starts) - 1, of, sizes)


def _coded(column: pyarrow.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    coded = column.combine_chunks().dictionary_encode()
    if hasattr(coded, "chunks"):
        coded = coded.combine_chunks()
    return coded.indices.to_numpy().astype(np.int64), coded.dictionary.to_pylist()
