"""Long rows of numbers that stay on disk: one or several files, read where they are asked for.

Short rows are mapped into memory. Long ones are read by place: around every page that is looked at for the
first time, a mapped file has the system read as much as it reads ahead (megabytes on some machines), and
all of it counts as this process's memory. Reading 8 kB at random places took 12 microseconds instead of 300
where this was measured, and no memory.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.errors import ArtifactError

MAPPED = 32 << 20
"""Bytes up to which a row is mapped."""

_AT_ONCE = 1 << 30  # bytes that the system is asked for in one call; it gives no more than 2 GiB


class Stored:
    """The numbers of some files, one file after another, as one row.

    Args:
        paths: of the files, each a whole number of numbers long.
        dtype: of the numbers.

    Example:
        >>> Stored([folder / "train.bin"], "<u2")[:3]   # doctest: +SKIP
        array([12, 7, 99], dtype=uint16)
    """

    def __init__(self, paths: Sequence[Path], dtype: np.dtype[Any] | str) -> None:
        self.paths, self.dtype = tuple(paths), np.dtype(dtype)
        lengths = [path.stat().st_size // self.dtype.itemsize for path in self.paths]
        self._starts = np.cumsum([0, *lengths], dtype=np.int64)
        long = len(self) * self.dtype.itemsize > MAPPED
        self._parts = [(_Read if long else _map)(path, self.dtype) for path in self.paths]

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int]:
        """Its length, as an array says it."""
        return (len(self),)

    def __getitem__(self, key: Any) -> Any:
        """Returns one number, or an array of those of a slice.

        Raises:
            ArtifactError: a file has become shorter since it was opened.
        """
        if not isinstance(key, slice):
            place = range(len(self))[key]
            return self[place : place + 1][0]
        start, stop, step = key.indices(len(self))
        if step != 1:
            return np.asarray(self)[key]
        if len(self._parts) == 1:
            return self._parts[0][start : max(start, stop)]
        first = int(np.searchsorted(self._starts[1:], start, side="right"))
        last = int(np.searchsorted(self._starts[:-1], stop, side="left"))
        pieces = []
        for part, begin, end in zip(
            self._parts[first:last],
            self._starts[first:last].tolist(),
            self._starts[first + 1 : last + 1].tolist(),
            strict=True,
        ):
            pieces.append(part[max(start - begin, 0) : min(stop, end) - begin])
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, self.dtype), *pieces])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it, as an array in memory."""
        return np.array(self[:], dtype=dtype) if copy else np.asarray(self[:], dtype=dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return Stored, (self.paths, self.dtype)


def _map(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    if path.stat().st_size == 0:  # which no system maps
        return np.empty(0, dtype)
    with open(path, "rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype)


class _Read:
    """The numbers of a file, read by place; several threads and forked processes may read at once."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path, self.dtype = path, dtype
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - open as long as the row is in use

    def __getitem__(self, key: slice) -> NDArray[Any]:
        found = np.empty(max(key.stop - key.start, 0), self.dtype)
        left, at = found.view(np.uint8).data, key.start * self.dtype.itemsize
        while left:
            count = os.preadv(self._file.fileno(), [left[:_AT_ONCE]], at)
            if count == 0:
                what = f"ends at byte {at:,}, where there was more when it was opened"
                raise ArtifactError(what, where=self.path, fix="have it made again")
            left, at = left[count:], at + count
        return found


class Chosen:
    """Some stretches of a row, one after another, as a row of their own.

    Args:
        row: an array or `Stored`.
        starts: [n] int64, where each stretch begins in the row.
        lengths: [n] int64.
    """

    def __init__(self, row: Any, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        self.row, self.starts, self.dtype = row, starts, row.dtype
        self.ends = np.cumsum(lengths, dtype=np.int64)
        self.lengths = lengths

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, key: slice) -> NDArray[Any]:
        """Returns the numbers of a slice of step 1."""
        start, stop, _ = key.indices(len(self))
        first = int(np.searchsorted(self.ends, start, side="right"))
        pieces: list[NDArray[Any]] = []
        while start < stop:
            inside = start - int(self.ends[first] - self.lengths[first])
            count = min(stop - start, int(self.lengths[first]) - inside)
            at = int(self.starts[first]) + inside
            pieces.append(self.row[at : at + count])
            start, first = start + count, first + 1
        return np.concatenate(pieces) if len(pieces) > 1 else pieces[0] if pieces else np.empty(0, self.dtype)
