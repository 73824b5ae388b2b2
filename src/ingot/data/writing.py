"""Writing a prepared corpus in parts: each is finished once, whatever is killed when.

```
work/corpus/ledger-00000/     rows.parquet, tally.json      what some units dropped, or why documents repeat
work/corpus/documents-00000/  train.parquet, heldout.parquet, tally.json        of some units
all parts --linked--> documents/, ledger/
```

Where a part ends depends on the units alone, so a part is the same whoever makes it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingot.atomic import publish, sweep, write_atomic
from ingot.data import tables, units
from ingot.data.corpus import DOCUMENTS, LEDGER, SHARD
from ingot.data.dedup import text_hash
from ingot.data.document import Document, Dropped
from ingot.data.holdout import Sides, halves
from ingot.data.passages import Whole, replaced
from ingot.data.rows import Access, Rows
from ingot.data.tables import Table
from ingot.data.tally import SIDES, Tally
from ingot.data.verdicts import EMPTIED, EXACT, NEAR, Verdicts
from ingot.progress import Progress, Task

if TYPE_CHECKING:
    import pyarrow

PARTS = "corpus"

_TALLY, _ROWS = "tally.json", "rows.parquet"


class Block(NamedTuple):
    """Some of the ledger, or the documents of a unit.

    Args:
        size: bytes of text, about.
        write: writes them to the tables of a part, by name, and counts them.
    """

    size: int
    write: Callable[[dict[str, Table], Tally], None]


def write_ledger(
    rows: Rows,
    verdicts: Verdicts,
    folders: Sequence[Path],
    named: Callable[[], Iterable[Dropped]],
    near: float | None,
    work: Path,
    folder: Path,
    progress: Progress,
) -> Tally:
    """Writes everything that was dropped.

    Args:
        rows: of the corpus.
        verdicts: on it.
        folders: of the finished units.
        named: gives the entries that no unit has: of whole sources, and of leaks.
        near: the similarity from which a document is a near duplicate.
        work: for the parts; those of an earlier start are taken up.
        folder: of the corpus.
        progress: is told how far it is.

    Returns:
        The counts of the ledger.
    """
    ledgers = [path / units.LEDGER for path in folders]
    blocks = [_entries(_size(path), partial(tables.dropped, [path])) for path in ledgers]
    blocks.append(_entries(0, named))
    blocks += _copies(rows, verdicts, near)
    blocks += [_entries(_size(path), partial(tables.dropped, [path])) for path in verdicts.ledgers]
    blocks += _emptied(rows, verdicts)
    tables_of = {_ROWS: tables.ledger_schema}
    with progress.task("writing the ledger", len(blocks), "units") as task:
        return _write(blocks, "ledger", tables_of, work, task, {_ROWS: (folder / LEDGER, "")})


def write_documents(
    rows: Rows,
    verdicts: Verdicts,
    split: Sides,
    fraction: float,
    work: Path,
    folder: Path,
    progress: Progress,
) -> Tally:
    """Writes all documents that are kept to their sides.

    Args:
        rows: of the corpus.
        verdicts: on it.
        split: the sides.
        fraction: of a single text that is held out.
        work: for the parts; those of an earlier start are taken up.
        folder: of the corpus.
        progress: is told how far it is.

    Returns:
        The counts of the documents.
    """
    documents = _Documents(rows, verdicts, split, fraction)
    kept = verdicts.kept
    blocks = []
    for unit in range(len(rows.paths)):
        here = slice(*rows.starts[unit : unit + 2].tolist())
        size = int(verdicts.sizes[here][kept[here]].sum())
        blocks.append(Block(size, partial(documents.write, unit)))
    schemas = {f"{side}.parquet": tables.document_schema for side in SIDES}
    places = {f"{side}.parquet": (folder / DOCUMENTS, f"{side}-") for side in SIDES}
    with progress.task("writing the corpus", len(blocks), "units") as task:
        return _write(blocks, "documents", schemas, work, task, places)


def _write(
    blocks: Sequence[Block],
    kind: str,
    schemas: dict[str, Callable[[], pyarrow.Schema]],
    work: Path,
    task: Task,
    places: dict[str, tuple[Path, str]],
) -> Tally:
    """Makes the parts that are missing, and gives the files of all their final places."""
    parts = work / PARTS
    parts.mkdir(exist_ok=True)
    sweep(parts)
    whole = Tally()
    for folder, _ in places.values():
        folder.mkdir(exist_ok=True)
    for number, some in enumerate(_grouped(blocks)):
        made = parts / f"{kind}-{number:05d}"
        if not made.exists():
            with publish(made) as aside:
                _make(some, aside, schemas, task)
        else:
            task.advance(len(some))
        tally = Tally.of_plain(json.loads((made / _TALLY).read_text(encoding="utf-8")))
        whole.append(tally)
        for name, (folder, stem) in places.items():
            if kind == "documents" or tally.dropped:
                _link(made / name, folder / f"{stem}{number:05d}.parquet")
    return whole


def _make(
    blocks: Sequence[Block], folder: Path, schemas: dict[str, Callable[[], pyarrow.Schema]], task: Task
) -> None:
    tally = Tally()
    into = {name: Table(folder / name, schema()) for name, schema in schemas.items()}
    try:
        for block in blocks:
            block.write(into, tally)
            task.advance()
    except BaseException as error:
        for table in into.values():
            table.__exit__(type(error))
        raise
    for table in into.values():
        table.__exit__(None)
    write_atomic(folder / _TALLY, json.dumps(tally.plain(), ensure_ascii=False) + "\n")


def _grouped(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """The blocks by part: a part ends before the block with which it would become too large."""
    some: list[Block] = []
    size = 0
    for block in blocks:
        if some and size + block.size > SHARD:
            yield some
            some, size = [], 0
        some.append(block)
        size += block.size
    if some:
        yield some


def _entries(size: int, items: Callable[[], Iterable[Dropped]]) -> Block:
    """A block of the ledger."""

    def write(into: dict[str, Table], tally: Tally) -> None:
        for one in items():
            tally.drop(one)
            into[_ROWS].add(tables.ledger_row(one))

    return Block(size, write)


def _size(path: Path) -> int:
    """Bytes that a table unpacks to."""
    with tables.opened(path) as file:
        return sum(file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups))


def _copies(rows: Rows, verdicts: Verdicts, threshold: float | None) -> Iterator[Block]:
    """What was dropped because other documents say the same, unit by unit."""
    access, texts = Access(rows), Whole(rows)
    gone = (verdicts.state == EXACT) | (verdicts.state == NEAR)

    def entries(unit: int) -> Iterator[Dropped]:
        for number, text in texts.inside(unit, gone):
            id, original = access.id(number), access.id(int(verdicts.of[number]))
            if verdicts.state[number] == EXACT:
                yield Dropped(id, "exact duplicate", f"the same as {original}", text=text)
            else:
                similarity = float(verdicts.similarity[number])
                detail = f"similarity {similarity:.3f} with {original}"
                yield Dropped(id, "near duplicate", detail, similarity, threshold, text)

    return _by_unit(rows, gone, rows.sizes, entries)


def _emptied(rows: Rows, verdicts: Verdicts) -> Iterator[Block]:
    """Documents of which too little was left, unit by unit."""
    access = Access(rows)
    gone = verdicts.state == EMPTIED
    detail = "too little is left without its repeated passages"

    def entries(unit: int) -> Iterator[Dropped]:
        for number, text in verdicts.texts.inside(unit, gone):
            yield Dropped(access.id(number), "emptied", detail, float(verdicts.sizes[number]), text=text)

    return _by_unit(rows, gone, verdicts.sizes, entries)


def _by_unit(
    rows: Rows,
    gone: NDArray[np.bool_],
    sizes: NDArray[np.int64],
    entries: Callable[[int], Iterator[Dropped]],
) -> Iterator[Block]:
    for unit in range(len(rows.paths)):
        here = slice(*rows.starts[unit : unit + 2].tolist())
        if gone[here].any():
            yield _entries(int(sizes[here][gone[here]].sum()), partial(entries, unit))


class _Documents:
    """The documents that are kept, unit by unit."""

    def __init__(self, rows: Rows, verdicts: Verdicts, split: Sides, fraction: float) -> None:
        self._rows, self._verdicts, self._split, self._fraction = rows, verdicts, split, fraction

    def write(self, unit: int, into: dict[str, Table], tally: Tally) -> None:
        number, end = self._rows.starts[unit : unit + 2].tolist()
        kept, revised = self._verdicts.kept, self._verdicts.revised
        if not kept[number:end].any():
            return
        changed = self._verdicts.texts.inside(unit, kept & revised) if revised.any() else iter(())
        for batch in tables.batches(self._rows.paths[unit]):
            here = slice(number, number + batch.num_rows)
            mask, held = kept[here], self._split.heldout[here]
            cut = np.flatnonzero(mask & revised[here]).tolist()
            if cut:
                batch = replaced(batch, {row: text for row, (_, text) in zip(cut, changed, strict=False)})
            if self._split.single:
                self._write_halves(batch, mask, into, tally)
            else:
                for side, chosen in zip(SIDES, (mask & ~held, mask & held), strict=True):
                    some = _filtered(batch, chosen)
                    if some.num_rows:
                        into[f"{side}.parquet"].add_batch(some, tally.add(some, side))
            number += batch.num_rows

    def _write_halves(
        self, batch: pyarrow.RecordBatch, mask: Any, into: dict[str, Table], tally: Tally
    ) -> None:
        for row in _filtered(batch, mask).select(tables.DOCUMENT_TEXTS).to_pylist():
            head, tail, _ = halves(Document(**row), self._fraction)
            for side, part in zip(SIDES, (head, tail), strict=True):
                written = tables.document_row(part, text_hash(part.text))
                tally.add_row(written, side)
                into[f"{side}.parquet"].add(written)


def _filtered(batch: pyarrow.RecordBatch, mask: Any) -> pyarrow.RecordBatch:
    import pyarrow

    return batch if mask.all() else batch.filter(pyarrow.array(mask))


def _link(made: Path, final: Path) -> None:
    """Gives a file a second name, where the system can, so that a kill from here on loses nothing."""
    final.unlink(missing_ok=True)
    try:
        os.link(made, final)
    except OSError:
        shutil.copy2(made, final)
