"""The treatment of documents: what a worker does with a unit, and the files that it leaves behind."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ingot.atomic import publish, write_atomic
from ingot.data import tables
from ingot.data.cleaning import Cleaned, Cleaner
from ingot.data.dedup import text_hash
from ingot.data.document import Document, Dropped
from ingot.data.readers.reading import DEFAULT, Reading
from ingot.data.sources import Source, read
from ingot.data.tables import Table, document_row, ledger_row
from ingot.data.units import DOCUMENTS, LEDGER, UNIT, Group, Large, Piece, Unit
from ingot.errors import DataError

if TYPE_CHECKING:
    from ingot.data.decontaminate import Contamination

CHANGED = "changed"
"""Why a reader drops what was written to while it was read."""

PIECE = 8 * 2**20
"""Characters of text in a piece of a large file."""


class Said(NamedTuple):
    """What a worker says of its unit: how much of the input is done now, and which source comes next."""

    bytes: int
    documents: int
    source: str


@dataclass(frozen=True)
class Treatment:
    """What happens to every document; travels to the workers.

    Args:
        folder: where finished units go.
        cleaner: repairs and judges.
        contamination: texts of evaluations that must not be trained on; None looks for none.
        licences: of sources that have been given a licence, by the first part of their names.
        reading: how files are read.
        most: documents that are read of each source; None is all.
    """

    folder: Path
    cleaner: Cleaner
    contamination: Contamination | None = None
    licences: Mapping[str, str] = field(default_factory=dict)
    reading: Reading = DEFAULT
    most: int | None = None

    def __call__(self, unit: Unit) -> Iterator[Said]:
        """Carries out a unit and leaves its folder behind."""
        if isinstance(unit, Group):
            yield from self._group(unit)
        elif isinstance(unit, Piece):
            yield from self._piece(unit)
        else:
            for piece in pieces(unit, self):
                yield from self._piece(piece)

    def read(self, source: Source) -> Iterator[Document | Dropped]:
        """Reads a source; one that cannot be opened any more is an entry of the ledger."""
        try:
            yield from itertools.islice(read(source, self.reading), self.most)
        except DataError as error:
            yield Dropped(source.name, "unreadable", error.what)

    def treat(self, item: Document | Dropped) -> Cleaned:
        """Cleans and judges one document."""
        if isinstance(item, Dropped):
            return Cleaned(item)
        licence = self.licences.get(item.source.partition("/")[0])
        cleaned = self.cleaner.treat(item if licence is None else replace(item, licence=licence))
        kept = cleaned.result
        if isinstance(kept, Dropped) or self.contamination is None:
            return cleaned
        overlap = self.contamination.find(kept.text)
        if overlap is None:
            return cleaned
        detail = f"shares {overlap.ngram!r} with item {overlap.item} of {overlap.set}"
        gone = Dropped(kept.id, "contaminated", detail, overlap.share, None, kept.text)
        return Cleaned(gone, cleaned.changes)

    def _group(self, unit: Group) -> Iterator[Said]:
        with publish(self.folder / unit.name) as folder, _Writer(folder) as writer:
            for seen in unit.sources:
                name = seen.name
                yield Said(0, 0, name)
                before = writer.documents
                if name in unit.avoid:
                    writer.add(Cleaned(Dropped(name, "crash", "the process that read it ended, twice")))
                else:
                    told = []
                    for item in self.read(seen.source):
                        if isinstance(item, Dropped) and item.reason == CHANGED:
                            told.append(item)
                        else:
                            writer.add(self.treat(item))
                    if seen.changed():
                        writer.change(name)
                    else:
                        for one in told:
                            writer.add(Cleaned(one))
                yield Said(seen.size, writer.documents - before, name)

    def _piece(self, unit: Piece) -> Iterator[Said]:
        yield Said(0, 0, unit.seen.name)
        with publish(self.folder / unit.name) as folder, _Writer(folder) as writer:
            for item in unit.items:
                writer.add(self.treat(item))
        size = sum(len(one.text) for one in unit.items)
        yield Said(size, writer.documents, unit.seen.name)


def pieces(unit: Large, treatment: Treatment) -> Iterator[Piece]:
    """Reads a large file and yields the pieces that are not finished; at its end, says so on disk."""
    number = size = 0
    items: list[Document | Dropped] = []

    def piece() -> Iterator[Piece]:
        name = f"{unit.name}-{number:05d}"
        if not (treatment.folder / name).exists():
            yield Piece(name, unit.seen, tuple(items))

    for item in treatment.read(unit.seen.source):
        items.append(item)
        size += len(item.text)
        if size >= PIECE or len(items) >= PIECE // 64:
            yield from piece()
            number, size, items = number + 1, 0, []
    if items or number == 0:
        yield from piece()
        number += 1
    ended = {"pieces": number, "changed": unit.seen.changed()}
    write_atomic(treatment.folder / f"{unit.name}.json", json.dumps(ended) + "\n")


class _Writer:
    """The files of one unit."""

    def __init__(self, folder: Path) -> None:
        self.documents = 0
        self._folder = folder
        self._changed: list[str] = []
        self._changes: Counter[str] = Counter()
        self._kept = Table(folder / DOCUMENTS, tables.document_schema())
        self._dropped = Table(folder / LEDGER, tables.ledger_schema())

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._kept.__exit__(*error)
        self._dropped.__exit__(*error)
        if error[0] is None:
            told = {"changed": self._changed, "changes": dict(sorted((+self._changes).items()))}
            write_atomic(self._folder / UNIT, json.dumps(told) + "\n")

    def add(self, cleaned: Cleaned) -> None:
        item = cleaned.result
        self._changes.update(cleaned.changes)
        if isinstance(item, Document):
            self._kept.add(document_row(item, text_hash(item.text)))
            self.documents += 1
        else:
            self._dropped.add(ledger_row(item))

    def change(self, name: str) -> None:
        self._changed.append(tables.written(name))
