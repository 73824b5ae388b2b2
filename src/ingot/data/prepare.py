"""Preparing: a place with files in, a corpus out, in bounded memory, on all cores, resumable after a kill.

```
sources -> units (units.py): read, clean, decontaminate, hash     on all cores, each unit finished once
        -> rows (rows.py): what is known of every document          some tens of bytes each
        -> verdicts (verdicts.py): sample, exact and near duplicates, repeated passages
        -> sides (holdout.py), shards, ledger, counts (corpus.py)
```

The corpus is the same, byte for byte, whatever the number of workers and however often it was killed.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ingot.atomic import sweep
from ingot.data import card, tables, units
from ingot.data.corpus import SIDES, CorpusWriter, Input
from ingot.data.document import Document, Dropped
from ingot.data.holdout import Sides, halves, sides
from ingot.data.passages import replaced
from ingot.data.rows import Access, Rows
from ingot.data.treatment import Treatment, pieces
from ingot.data.units import Finished, Group, Large, Seen, Unit
from ingot.data.verdicts import EMPTIED, EXACT, NEAR, Deduplication, Verdicts, judge
from ingot.data.workers import Death, carry_out
from ingot.errors import DataError, ResourceError
from ingot.progress import Progress

if TYPE_CHECKING:
    import pyarrow

SMALLEST_CORPUS = 20_000
"""Bytes of training text below which there is nothing to learn from."""

WORTH_A_POOL = 16 * 2**20
"""Bytes of input below which one process is done before others would have started."""

_UNITS = "units"
_MB = 1e6


@dataclass(frozen=True)
class Order:
    """What a corpus is to be made from, and how.

    Args:
        name: of the corpus, for people.
        sources: in order of their names.
        others: how many files of kinds that are not read, by suffix.
        treatment: of every document; its folder is replaced.
        deduplication: what repeats are dropped.
        heldout: share of the files to hold out.
        max_documents: a sample of so many; None is all.
        workers: processes.
        seed: of the hash functions that find duplicates.
        more: further entries of `counts.json`, such as the weights of named sources.
    """

    name: str
    sources: Sequence[Seen]
    others: Mapping[str, int]
    treatment: Treatment
    deduplication: Deduplication
    heldout: float
    max_documents: int | None = None
    workers: int = 1
    seed: int = 0
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """A corpus that was made: its counts, and sentences for the report."""

    counts: dict[str, Any]
    notes: list[str]


def prepare(order: Order, folder: Path, work: Path, progress: Progress) -> Made:
    """Makes a corpus.

    Args:
        order: what and how.
        folder: where the corpus goes, already there.
        work: where finished units lie until then; what an earlier start left there is taken up. Nothing
            but the same order may be given the same folder.
        progress: is told how far it is.

    Raises:
        DataError: too little text to train on.
        ResourceError: workers died more than once on the same input.
    """
    finished = _map(order, work, progress)
    changed = finished.changed
    rows = Rows.load(finished.folders)
    verdicts = judge(
        rows, order.deduplication, order.max_documents, changed, work, order.workers, order.seed, progress
    )
    with CorpusWriter(folder) as writer:
        for path in finished.folders:
            for one in tables.dropped([path / units.LEDGER]):
                writer.drop(one)
        for name in sorted(changed):
            writer.drop(Dropped(name, "changed", "another content than when the reading began"))
        for one in _repeats(rows, verdicts, order.deduplication.near):
            writer.drop(one)
        split = _sides(order, rows, verdicts, writer.dropped)
        _write(order, rows, verdicts, split, writer, progress)
    inputs = (_input(seen) for seen in order.sources if seen.digest is not None)
    more = {"changes": dict(sorted(finished.changes.items())), **order.more}
    counts = writer.finish(inputs, order.others, more)
    (folder / card.CARD).write_text(card.card(order.name, counts), encoding="utf-8")
    return Made(counts, _notes(order, rows, verdicts, split, counts, changed))


def because(dropped: Mapping[str, int]) -> str:
    """Returns what was dropped as a remark in brackets, or nothing."""
    return f" (dropped: {reasons(dropped)})" if dropped else ""


def reasons(dropped: Mapping[str, int]) -> str:
    """Returns what was dropped in words: '3 binary, 1 empty'."""
    ordered = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {reason}" for reason, count in ordered)


def _input(seen: Seen) -> Input:
    assert seen.sha256 is not None
    return Input(seen.path, seen.sha256, seen.size, seen.name)


def _map(order: Order, work: Path, progress: Progress) -> Finished:
    """Finishes all units that are not finished."""
    folder = work / _UNITS
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    planned = units.plan(order.sources)
    missing = [unit for unit in planned if not units.finished(unit, folder)]
    total = sum(seen.size for seen in order.sources)
    left = sum(_bytes(unit) for unit in missing)
    unknown = any(isinstance(unit, Large) and unit.seen.digest is None for unit in missing)
    workers = order.workers if left >= WORTH_A_POOL or unknown else 1
    treatment = dataclasses.replace(order.treatment, folder=folder)
    crew = _Watch()
    with progress.task("reading and cleaning", total / _MB or None, "MB") as task:
        read = total - left
        task.at(read / _MB)
        kept = 0
        tasks = _tasks(missing, treatment, workers)
        with closing(carry_out(tasks, treatment, workers, crew.died)) as messages:
            for unit, said in messages:
                crew.at(unit, said.source)
                kept += said.documents
                read += _done(unit, said.bytes, crew)
                task.at(min(read, total) / _MB, f"{kept:,} documents")
    return units.gather(planned, folder)


def _tasks(missing: Sequence[Group | Large], treatment: Treatment, workers: int) -> Iterator[Unit]:
    """The units as tasks; large files are read here and shared out where there are too few of them."""
    large = sum(isinstance(unit, Large) for unit in missing)
    for unit in missing:
        if isinstance(unit, Large) and workers > 1 and large < workers:
            yield from pieces(unit, treatment)
        else:
            yield unit


def _bytes(unit: Group | Large) -> int:
    return unit.seen.size if isinstance(unit, Large) else sum(seen.size for seen in unit.sources)


class _Watch:
    """Where the workers are: which source each has begun, and how much of large files is done."""

    def __init__(self) -> None:
        self.begun: dict[str, str] = {}
        self.credited: Counter[str] = Counter()
        self.deaths: Counter[tuple[str, str]] = Counter()

    def at(self, unit: Unit, source: str) -> None:
        self.begun[unit.name] = source

    def died(self, death: Death[Unit]) -> Unit:
        """What to do after a worker died: try again; leave a small file out that did it twice."""
        unit = death.task
        source = self.begun.get(unit.name, "")
        self.deaths[unit.name, source] += 1
        if self.deaths[unit.name, source] == 1:
            return unit
        if isinstance(unit, Group) and source:
            return dataclasses.replace(unit, avoid=unit.avoid | {source})
        raise ResourceError(
            f"a worker process ended twice ({death.words()})",
            where=source or unit.name,
            fix="give it fewer workers, so that each has more memory, or leave that file out",
        )


def _done(unit: Unit, size: int, watch: _Watch) -> int:
    """How much of the input is newly done; a large file's text may be longer than the file."""
    if isinstance(unit, Group):
        return size
    name = unit.seen.name
    if unit.seen.digest is None:
        return 0
    size = min(size, unit.seen.size - watch.credited[name])
    watch.credited[name] += size
    return size


