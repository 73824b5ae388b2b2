"""What a corpus holds, counted while it is written: in one go, or in parts that are added up."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from ingot.data.document import Dropped

if TYPE_CHECKING:
    import pyarrow

SplitName = Literal["train", "heldout"]
SIDES: tuple[SplitName, SplitName] = ("train", "heldout")

_OF = ("kind", "language", "licence")
_COUNTED = ("rows", "bytes", "sources", "dropped", "dropped_bytes")


class Tally:
    """Counts of documents and of what was dropped.

    The documents of one source come one after another, as they do from `find` and `read`.

    Attributes:
        rows, bytes, sources: of documents, by side.
        of: documents by kind, language and licence.
        dropped, dropped_bytes: entries of the ledger and the bytes of their texts, by reason.
        thresholds: what the rules that measure hold against, by reason.
    """

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.sources: Counter[str] = Counter()
        self.of: dict[str, Counter[str]] = {name: Counter() for name in _OF}
        self.dropped: Counter[str] = Counter()
        self.dropped_bytes: Counter[str] = Counter()
        self.thresholds: dict[str, float] = {}
        self._ends: dict[str, tuple[str, str | None]] = {}  # the first and the last source of a side

    def add(self, batch: pyarrow.RecordBatch, side: SplitName) -> int:
        """Counts documents, rows of a table of them; returns the bytes of their texts."""
        import pyarrow.compute

        size = int(pyarrow.compute.sum(batch.column("bytes")).as_py() or 0)
        values = {name: Counter[str]() for name in _OF}
        for name, counted in values.items():
            for entry in batch.column(name).value_counts().to_pylist():
                counted[_named(entry["values"])] += entry["counts"]
        self._add(batch.column("source").to_pylist(), size, side, values)
        return size

    def add_row(self, row: tuple[Any, ...], side: SplitName) -> int:
        """Counts one document, a row as `tables.document_row` makes it; returns the bytes of its text."""
        named = zip(_OF, (row[3], row[5], row[4]), strict=True)
        self._add([row[1]], row[-1], side, {name: Counter([_named(value)]) for name, value in named})
        return int(row[-1])

    def _add(self, sources: list[str], size: int, side: SplitName, of: Mapping[str, Counter[str]]) -> None:
        if not sources:
            return
        first, last = self._ends.get(side, (sources[0], None))
        before = itertools.chain([last], sources)
        self.rows[side] += len(sources)
        self.bytes[side] += size
        self.sources[side] += sum(one != other for one, other in zip(sources, before, strict=False))
        self._ends[side] = (first, sources[-1])
        for name, counted in of.items():
            self.of[name].update(counted)

    def drop(self, one: Dropped) -> int:
        """Counts an entry of the ledger; returns the bytes of its text."""
        size = len(one.text.encode("utf-8", "replace"))
        self.dropped[one.reason] += 1
        self.dropped_bytes[one.reason] += size
        if one.threshold is not None:
            self.thresholds.setdefault(one.reason, one.threshold)
        return size

    def append(self, after: Tally) -> None:
        """Adds what was counted after this."""
        for side, (first, last) in after._ends.items():
            known = self._ends.get(side)
            if known is not None and known[1] == first:
                self.sources[side] -= 1  # one source, on both sides of the border
            self._ends[side] = (first if known is None else known[0], last)
        for name in _COUNTED:
            getattr(self, name).update(getattr(after, name))
        for name, counted in after.of.items():
            self.of[name].update(counted)
        self.thresholds = after.thresholds | self.thresholds

    def plain(self) -> dict[str, Any]:
        """Returns it as JSON holds it; `of_plain` makes it again."""
        counted = {name: dict(getattr(self, name)) for name in _COUNTED}
        of = {name: dict(one) for name, one in self.of.items()}
        return {**counted, "of": of, "thresholds": self.thresholds, "ends": self._ends}

    @classmethod
    def of_plain(cls, values: Mapping[str, Any]) -> Self:
        """Returns what `plain` told."""
        tally = cls()
        for name in _COUNTED:
            getattr(tally, name).update(values[name])
        for name, counted in values["of"].items():
            tally.of[name].update(counted)
        tally.thresholds.update(values["thresholds"])
        tally._ends.update({side: (first, last) for side, (first, last) in values["ends"].items()})
        return tally

    def counts(self) -> dict[str, Any]:
        """Returns the counts as `counts.json` has them."""
        return {
            "documents": {side: self.rows[side] for side in SIDES},
            "bytes": {side: self.bytes[side] for side in SIDES},
            "sources": {side: self.sources[side] for side in SIDES},
            "kinds": descending(self.of["kind"]),
            "dropped": descending(self.dropped),
            "languages": descending(self.of["language"]),
            "licences": descending(self.of["licence"]),
            "rules": {
                reason: {
                    "documents": count,
                    "bytes": self.dropped_bytes[reason],
                    "threshold": self.thresholds.get(reason),
                }
                for reason, count in descending(self.dropped).items()
            },
        }


def descending(counted: Mapping[str, int]) -> dict[str, int]:
    """Returns counts with the largest first, equal ones by name."""
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _named(value: str | None) -> str:
    return "unknown" if value is None else value
