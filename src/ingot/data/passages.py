"""Texts of which repeated passages were taken: beside the units, those that changed.

Taking passages out is the one step that goes through a corpus in order, since what stays is the first of
each. Texts pass one at a time; what changes is written aside and found again by the document's number:

```
paragraphs/00003/        of the unit 00003, finished whole or not at all
  texts.parquet          number, text, bytes: the documents that changed
  ledger.parquet         the passages that went
  hashes.npy, values.npy what was learnt of it (memories.py)
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ingot.atomic import publish, sweep
from ingot.data import tables
from ingot.data.dedup import text_hash
from ingot.data.document import Document, Dropped
from ingot.data.memories import Cut, Memory
from ingot.data.rows import Access, Rows
from ingot.data.tables import Table
from ingot.progress import Task

if TYPE_CHECKING:
    import pyarrow

_TEXTS, LEDGER = "texts.parquet", "ledger.parquet"


class Texts(Protocol):
    """The texts of a corpus, by the numbers of its documents."""

    def text(self, number: int) -> str:
        """Returns one text."""
        ...

    def inside(self, unit: int, chosen: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        """Yields number and text of the chosen documents, [n], that are in a unit, in order."""
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

    def inside(self, unit: int, chosen: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        start, end = self._rows.starts[unit : unit + 2].tolist()
        if chosen[start:end].any():
            alone = dataclasses.replace(self._rows, paths=[self._rows.paths[unit]])
            for number, text in alone.texts(chosen[start:end]):
                yield start + number, text


class Revised:
    """Texts of which some were cut.

    Args:
        before: the texts as they were.
        parts: folders with the changed ones, in order.
    """

    def __init__(self, before: Texts, parts: Sequence[Path]) -> None:
        self._before = before
        numbers, sizes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        starts = [0]
        for part in parts:
            count = 0
            for batch in tables.batches(part / _TEXTS, ["number", "bytes"]):
                numbers.append(batch.column("number").to_numpy())
                sizes.append(batch.column("bytes").to_numpy())
                count += batch.num_rows
            starts.append(starts[-1] + count)
        self.numbers: NDArray[np.int64] = np.concatenate(numbers)
        """[m], whose they are, ascending."""
        self.sizes: NDArray[np.int64] = np.concatenate(sizes)
        """[m], their bytes."""
        self.ledgers = [part / LEDGER for part in parts]
        """Files that say what went."""
        nothing = np.empty(0, np.int64)
        paths = [part / _TEXTS for part in parts]
        rows = Rows(
            paths, np.array(starts), np.empty((0, 2), np.uint64), nothing, nothing.astype(np.int32), []
        )
        self._access = Access(rows)

    def text(self, number: int) -> str:
        place = int(np.searchsorted(self.numbers, number))
        if place < len(self.numbers) and self.numbers[place] == number:
            return self._access.text(place)
        return self._before.text(number)

    def inside(self, unit: int, chosen: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        for number, text in self._before.inside(unit, chosen):
            place = int(np.searchsorted(self.numbers, number))
            changed = place < len(self.numbers) and self.numbers[place] == number
            yield number, self._access.text(place) if changed else text


def revise(
    memory: Memory, before: Texts, chosen: NDArray[np.bool_], rows: Rows, folder: Path, task: Task
) -> Revised:
    """Goes through the chosen documents in order and takes passages out of them, unit by unit.

    Args:
        memory: what to take out; empty.
        before: the texts.
        chosen: [n], of which documents.
        rows: of the corpus.
        folder: where the parts go; those that an earlier start finished are not made again.
        task: is told of every document.
    """
    folder.mkdir(exist_ok=True)
    sweep(folder)
    id_of = Access(rows).id
    parts: list[Path] = []
    for unit, path in enumerate(rows.paths):
        count = int(chosen[rows.starts[unit] : rows.starts[unit + 1]].sum())
        if count == 0:
            continue
        part = folder / path.parent.name
        if part.exists():
            memory.recall(part)
            task.advance(count)
        else:
            with publish(part) as aside:
                _revise(memory.drop, before.inside(unit, chosen), id_of, aside, task)
                memory.keep(aside)
        parts.append(part)
    return Revised(before, parts)


def _revise(
    cut: Cut, texts: Iterator[tuple[int, str]], id_of: Callable[[int], str], folder: Path, task: Task
) -> None:
    with Table(folder / _TEXTS, _schema()) as table, Table(folder / LEDGER, tables.ledger_schema()) as ledger:
        for number, text in texts:
            task.advance()
            left, gone = cut(number, Document(str(number), "", text, ""))
            if not gone:
                continue
            table.add((number, left.text, len(left.text.encode("utf-8"))))
            id = id_of(number)
            for one in gone:
                ledger.add(
                    tables.ledger_row(Dropped(id, one.reason, one.detail, one.value, one.threshold, one.text))
                )


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

    columns = (("number", pyarrow.int64()), ("text", pyarrow.string()), ("bytes", pyarrow.int64()))
    return pyarrow.schema(list(columns))
