"""MinHash signatures of the documents of finished units, made on all cores into one file on disk.

```
signatures.bin          [documents, 112] uint64, in the order of the documents
signatures/00003.done   the part of this unit is in it
```
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingot.atomic import write_atomic
from ingot.data import tables
from ingot.data.dedup import MinHashConfig
from ingot.data.rows import Rows
from ingot.data.workers import carry_out
from ingot.progress import Task

WORTH_A_POOL = 16 * 2**20
"""Bytes of text below which one process is done before others would have started."""

_FILE, _DONE = "signatures.bin", "signatures"


@dataclass(frozen=True)
class _Part:
    """The chosen rows of one unit: where they are, and where their signatures go."""

    path: Path
    rows: NDArray[np.int64]
    start: int
    number: int


@dataclass(frozen=True)
class _Sign:
    """Makes the signatures of a part; travels to the workers."""

    config: MinHashConfig
    folder: Path
    count: int

    def __call__(self, part: _Part) -> Iterator[int]:
        minhash = self.config.build()
        shape = (self.count, minhash.size)
        file = np.memmap(self.folder / _FILE, dtype="<u8", mode="r+", shape=shape)
        at, before = part.start, 0
        for batch in tables.batches(part.path, ["text"]):
            inside = part.rows[(part.rows >= before) & (part.rows < before + batch.num_rows)] - before
            file[at : at + len(inside)] = minhash.signatures(batch.column("text").take(inside).to_pylist())
            at, before = at + len(inside), before + batch.num_rows
            yield len(inside)
        file.flush()
        write_atomic(self.folder / _DONE / f"{part.number:05d}.done", "")


def signatures(
    rows: Rows, chosen: NDArray[np.bool_], config: MinHashConfig, work: Path, workers: int, task: Task
) -> NDArray[np.uint64]:
    """Makes the signatures of the chosen documents; what an earlier start made is taken up.

    Args:
        rows: of the corpus.
        chosen: [n], whose.
        config: of the signatures.
        work: where they go.
        workers: processes.
        task: is told of every document.

    Returns:
        [chosen documents, 112] uint64, mapped from disk.
    """
    count = int(chosen.sum())
    size = config.bands * config.rows
    (work / _DONE).mkdir(exist_ok=True)
    path = work / _FILE
    if not path.exists() or path.stat().st_size != count * size * 8:
        for mark in (work / _DONE).iterdir():
            mark.unlink()
        with open(path, "wb") as file:
            file.truncate(count * size * 8)
    if count == 0:
        return np.empty((0, size), dtype=np.uint64)
    missing = []
    for part in _parts(rows, chosen):
        if (work / _DONE / f"{part.number:05d}.done").exists():
            task.advance(len(part.rows))
        else:
            missing.append(part)
    left = int(rows.sizes[chosen].sum())
    sign = _Sign(config, work, count)
    workers = 1 if left < WORTH_A_POOL else min(workers, len(missing) or 1)
    with closing(carry_out(missing, sign, workers)) as messages:
        for _, done in messages:
            task.advance(done)
    return np.memmap(path, dtype="<u8", mode="r", shape=(count, size))


def _parts(rows: Rows, chosen: NDArray[np.bool_]) -> Iterator[_Part]:
    start = 0
    for number, path in enumerate(rows.paths):
        inside = np.flatnonzero(chosen[rows.starts[number] : rows.starts[number + 1]])
        if len(inside):
            yield _Part(path, inside, start, number)
            start += len(inside)