def _repeats(rows: Rows, verdicts: Verdicts, threshold: float | None) -> Iterator[Dropped]:
    """What was dropped because other documents say the same, in the order of the documents."""
    access = Access(rows)
    gone = (verdicts.state == EXACT) | (verdicts.state == NEAR)
    for number, text in rows.texts(gone):
        id, original = access.id(number), access.id(int(verdicts.of[number]))
        if verdicts.state[number] == EXACT:
            yield Dropped(id, "exact duplicate", f"the same as {original}", text=text)
        else:
            similarity = float(verdicts.similarity[number])
            detail = f"similarity {similarity:.3f} with {original}"
            yield Dropped(id, "near duplicate", detail, similarity, threshold, text)
    yield from tables.dropped(verdicts.ledgers)
    for number, text in verdicts.texts.texts(verdicts.state == EMPTIED):
        detail = "too little is left without its repeated passages"
        yield Dropped(access.id(number), "emptied", detail, float(verdicts.sizes[number]), text=text)


def _sides(order: Order, rows: Rows, verdicts: Verdicts, dropped: Mapping[str, int]) -> Sides:
    fix = "give more text, or leave the data out to use Python's standard library"
    among = verdicts.kept
    kept = np.flatnonzero(among)
    if len(kept) == 0:
        raise DataError(f"the corpus is empty{because(dropped)}", where=order.name, fix=fix)
    sizes = verdicts.sizes[kept]

    def ids() -> Iterator[str]:
        return (id for id, wanted in zip(rows.ids(), among, strict=True) if wanted)

    found = sides(rows.sources[kept], rows.names, sizes, ids, order.heldout)
    if found.single:
        head, _, _ = halves(Document("", "", verdicts.texts.text(int(kept[0])), ""), order.heldout)
        size = len(head.text.encode("utf-8"))
    else:
        size = int(sizes[~found.heldout].sum())
    if size < SMALLEST_CORPUS:
        what = f"{size:,} bytes of training text are too few, {SMALLEST_CORPUS:,} are needed"
        raise DataError(what + because(dropped), where=order.name, fix=fix)
    heldout = np.zeros(len(rows), dtype=bool)
    heldout[kept] = found.heldout
    return dataclasses.replace(found, heldout=heldout)


