"""Preparing: a place with files in, a corpus out, in bounded memory, on all cores, resumable after a kill.

```
sources -> units (units.py, treating.py): read, clean, hash         on all cores, each unit finished once
        -> rows (rows.py): what is known of every document          some tens of bytes each
        -> verdicts (verdicts.py): sample, exact and near duplicates
        -> passages (passages.py): repeated ones are taken out       in order, unit by unit
        -> sides (holdout.py); what an evaluation asks of held-out files is not trained on (leaks.py)
        -> shards and ledger (writing.py), counts (corpus.py)
```

What a kill leaves in the work folder, units, signatures, verdicts, passages and parts of the corpus, is not
made again.

The corpus is the same, byte for byte, whatever the number of workers and however often it was killed.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ingot.atomic import publish, sweep, write_atomic
from ingot.data import card, leaks
from ingot.data.corpus import Input, finish
from ingot.data.document import Document, Dropped
from ingot.data.holdout import Sides, halves, sides
from ingot.data.leaks import Examiner
from ingot.data.memories import Memory, of_paragraphs, of_substrings
from ingot.data.passages import Whole, revise
from ingot.data.rows import Rows
from ingot.data.tally import Tally
from ingot.data.treating import treat_all
from ingot.data.treatment import Treatment
from ingot.data.units import Seen
from ingot.data.verdicts import EMPTIED, Deduplication, Verdicts, judge
from ingot.data.writing import write_documents, write_ledger
from ingot.errors import DataError
from ingot.progress import Progress

SMALLEST_CORPUS = 20_000
"""Bytes of training text below which there is nothing to learn from."""

LEAKED = 6
"""A state of documents, after those in `verdicts.py`: they hold what an evaluation asks of held-out ones."""

_VERDICTS = "verdicts"
_ARRAYS = ("state", "of", "similarity")


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
        examiner: what an evaluation asks of the held-out documents; None asks nothing.
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
    examiner: Examiner | None = None
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
    finished = treat_all(order.sources, order.treatment, order.workers, work, progress)
    changed = finished.changed
    rows = Rows.load(finished.folders)
    verdicts = _judged(order, rows, changed, work, progress)
    verdicts = _revised(order.deduplication, rows, verdicts, work, progress)
    found = leaks.Leaks(0, {})
    more = {"changes": dict(sorted(finished.changes.items())), **order.more}

    def named() -> Iterator[Dropped]:
        for name in sorted(changed):
            yield Dropped(name, "changed", "another content than when the reading began")
        limit = order.treatment.reading.max_seconds
        for name, seconds in sorted(finished.late.items()):
            yield Dropped(name, "took too long", f"broken off after {seconds:.0f} seconds", seconds, limit)
        yield from found.dropped(rows, verdicts.texts)

    def ledger() -> Tally:
        near = order.deduplication.near
        return write_ledger(rows, verdicts, finished.folders, named, near, work, folder, progress)

    split = _sides(order, rows, verdicts, lambda: because(ledger().dropped))
    if order.examiner is not None and not split.single:
        kept, heldout = verdicts.kept, split.heldout
        found = leaks.find(order.examiner, rows, verdicts.texts, kept, heldout, work, progress)
        verdicts.state[list(found.details)] = LEAKED
        more["evaluation_sets"] = {**more.get("evaluation_sets", {}), leaks.NAME: found.items}
    tally = ledger()
    tally.append(write_documents(rows, verdicts, split, order.heldout, work, folder, progress))
    inputs = (_input(seen) for seen in order.sources if seen.digest is not None)
    counts = finish(folder, tally, inputs, order.others, more)
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


def _judged(order: Order, rows: Rows, changed: set[str], work: Path, progress: Progress) -> Verdicts:
    """The verdicts on whole documents; those of an earlier start are taken up."""
    kept = work / _VERDICTS
    if not kept.exists():
        sweep(work)
        near = order.deduplication.near
        found = judge(rows, near, order.max_documents, changed, work, order.workers, order.seed, progress)
        with publish(kept) as aside:
            for name in _ARRAYS:
                np.save(aside / f"{name}.npy", getattr(found, name))
            write_atomic(aside / "sample.json", json.dumps(found.sample_of) + "\n")
    state, of, similarity = (np.load(kept / f"{name}.npy", allow_pickle=False) for name in _ARRAYS)
    sample_of = json.loads((kept / "sample.json").read_text(encoding="utf-8"))
    nothing = np.zeros(len(rows), dtype=bool)
    return Verdicts(state, of, similarity, Whole(rows), rows.sizes.copy(), nothing, sample_of)


def _revised(
    deduplication: Deduplication, rows: Rows, verdicts: Verdicts, work: Path, progress: Progress
) -> Verdicts:
    """The verdicts after repeated passages were taken out of what they keep."""
    finders: dict[str, Callable[[], Memory]] = {}
    if deduplication.paragraphs is not None:
        finders["paragraphs"] = partial(of_paragraphs, deduplication.paragraphs)
    if deduplication.substrings is not None:
        length = deduplication.substrings
        finders["substrings"] = lambda: of_substrings(length, verdicts.texts.text)
    for name, memory in finders.items():
        count = int(verdicts.kept.sum())
        with progress.task(f"finding repeated {name}", count, "documents") as task:
            texts = revise(memory(), verdicts.texts, verdicts.kept, rows, work / name, task)
        verdicts.sizes[texts.numbers] = texts.sizes
        verdicts.revised[texts.numbers] = True
        verdicts.state[texts.numbers[texts.sizes < deduplication.least]] = EMPTIED
        ledgers = [*verdicts.ledgers, *texts.ledgers]
        verdicts = dataclasses.replace(verdicts, texts=texts, ledgers=ledgers)
    return verdicts


def _sides(order: Order, rows: Rows, verdicts: Verdicts, dropped: Callable[[], str]) -> Sides:
    fix = "give more text, or leave the data out to use Python's standard library"
    among = verdicts.kept
    kept = np.flatnonzero(among)
    if len(kept) == 0:
        raise DataError(f"the corpus is empty{dropped()}", where=order.name, fix=fix)
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
        raise DataError(what + dropped(), where=order.name, fix=fix)
    heldout = np.zeros(len(rows), dtype=bool)
    heldout[kept] = found.heldout
    return dataclasses.replace(found, heldout=heldout)


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
