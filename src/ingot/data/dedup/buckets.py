"""Which texts share a band: all signatures of a corpus, grouped in little memory.

    signatures [n, 112] on disk -> 14 keys of each -> per band: keys sorted, equal ones make a bucket
    places [14, n]              -> texts in order: look at the texts that stay in my buckets; then join them

A bucket remembers the first `REPRESENTATIVES` texts in it that stay, and no more, so that a bucket of a
million costs a million comparisons or a few, never their square. A bucket of true copies has one that stays.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.data.dedup.minhash import NO_WORDS, permutations
from ingot.data.dedup.rolling import Hashes, Places
from ingot.data.permutation import mix
from ingot.progress import Task

REPRESENTATIVES = 64
"""Texts of one bucket, at most, that later texts are compared with: the first ones that stay."""

_CHUNK = 2**14  # signatures that are read in one go
_SORTED_BITS = 21  # about so many keys, as a power of 2, are sorted in one go
_IN_MEMORY = 2**25  # bytes; larger arrays lie in a file


class Buckets:
    """The buckets of a corpus.

    Of each text they hold 17 bytes for each band while they are made, then 9, in files where there are many:
    less than 200 MB are in memory, however many texts there are.

    Args:
        signatures: [n, size] unsigned numbers, n below 2^32; a row of `NO_WORDS` belongs to no bucket.
        bands: how many.
        rows: numbers of a band.
        folder: for large arrays, which go with the buckets; None is the system's folder for such.
        task: is told of every text once it is grouped.
    """

    def __init__(
        self,
        signatures: NDArray[np.unsignedinteger],
        bands: int,
        rows: int,
        folder: Path | None = None,
        task: Task | None = None,
    ) -> None:
        self.count = len(signatures)
        task = task or Task()
        keys = scratch((bands, self.count), np.uint64, folder)
        for start in range(0, self.count, _CHUNK):
            part = np.asarray(signatures[start : start + _CHUNK])
            keys[:, start : start + len(part)] = _keys(part, bands, rows)
            forget(signatures)
            forget(keys)
            task.advance(len(part))
        # A bucket is the place in `_members` where it begins: [place, place + size) is all its own.
        self._places = scratch((bands, self.count), np.uint32, folder)
        self._members = scratch((bands, self.count), np.uint32, folder)
        self._counts = scratch((bands, self.count), np.uint8, folder)
        for band in range(bands):
            _group(keys[band], self._places[band])
            forget(keys)
            forget(self._places)

    def texts(self) -> Iterator[tuple[int, Places, Places]]:
        """Yields the texts that share a bucket, in order: the index, and its buckets by band and place."""
        for start in range(0, self.count, _CHUNK):
            part = np.array(self._places[:, start : start + _CHUNK])
            for column in np.flatnonzero(part.any(axis=0)).tolist():
                bands = np.flatnonzero(part[:, column])
                yield start + column, bands, part[bands, column].astype(np.int64) - 1

    def forget(self) -> None:
        """Lets go of the memory that its files take."""
        for array in (self._places, self._members, self._counts):
            forget(array)

    def representatives(self, bands: Places, places: Places) -> list[int]:
        """Returns the texts that stay, so far, in any of these buckets, in order."""
        found: set[int] = set()
        for band, place, count in zip(bands, places, self._counts[bands, places], strict=True):
            found.update(self._members[band, place : place + count].tolist())
        return sorted(found)

    def stays(self, index: int, bands: Places, places: Places) -> None:
        """Joins a text to its buckets, where these remember fewer than they may."""
        counts = self._counts[bands, places]
        room = counts < REPRESENTATIVES
        bands, places, counts = bands[room], places[room], counts[room]
        self._members[bands, places + counts] = index
        self._counts[bands, places] = counts + 1


def scratch(shape: tuple[int, ...], dtype: Any, folder: Path | None) -> NDArray[Any]:
    """Returns an array of zeros: in memory, or in a file without a name if it is large."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= _IN_MEMORY:
        return np.zeros(shape, dtype=dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(size)
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def forget(array: NDArray[Any]) -> None:
    """Lets go of the memory that pages of a mapped file take; what was written in them is kept."""
    base: Any = array
    while isinstance(base, np.ndarray) and not isinstance(base.base, mmap.mmap):
        base = base.base
    shared = isinstance(base, np.memmap) and base.mode != "c"  # a private copy would lose what was written
    if shared and hasattr(mmap, "MADV_DONTNEED"):
        base.base.madvise(mmap.MADV_DONTNEED)


def _keys(signatures: NDArray[np.unsignedinteger], bands: int, rows: int) -> Hashes:
    """[bands, c]: the numbers of each band as one, never 0; 0 where there were no words."""
    parts = signatures[:, : bands * rows].astype(np.uint64).reshape(len(signatures), bands, rows)
    factors, _ = permutations(rows, seed=0)
    keys = mix((mix(parts) * factors).sum(axis=2, dtype=np.uint64)) | np.uint64(1)
    keys[(signatures == np.array(NO_WORDS).astype(signatures.dtype)).all(axis=1)] = 0
    return keys.T


def _group(keys: Hashes, places: NDArray[np.uint32]) -> None:
    """Writes, for each text that shares its key, 1 + where its bucket begins; sorts some keys at a time."""
    bits = max(0, (len(keys) - 1).bit_length() - _SORTED_BITS)
    begin = 0
    for part in range(2**bits):  # keys that begin with the same bits; equal ones do
        chunks = []
        for start in range(0, len(keys), 2**_SORTED_BITS):
            chunk = np.asarray(keys[start : start + 2**_SORTED_BITS])
            mine = (chunk >> np.uint64(1)) >> np.uint64(63 - bits) == part
            chunks.append(start + np.flatnonzero(mine & (chunk != 0)))
        index = np.concatenate(chunks) if chunks else np.empty(0, dtype=np.int64)
        order = index[np.argsort(keys[index], kind="stable")]
        found = keys[order]
        first = np.concatenate(([True], found[1:] != found[:-1])) if len(found) else np.empty(0, dtype=bool)
        starts = np.flatnonzero(first)
        sizes = np.diff(np.append(starts, len(found)))
        shared = np.repeat(sizes > 1, sizes)
        places[order[shared]] = (begin + 1 + np.repeat(starts, sizes)[shared]).astype(np.uint32)
        begin += len(found)
