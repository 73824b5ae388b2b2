"""Texts of which repeated passages were taken: beside the units, a file with those that changed.

Taking passages out is the one step that goes through a corpus in order, since what stays is the first of
each. Texts pass one at a time; what changes is written aside and found again by the document's number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ingot.data import tables
from ingot.data.dedup import text_hash
from ingot.data.document import Document, Dropped
from ingot.data.rows import Access, Rows
from ingot.data.tables import Table
from ingot.progress import Task

if TYPE_CHECKING:
    import pyarrow

Cut = Callable[[int, Document], tuple[Document, list[Dropped]]]
"""Takes passages out of a document, given its number: what is left, and an entry for each that went."""


class Texts(Protocol):
    """The texts of a corpus, by the numbers of its documents."""

    def text(self, number: int) -> str:
        """Returns one text."""
        ...

    def texts(self, chosen: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        """Yields number and text of the chosen documents, in order."""
        ...


class Whole:
    """The texts as the units hold them.

    Args:
        rows: of the corpus.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._access = Access(rows)

    def text(self, number: int) -> str:
        return self._access.text(number)

    def texts(self, chosen: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        return self._rows.texts(chosen)


class Revised:
    """Texts of which some were cut.

    Args:
        before: the texts as they were.
        path: of the file with the changed ones.
        numbers: [m] int64, whose they are, ascending.
        sizes: [m] int64, their bytes.
    """

    def __init__(
        self, before: Texts, path: Path, numbers: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> None:
        self.numbers, self.sizes = numbers, sizes
        self._before = before
        empty = np.empty(0, dtype=np.int64)
        starts = np.array([0, len(numbers)], dtype=np.int64)
        self._rows = Rows([path], starts, np.empty((0, 2), np.uint64), empty, empty.astype(np.int32), [])
        self._access = Access(self._rows)

    def text(self, number: int) -> str:
        place = int(np.searchsorted(self.numbers, number))
        if place < len(self.numbers) and self.numbers[place] == number:
            return self._access.text(place)
        return self._before.text(number)

    def texts(self, chosen: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        changed = (text for _, text in self._rows.texts(chosen[self.numbers]))
        marked = np.zeros(len(chosen), dtype=bool)
        marked[self.numbers] = True
        for number, text in self._before.texts(chosen):
            yield number, next(changed) if marked[number] else text


def take_out(
    cut: Cut,
    before: Texts,
    chosen: NDArray[np.bool_],
    id_of: Callable[[int], str],
    folder: Path,
    name: str,
    task: Task,
) -> Revised:
    """Goes through the chosen documents in order and takes passages out of them.

    Args:
        cut: what to take out.
        before: their texts.
        chosen: [n].
        id_of: ids, for the ledger.
        folder: where `<name>.parquet` goes, with the changed texts, and `<name>-ledger.parquet`.
        name: of the files.
        task: is told of every document.
    """
    numbers: list[int] = []
    sizes: list[int] = []
    path = folder / f"{name}.parquet"
    with (
        Table(path, _schema()) as table,
        Table(folder / f"{name}-ledger.parquet", tables.ledger_schema()) as ledger,
    ):
        for number, text in before.texts(chosen):
            task.advance()
            left, gone = cut(number, Document(str(number), "", text, ""))
            if not gone:
                continue
            table.add((left.text,))
            numbers.append(number)
            sizes.append(len(left.text.encode("utf-8")))
            id = id_of(number)
            for one in gone:
                ledger.add(
                    tables.ledger_row(Dropped(id, one.reason, one.detail, one.value, one.threshold, one.text))
                )
    return Revised(before, path, np.array(numbers, dtype=np.int64), np.array(sizes, dtype=np.int64))


def replaced(batch: pyarrow.RecordBatch, texts: dict[int, str]) -> pyarrow.RecordBatch:
    """Returns rows of documents with other texts, by their row, and the hashes and sizes of those."""
    import pyarrow

    columns = {name: batch.column(name).to_pylist() for name in ("text", "hash", "bytes")}
    for row, text in texts.items():
        columns["text"][row] = text
        columns["hash"][row] = text_hash(text)
        columns["bytes"][row] = len(text.encode("utf-8"))
    arrays = [
        pyarrow.array(columns[field.name], field.type) if field.name in columns else batch.column(field.name)
        for field in batch.schema
    ]
    return pyarrow.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _schema() -> pyarrow.Schema:
    import pyarrow

    return pyarrow.schema([("text", pyarrow.string())])
