"""Batches made ahead: while the model learns from one step, a thread prepares the next."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from torch import Tensor

from ingot.data.stream import Part, Stream

_WORTH = 0.001  # seconds


class Prepared(NamedTuple):
    """A step's data: this process's rows, and the ids of everybody's."""

    batch: dict[str, Tensor]
    sample_ids: Tensor  # [b] int64, of the global batch


class Prefetch:
    """Gives the batches of a stream, the next one being made while this one is used.

    A stream is a pure function, so being early changes nothing; one that is not (`live`) is asked at
    its time. So is one that takes less than a millisecond: handing work from thread to thread costs as much.

    Args:
        stream: of the batches.
        part: which rows this process takes.
        pinned: whether to put batches in page-locked memory, which CUDA copies from without waiting.
    """

    def __init__(self, stream: Stream, part: Part, pinned: bool = False) -> None:
        self.stream = stream
        self.part = part
        self.pinned = pinned
        self._worth = 0.0 if pinned else _WORTH  # a GPU would have nothing to do in the meantime
        self._seconds = float("inf")  # that a batch takes at best
        self._thread: ThreadPoolExecutor | None = None
        self._next: tuple[tuple[int, int], Future[Prepared]] | None = None

    def get(self, step: int, salt: int, ahead: bool) -> Prepared:
        """Returns the data of a step.

        Args:
            step: counted from 0.
            salt: of the data's order.
            ahead: whether the next step will be wanted too.
        """
        if getattr(self.stream, "live", False):
            return self._prepare(step, salt)
        waiting, self._next = self._next, None
        if waiting is not None and waiting[0] == (step, salt):
            prepared = waiting[1].result()
        else:
            if waiting is not None and not waiting[1].cancel():
                waiting[1].exception()  # a stream is asked for one batch at a time
            prepared = self._prepare(step, salt)
        if ahead and self._seconds >= self._worth:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "prefetch")
            self._next = ((step + 1, salt), self._thread.submit(self._prepare, step + 1, salt))
        return prepared

    def close(self) -> None:
        """Ends the thread; what it made ahead is forgotten."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
        self._thread, self._next = None, None

    def _prepare(self, step: int, salt: int) -> Prepared:
        start = time.perf_counter()
        batch = self.stream.batch(step, salt, self.part)
        whole = self.part.ranks == 1 and not getattr(self.stream, "live", False)
        ids = batch["sample_ids"] if whole else self.stream.sample_ids(step, salt)
        if self.pinned:
            batch = {name: value.pin_memory() for name, value in batch.items()}
        self._seconds = min(self._seconds, time.perf_counter() - start)
        return Prepared(batch, ids)
