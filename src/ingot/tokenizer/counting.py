"""Counting pieces: how often each piece of text occurs, on all cores and in bounded memory.

Texts are gathered to batches of equal size; workers count a batch each and forget it; the batches are added
up in their order here. So the result does not depend on the number of workers.

Natural text keeps bringing new pieces, most of them once. Where the table would outgrow its memory, the
rarest pieces are dropped (lossy counting: Manku and Motwani 2002, section 4.2, with the cut made when the
memory is full). Whenever all pieces seen at most c times are dropped, each loses at most c, so with the sum
of these cuts as `error`:

    counted <= true count <= counted + error        for every piece, dropped or not,

and a piece that occurs more than `error` times is there. Nothing is dropped below the limit.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Protocol

from ingot.device import threads
from ingot.errors import ConfigError, ResourceError
from ingot.progress import Task
from ingot.tokenizer.split import Splitter

MEMORY_MB = 1024
"""What the table of pieces may take unless it is said: enough for some six million different pieces."""

_BATCH = 1 << 22  # characters
_FEW = 4  # batches that are not worth a worker's start
_LONG = 1 << 20  # characters of a text whose list of pieces is not made at once
_ENTRY = 100  # bytes of a slot in the table and its count


class Cut(Protocol):
    """What cuts a text into pieces."""

    def split(self, text: str) -> list[str]:
        """Returns the pieces of a text."""
        ...


class PieceCounts(Counter[str]):
    """How often each piece occurs, and what the memory limit cost.

    Attributes:
        dropped: pieces seen that are not in here any more.
        error: no count is more than this below the true one; 0 means exact.
        prunings: how often the rarest pieces were dropped.
    """

    dropped: int = 0
    error: int = 0
    prunings: int = 0

    @property
    def exact(self) -> bool:
        """Whether nothing was dropped."""
        return self.prunings == 0

    @property
    def bound(self) -> dict[str, int]:
        """What the memory limit cost, as plain data: `error`, `dropped`, `prunings`."""
        return {"error": self.error, "dropped": self.dropped, "prunings": self.prunings}


def count(
    texts: Iterable[str],
    cut: Cut | None = None,
    *,
    workers: int | None = None,
    memory_mb: float = MEMORY_MB,
    normalise: Callable[[str], str] | None = None,
    task: Task | None = None,
) -> PieceCounts:
    """Counts the pieces of texts.

    Args:
        texts: any number of them, read once.
        cut: what cuts them, a `Splitter` or the like that can be pickled; Qwen2's split if None.
        workers: processes; all cores if None. Few texts are counted in this one. As everywhere in Python, a
            script that starts workers keeps its own code behind `if __name__ == "__main__":`.
        memory_mb: MB that the table may take, measured by the size of its strings and slots. Batches on their
            way come on top: some 50 MB for each worker.
        normalise: is applied to each text first; goes to the workers, so it must be a function of a module.
        task: is told of every character.

    Returns:
        The counts, the same for any number of workers; above `memory_mb` with a bound on their error.

    Raises:
        ConfigError: no worker, or no memory.
        ResourceError: a worker was killed.

    Example:
        >>> counts = count(["to be or not to be"])
        >>> counts[" be"], counts.exact
        (2, True)
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}", where="counting", fix="use 1 or more")
    if memory_mb <= 0:
        raise ConfigError(f"memory_mb is {memory_mb}", where="counting", fix="use 1 or more")
    task = task or Task()
    table = _Table(memory_mb * 2**20)
    for counted, size in _counted(_batches(texts), cut or Splitter(), normalise, workers or threads()):
        table.add(counted)
        task.advance(size)
    return table.counts


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Gathers texts until they have enough characters."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _counted(
    batches: Iterator[list[str]], cut: Cut, normalise: Callable[[str], str] | None, workers: int
) -> Iterator[tuple[Mapping[str, int], int]]:
    """The counts of each batch and its characters, in order."""
    first = list(itertools.islice(batches, _FEW))
    if workers == 1 or len(first) < _FEW:
        for batch in itertools.chain(first, batches):
            yield _count_batch(batch, cut, normalise), sum(map(len, batch))
        return
    waiting: deque[tuple[Future[Counter[str]], int]] = deque()
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        for batch in itertools.chain(first, batches):
            waiting.append((pool.submit(_count_batch, batch, cut, normalise), sum(map(len, batch))))
            if len(waiting) > workers:
                counted, size = waiting.popleft()
                yield counted.result(), size
        while waiting:
            counted, size = waiting.popleft()
            yield counted.result(), size
    except BrokenProcessPool:
        what = "a worker that counts pieces was killed, most likely for want of memory"
        raise ResourceError(what, where="counting", fix="use fewer workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _count_batch(texts: list[str], cut: Cut, normalise: Callable[[str], str] | None) -> Counter[str]:
    """Counts one batch; runs in a worker."""
    counts: Counter[str] = Counter()
    for text in texts if normalise is None else map(normalise, texts):
        if len(text) > _LONG and isinstance(cut, Splitter):
            counts.update(cut.iterate(text))
        else:
            counts.update(cut.split(text))
    return counts


class _Table:
    """Counts that grow, and are cut back where they outgrow their memory.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: float) -> None:
        self.counts = PieceCounts()
        self._limit = limit
        self._size = 0

    def add(self, counted: Mapping[str, int]) -> None:
        """Adds the counts of a batch."""
        counts = self.counts
        for piece, number in counted.items():
            old = dict.get(counts, piece)
            if old is None:
                self._size += sys.getsizeof(piece) + _ENTRY
                counts[piece] = number
            else:
                counts[piece] = old + number
        if self._size > self._limit:
            self._prune()

    def _prune(self) -> None:
        """Drops all pieces that are seen least, until half of the memory is free."""
        counts = self.counts
        sizes: Counter[int] = Counter()  # of all pieces seen so often
        for piece, number in counts.items():
            sizes[number] += sys.getsizeof(piece) + _ENTRY
        cut = 0
        for number in sorted(sizes):
            if self._size <= self._limit / 2:
                break
            self._size -= sizes[number]
            cut = number
        rare = [piece for piece, number in counts.items() if number <= cut]
        for piece in rare:
            counts.dropped += counts.pop(piece)
        counts.error += cut
        counts.prunings += 1
