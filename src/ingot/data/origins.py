"""Where the tokens come from: a table beside the shards with one row for each document."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from ingot.errors import ArtifactError

if TYPE_CHECKING:
    import pyarrow

    from ingot.data.document import Document

GROUP = 8192
"""Rows of the table that are written, and read, together."""

_HASH = 16  # bytes
_TEXT = ("id", "source", "kind", "licence", "language")


class Origin(NamedTuple):
    """What is known of a document whose text has become tokens.

    Args:
        id, source, kind, licence, language: as in `Document`.
        hash: of its text, 16 bytes.
    """

    id: str
    source: str
    kind: str
    licence: str | None
    language: str | None
    hash: bytes

    @classmethod
    def of(cls, document: Document) -> Self:
        """Returns the origin of a document."""
        text = document.text.encode("utf-8", errors="surrogatepass")
        digest = hashlib.blake2b(text, digest_size=_HASH).digest()
        one = document
        return cls(one.id, one.source, one.kind, one.licence, one.language, digest)


def schema() -> pyarrow.Schema:
    """Returns the columns of the table."""
    import pyarrow

    columns = [(name, pyarrow.string()) for name in _TEXT]
    return pyarrow.schema([*columns, ("hash", pyarrow.binary(_HASH))])


def as_batch(origins: Sequence[Origin]) -> pyarrow.RecordBatch:
    """Returns some rows of the table; a text that no file can hold (a lone surrogate) gets question marks."""
    import pyarrow

    columns = {
        name: [_writable(one) for one in column]
        for name, column in zip(_TEXT, zip(*origins, strict=True), strict=False)
    }
    columns["hash"] = [one.hash for one in origins]  # type: ignore[misc]
    return pyarrow.RecordBatch.from_pydict(columns, schema=schema())


def _writable(text: str | None) -> str | None:
    return None if text is None else text.encode("utf-8", errors="replace").decode()


class Origins:
    """The tables of some shards, read a few rows at a time.

    Args:
        paths: of the tables, in the order of the shards.
        counts: documents of each.

    Example:
        >>> Tokens.open(folder).origins[41].source   # doctest: +SKIP
        'wiki/rivers.md'
    """

    def __init__(self, paths: Sequence[Path], counts: Sequence[int]) -> None:
        self.paths = list(paths)
        self._starts = np.cumsum([0, *counts], dtype=np.int64)
        self._open: tuple[int, Any] = (-1, None)
        self._rows: tuple[tuple[int, int], list[Origin]] = ((-1, -1), [])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Origin:
        """Returns the origin of a document.

        Raises:
            IndexError: there is no such document.
            ArtifactError: the table is missing or damaged.
        """
        index = range(len(self))[index]
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        group, row = divmod(index - int(self._starts[shard]), GROUP)
        if self._rows[0] != (shard, group):
            table = self._read(shard, group)
            columns = [table.column(name).to_pylist() for name in (*_TEXT, "hash")]
            self._rows = (shard, group), [Origin(*values) for values in zip(*columns, strict=True)]
        return self._rows[1][row]

    def column(self, name: str) -> Iterable[list[Any]]:
        """Yields one column of all documents, some thousands of values at a time."""
        for shard, count in enumerate(np.diff(self._starts).tolist()):
            for group in range(-(-count // GROUP)):
                yield self._read(shard, group, [name]).column(name).to_pylist()

    def _read(self, shard: int, group: int, columns: list[str] | None = None) -> Any:
        import pyarrow
        import pyarrow.parquet

        try:
            if self._open[0] != shard:
                self._open = shard, pyarrow.parquet.ParquetFile(self.paths[shard])
            return self._open[1].read_row_group(group, columns=columns)
        except (OSError, pyarrow.ArrowException) as error:
            what = f"cannot be read ({str(error).splitlines()[0]})"
            raise ArtifactError(what, where=self.paths[shard], fix="run the tokenizer stage again") from None