def _write(
    order: Order, rows: Rows, verdicts: Verdicts, split: Sides, writer: CorpusWriter, progress: Progress
) -> None:
    """Writes all documents that are kept to their sides."""
    kept = verdicts.kept
    changed = verdicts.texts.texts(kept & verdicts.revised)
    with progress.task("writing the corpus", int(kept.sum()), "documents") as task:
        number = 0
        for path in rows.paths:
            for batch in tables.batches(path):
                here = slice(number, number + batch.num_rows)
                mask, held = kept[here], split.heldout[here]
                cut = np.flatnonzero(mask & verdicts.revised[here]).tolist()
                if cut:
                    batch = replaced(batch, {row: text for row, (_, text) in zip(cut, changed, strict=False)})
                if split.single:
                    _write_halves(batch, mask, order.heldout, writer)
                else:
                    for side, chosen in zip(SIDES, (mask & ~held, mask & held), strict=True):
                        writer.add_batch(_filtered(batch, chosen), side)
                number += batch.num_rows
                task.advance(int(mask.sum()))


def _write_halves(batch: pyarrow.RecordBatch, mask: Any, fraction: float, writer: CorpusWriter) -> None:
    for row in _filtered(batch, mask).select(tables.DOCUMENT_TEXTS).to_pylist():
        head, tail, _ = halves(Document(**row), fraction)
        writer.add(head, "train")
        writer.add(tail, "heldout")


def _filtered(batch: pyarrow.RecordBatch, mask: Any) -> pyarrow.RecordBatch:
    import pyarrow

    return batch if mask.all() else batch.filter(pyarrow.array(mask))


def _notes(
    order: Order, rows: Rows, verdicts: Verdicts, split: Sides, counts: Mapping[str, Any], changed: set[str]
) -> list[str]:
    notes = [f"The corpus is {order.name}."]
    if verdicts.sample_of is not None:
        notes.insert(0, f"A sample of {order.max_documents:,} of {verdicts.sample_of:,} documents was used.")
    if counts["dropped"]:
        total = sum(counts["dropped"].values())
        notes.append(f"Dropped {total:,}: {reasons(counts['dropped'])}; each is in the ledger.")
    if verdicts.revised.any():
        notes.append(f"Repeated passages were taken out of {int(verdicts.revised.sum()):,} documents.")
    if changed:
        named = ", ".join(sorted(changed)[:3]) + (", ..." if len(changed) > 3 else "")
        notes.append(f"Files that changed while they were read were left out: {named}.")
    if order.others:
        listed = ", ".join(f"{n:,} {suffix}" for suffix, n in Counter(order.others).most_common(6))
        notes.append(f"Files that were not read: {listed}.")
    if split.single:
        name = rows.names[int(rows.sources[np.flatnonzero(verdicts.kept)[0]])]
        size = counts["bytes"]["heldout"]
        notes.append(f"The corpus is one text, {name}: its last {size:,} bytes are held out.")
    elif split.note is not None:
        notes.append(split.note)
    return notes
