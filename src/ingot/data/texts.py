"""Texts of many places, streamed: what was read, what was dropped, and a fair sample to measure on."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Sequence

from ingot.data.document import Dropped
from ingot.data.sources import open_place, read
from ingot.errors import DataError
from ingot.progress import Progress

SAMPLE = 2_000_000
"""Characters of the sample."""

_LONGEST = 100_000  # characters of one document in the sample


class Texts:
    """The texts of files, folders and whatever else `open_place` reads; in memory one at a time.

    The sample holds whole documents (the beginnings of long ones), chosen by a hash of their ids: the same
    ones whenever the same places are read.

    Args:
        places: what to read.
        progress: is told of every source.
        what: the work, for people.

    Attributes:
        documents: that were read.
        bytes: of their texts in UTF-8.
        dropped: files, lines and rows that were not used, by reason.

    Raises:
        DataError: a place that does not exist, or holds nothing readable; while reading, no text at all.
    """

    def __init__(
        self, places: Sequence[str], progress: Progress | None = None, what: str = "reading"
    ) -> None:
        self._progress = progress or Progress()
        self._what = what
        self._where = ", ".join(places)
        self._sources = [one for place in places for one in open_place(place, progress=progress).sources]
        self._sample: list[tuple[int, str]] = []  # a heap, the largest hash first
        self._size = 0
        self.documents = self.bytes = 0
        self.dropped: Counter[str] = Counter()

    def __iter__(self) -> Iterator[str]:
        with self._progress.task(self._what, len(self._sources), "files") as task:
            for source in self._sources:
                for one in read(source):
                    if isinstance(one, Dropped):
                        self.dropped[one.reason] += 1
                    elif one.text:
                        self.documents += 1
                        self.bytes += len(one.text.encode("utf-8", errors="replace"))
                        self._keep(one.id, one.text)
                        yield one.text
                task.advance()
        if not self.documents:
            raise DataError("no text there", where=self._where, fix="give files that hold text")

    @property
    def sample(self) -> list[str]:
        """The sample of what was read so far."""
        return [text for _, text in sorted(self._sample, reverse=True)]

    def _keep(self, name: str, text: str) -> None:
        digest = hashlib.blake2b(name.encode("utf-8", errors="replace"), digest_size=8).digest()
        kept = text[:_LONGEST]
        heapq.heappush(self._sample, (-int.from_bytes(digest, "big"), kept))
        self._size += len(kept)
        while self._size > SAMPLE and len(self._sample) > 1:
            _, lost = heapq.heappop(self._sample)
            self._size -= len(lost)
