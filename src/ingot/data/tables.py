"""Tables on disk: rows of documents, and of what was dropped, in Parquet files that are written and read
piece by piece.

documents   id, source, text, kind, licence, language, hash (16 bytes of the text's), bytes (of UTF-8)
ledger      path, reason, detail, value, threshold, text

The same rows make the same bytes. What a file name holds that is no UTF-8 is written as `\\udc..`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ingot.data.document import Document, Dropped
from ingot.errors import ArtifactError

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

ROWS, BYTES = 1024, 4 * 2**20
"""A group of rows ends after so many rows or bytes of text; a reader holds one group at a time."""

DOCUMENT_TEXTS = ("id", "source", "text", "kind", "licence", "language")
LEDGER_TEXTS = ("path", "reason", "detail", "text")
_REPEATED = ["source", "kind", "licence", "language", "reason"]


def document_schema() -> pyarrow.Schema:
    """Returns the columns of documents."""
    import pyarrow

    texts = [(name, pyarrow.string()) for name in DOCUMENT_TEXTS]
    return pyarrow.schema([*texts, ("hash", pyarrow.binary(16)), ("bytes", pyarrow.int64())])


def ledger_schema() -> pyarrow.Schema:
    """Returns the columns of a ledger."""
    import pyarrow

    numbers = [(name, pyarrow.float64()) for name in ("value", "threshold")]
    text = pyarrow.string()
    return pyarrow.schema([(name, text) for name in LEDGER_TEXTS[:3]] + numbers + [("text", text)])


def document_row(document: Document, digest: bytes) -> tuple[Any, ...]:
    """Returns a document as a row.

    Args:
        document: its text holds no lone surrogates.
        digest: 16 bytes of the text's hash.
    """
    return (
        written(document.id),
        written(document.source),
        document.text,
        document.kind,
        document.licence,
        document.language,
        digest,
        len(document.text) if document.text.isascii() else len(document.text.encode("utf-8")),
    )


def ledger_row(one: Dropped) -> tuple[Any, ...]:
    """Returns what was dropped as a row."""
    return written(one.path), one.reason, written(one.detail), one.value, one.threshold, written(one.text)


def written(text: str) -> str:
    """Returns a text as UTF-8 can hold it: lone surrogates are written out.

    Example:
        >>> written("caf\\udce9.txt")
        'caf\\\\udce9.txt'
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


class Table:
    """A Parquet file under way; rows go to disk in groups.

    Args:
        path: the file.
        schema: its columns.

    Example:
        >>> with Table(folder / "ledger.parquet", ledger_schema()) as table:   # doctest: +SKIP
        ...     table.add(ledger_row(Dropped("a.txt", "empty", "0 bytes")))
    """

    def __init__(self, path: Path, schema: pyarrow.Schema) -> None:
        import pyarrow.parquet

        self.rows = 0
        self._schema = schema
        self._text = schema.names.index("text")
        self._waiting: list[tuple[Any, ...]] = []
        self._batches: list[pyarrow.RecordBatch] = []
        self._size = self._count = 0
        repeated = [name for name in _REPEATED if name in schema.names]
        self._writer = pyarrow.parquet.ParquetWriter(
            path, schema, compression="zstd", use_dictionary=repeated
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if error[0] is None:
                self._flush()
        finally:
            self._writer.close()

    def add(self, row: tuple[Any, ...]) -> None:
        """Adds one row, its values in the order of the columns."""
        self._waiting.append(row)
        self._note(1, len(row[self._text]))

    def add_batch(self, batch: pyarrow.RecordBatch, size: int) -> None:
        """Adds rows that are columns already; `size` is their bytes of text."""
        self._gather()
        self._batches.append(batch)
        self._note(batch.num_rows, size)

    def _note(self, rows: int, size: int) -> None:
        self.rows += rows
        self._count += rows
        self._size += size
        if self._count >= ROWS or self._size >= BYTES:
            self._flush()

    def _gather(self) -> None:
        import pyarrow

        if self._waiting:
            columns = zip(*self._waiting, strict=True)
            arrays = [pyarrow.array(c, field.type) for c, field in zip(columns, self._schema, strict=True)]
            self._batches.append(pyarrow.RecordBatch.from_arrays(arrays, schema=self._schema))
            self._waiting = []

    def _flush(self) -> None:
        import pyarrow

        self._gather()
        if self._batches:
            group = pyarrow.Table.from_batches(self._batches, schema=self._schema)
            self._writer.write_table(group, row_group_size=max(1, group.num_rows))
        self._batches, self._count, self._size = [], 0, 0


def batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pyarrow.RecordBatch]:
    """Reads a file group by group.

    Args:
        path: the file.
        columns: only these; None is all.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    with opened(path) as file:
        for group in range(file.num_row_groups):
            with guarded(path):
                table = file.read_row_group(group, columns, use_threads=False).combine_chunks()
            yield from table.to_batches()


def opened(path: Path) -> pyarrow.parquet.ParquetFile:
    """Opens a file.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    import pyarrow.parquet

    with guarded(path):
        return pyarrow.parquet.ParquetFile(path)


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Says which file it was where reading from it fails."""
    import pyarrow

    try:
        yield
    except FileNotFoundError:
        raise ArtifactError("no such file", where=path, fix="run the prepare stage") from None
    except (OSError, KeyError, ValueError, pyarrow.ArrowException) as error:
        what = f"is damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        raise ArtifactError(what, where=path, fix="run the prepare stage again") from None


def documents(paths: Iterable[Path]) -> Iterator[Document]:
    """Reads the documents of files, one after another."""
    for path in paths:
        for batch in batches(path, DOCUMENT_TEXTS):
            with guarded(path):  # a damaged text shows only now
                columns = [batch.column(name).to_pylist() for name in DOCUMENT_TEXTS]
            for row in zip(*columns, strict=True):
                id, source, text, kind, licence, language = row
                yield Document(id, source, text, kind, licence, language)


def dropped(paths: Iterable[Path]) -> Iterator[Dropped]:
    """Reads the entries of ledgers, one after another."""
    for path in paths:
        for batch in batches(path):
            for row in batch.to_pylist():
                yield Dropped(**row)
