"""Rows of finished units: what decisions over the whole corpus need of every document, and texts on demand.

A document is a number here, counted through the units in their order. Some forty bytes of each are held in
memory; ids and texts stay on disk and are read when they are asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ingot.data import tables
from ingot.data.units import DOCUMENTS

if TYPE_CHECKING:
    import pyarrow.parquet

_OPEN = 64  # files
_CACHED = 64 * 2**20  # bytes of text


@dataclass(frozen=True)
class Rows:
    """All documents of finished units.

    Args:
        paths: the units' files.
        starts: [units + 1] int64, the number of each unit's first document.
        hashes: [n, 2] uint64, of the texts.
        sizes: [n] int64, bytes of the texts.
        sources: [n] int32, into `names`.
        names: of the sources, in the order in which they appear.
    """

    paths: list[Path]
    starts: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    sources: NDArray[np.int32]
    names: list[str]

    @classmethod
    def load(cls, units: Sequence[Path]) -> Self:
        """Reads the rows of units, without their texts."""
        paths = [unit / DOCUMENTS for unit in units]
        numbers: dict[str, int] = {}
        hashes, sizes, sources = [], [], []
        starts = [0]
        for path in paths:
            count = 0
            for batch in tables.batches(path, ["source", "hash", "bytes"]):
                digests = batch.column("hash").buffers()[1]
                offset = batch.column("hash").offset
                raw = np.frombuffer(digests, dtype="<u8")[2 * offset : 2 * (offset + batch.num_rows)]
                hashes.append(raw.reshape(-1, 2).copy())
                sizes.append(batch.column("bytes").to_numpy().astype(np.int64))
                coded = batch.column("source").dictionary_encode()
                codes = [numbers.setdefault(name, len(numbers)) for name in coded.dictionary.to_pylist()]
                sources.append(np.array(codes, dtype=np.int32)[coded.indices.to_numpy()])
                count += batch.num_rows
            starts.append(starts[-1] + count)
        return cls(
            paths,
            np.array(starts, dtype=np.int64),
            np.concatenate([*hashes, np.empty((0, 2), np.uint64)]),
            np.concatenate([*sizes, np.empty(0, np.int64)]),
            np.concatenate([*sources, np.empty(0, np.int32)]),
            list(numbers),
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def ids(self) -> Iterator[str]:
        """All ids, in order."""
        for path in self.paths:
            for batch in tables.batches(path, ["id"]):
                yield from batch.column("id").to_pylist()

    def texts(self, chosen: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        """Number and text of the chosen documents, in order."""
        number = 0
        for path in self.paths:
            for batch in tables.batches(path, ["text"]):
                wanted = np.flatnonzero(chosen[number : number + batch.num_rows])
                for text, row in zip(batch.column("text").take(wanted).to_pylist(), wanted, strict=True):
                    yield number + int(row), text
                number += batch.num_rows


class Access:
    """Ids and texts of single documents, with what was read last kept in bounded memory.

    Args:
        rows: of which corpus.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._files: OrderedDict[int, tuple[pyarrow.parquet.ParquetFile, NDArray[np.int64]]] = OrderedDict()
        self._cached: OrderedDict[tuple[int, int, str], tuple[list[str], int]] = OrderedDict()
        self._size = 0

    def text(self, number: int) -> str:
        """Returns the text of a document."""
        return self._value(number, "text")

    def id(self, number: int) -> str:
        """Returns the id of a document."""
        return self._value(number, "id")

    def _value(self, number: int, column: str) -> str:
        unit = int(np.searchsorted(self._rows.starts, number, side="right")) - 1
        row = number - int(self._rows.starts[unit])
        file, groups = self._file(unit)
        group = int(np.searchsorted(groups, row, side="right")) - 1
        return self._group(unit, group, column, file)[row - int(groups[group])]

    def _file(self, unit: int) -> tuple[Any, NDArray[np.int64]]:
        if unit not in self._files:
            file = tables.opened(self._rows.paths[unit])
            counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            self._files[unit] = (file, np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]))
            if len(self._files) > _OPEN:
                old, _ = self._files.popitem(last=False)[1]
                old.close()
        self._files.move_to_end(unit)
        return self._files[unit]

    def _group(self, unit: int, group: int, column: str, file: Any) -> list[str]:
        key = (unit, group, column)
        if key not in self._cached:
            path = self._rows.paths[unit]
            with tables.guarded(path):
                values = file.read_row_group(group, [column], use_threads=False).column(0).to_pylist()
            size = sum(map(len, values))
            self._cached[key] = (values, size)
            self._size += size
            while self._size > _CACHED and len(self._cached) > 1:
                self._size -= self._cached.popitem(last=False)[1][1]
        self._cached.move_to_end(key)
        return self._cached[key][0]
