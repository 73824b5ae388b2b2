"""Leaks: training documents that hold an answer to what an evaluation asks of the held-out ones.

Which files are held out is known only when everything else is decided, and so are the questions that are
mined from them. A training document that holds the whole of such an item, word for word (a function that was
copied from file to file), is dropped: a model that has read the answer shows nothing by giving it. Shared
words alone are no leak here, since files of one project have many in common.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingot.atomic import write_atomic
from ingot.data import tables
from ingot.data.decontaminate import Contamination, Item
from ingot.data.document import Document, Dropped
from ingot.data.passages import Texts
from ingot.data.rows import Access, Rows
from ingot.progress import Progress

NAME = "held-out functions"
"""What these items are called among the evaluation sets."""

Examiner = Callable[[Iterable[Document]], list[Item]]
"""Returns what an evaluation asks of held-out documents, and the right answers."""

_FILE = "leaks.json"
_WHOLE = 2**30  # words of an n-gram that no item reaches: each is looked for as a whole
_AT_ONCE = 2**22  # characters
_COLUMNS = ["id", "source", "kind"]


class Leaks(NamedTuple):
    """What was found.

    Args:
        items: that were looked for.
        details: what the documents hold, by their numbers.
    """

    items: int
    details: dict[int, str]

    def dropped(self, rows: Rows, texts: Texts) -> Iterator[Dropped]:
        """Yields an entry of the ledger for each document."""
        id_of = Access(rows).id
        for number, detail in self.details.items():
            yield Dropped(id_of(number), "contaminated", detail, 1.0, None, texts.text(number))


def find(
    examiner: Examiner,
    rows: Rows,
    texts: Texts,
    kept: NDArray[np.bool_],
    heldout: NDArray[np.bool_],
    work: Path,
    progress: Progress,
) -> Leaks:
    """Finds training documents that hold what is asked of the held-out ones.

    Args:
        examiner: makes the questions.
        rows: of the corpus.
        texts: as they will be written.
        kept: [n], the documents that are not dropped.
        heldout: [n], which of them are held out.
        work: where the result is kept for a later start.
        progress: is told of every document.
    """
    path = work / _FILE
    if not path.exists():
        items = examiner(_documents(rows, texts, kept & heldout))
        details = _search(items, rows, texts, kept & ~heldout, progress) if items else {}
        write_atomic(path, json.dumps([len(items), details]) + "\n")
    count, details = json.loads(path.read_text(encoding="utf-8"))
    return Leaks(count, {int(number): detail for number, detail in details.items()})


def _search(
    items: list[Item], rows: Rows, texts: Texts, chosen: NDArray[np.bool_], progress: Progress
) -> dict[int, str]:
    known = Contamination.of({NAME: items}, ngram=_WHOLE)
    found: dict[int, str] = {}
    with progress.task("looking for leaks", int(chosen.sum()), "documents") as task:
        for batch in _batches(rows, texts, chosen):
            overlaps = known.find_all([text for _, text in batch])
            for (number, _), overlap in zip(batch, overlaps, strict=True):
                if overlap is not None:
                    asked = items[overlap.item].prompt
                    found[number] = f"holds the answer to a held-out question: {asked}"
            task.advance(len(batch))
    return found


def _batches(rows: Rows, texts: Texts, chosen: NDArray[np.bool_]) -> Iterator[list[tuple[int, str]]]:
    batch: list[tuple[int, str]] = []
    size = 0
    for unit in range(len(rows.paths)):
        for number, text in texts.inside(unit, chosen):
            batch.append((number, text))
            size += len(text)
            if size >= _AT_ONCE:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _documents(rows: Rows, texts: Texts, chosen: NDArray[np.bool_]) -> Iterator[Document]:
    for unit, path in enumerate(rows.paths):
        start, end = rows.starts[unit : unit + 2].tolist()
        if not chosen[start:end].any():
            continue
        current = texts.inside(unit, chosen)
        number = start
        for batch in tables.batches(path, _COLUMNS):
            for row in np.flatnonzero(chosen[number : number + batch.num_rows]).tolist():
                id, source, kind = (batch.column(name)[row].as_py() for name in _COLUMNS)
                yield Document(id, source, next(current)[1], kind)
            number += batch.num_rows
