"""Tables in files: parquet, and CSV or TSV; one document per row, from the column of texts."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from ingot.data.document import Document, Dropped
from ingot.data.readers.reading import Reading
from ingot.data.readers.source import Refused, Source, first_line
from ingot.data.readers.unpacked import opened, too_large

if TYPE_CHECKING:
    import pyarrow.parquet

_ROWS = 1024
_BUFFER = 2**20  # read in pieces: a row group may be large


def text_column(names: list[str], reading: Reading) -> str:
    """Returns the column of texts: the first of the text keys, or the only column there is.

    Raises:
        Refused: there is none.
    """
    for key in reading.text_keys:
        if key in names:
            return key
    if len(names) == 1:
        return names[0]
    raise Refused("no text", f"its columns are {', '.join(names)}")


def read_parquet(source: Source, reading: Reading) -> Iterator[Document | Dropped]:
    """Reads one column of a parquet file, a row group at a time.

    Raises:
        Refused: it is damaged, or has no column of texts.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(source.path, buffer_size=_BUFFER, pre_buffer=False) as file:
            names = file.schema_arrow.names
            key = next((key for key in reading.text_keys if key in names), None)
            if key is None:
                raise Refused("no text", f"its columns are {', '.join(names)}")
            rows = _rows_at_once(file.metadata, names.index(key), reading)
            number = 0
            for batch in file.iter_batches(batch_size=rows, columns=[key]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    yield _document(f"{source.name}:{number}", text, key, source, reading)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's error, not the content's
        raise Refused("damaged", first_line(error)) from None


def _rows_at_once(metadata: pyarrow.parquet.FileMetaData, column: int, reading: Reading) -> int:
    """How many rows fit in memory whatever they hold: no value is larger than its column chunk."""
    paths = [metadata.schema.column(index).path.partition(".")[0] for index in range(metadata.num_columns)]
    top = list(dict.fromkeys(paths))[column]
    largest = 1
    for group in range(metadata.num_row_groups):
        chunk = metadata.row_group(group).column(paths.index(top))
        size, packed = chunk.total_uncompressed_size, chunk.total_compressed_size
        if size > (most := reading.most_unpacked(packed)):
            ratio = size / max(1, packed)
            what = f"row group {group} unpacks to {size:,} bytes, {ratio:,.0f} times its {packed:,}"
            raise Refused("zip bomb", what, size, most)
        largest = max(largest, size)
    return max(1, min(_ROWS, reading.max_unpacked_bytes // largest))


def _document(id: str, text: object, key: str, source: Source, reading: Reading) -> Document | Dropped:
    if not isinstance(text, str):
        return Dropped(id, "bad line", f"no text under {key}")
    if len(text) > reading.max_document_bytes:
        refused = too_large(len(text), reading.max_document_bytes)
        return Dropped(id, refused.reason, refused.detail, refused.value, refused.threshold)
    return Document(id, source.name, text, "text", source.licence)


def read_csv(source: Source, reading: Reading, delimiter: str) -> Iterator[Document | Dropped]:
    """Reads a table with a header line, packed or not; fields may be quoted and hold line ends.

    A row with another number of fields than the header is dropped: its columns cannot be told.

    Raises:
        Refused: it is in no declared encoding, or has no column of texts.
    """
    with opened(source.path, reading) as file:
        lines = _Lines(file, reading)
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        csv.field_size_limit(reading.max_document_bytes)
        column: int | None = None
        number = fields = 0
        while True:
            lines.next_row()
            try:
                row = next(rows)
            except StopIteration:
                return
            except (csv.Error, UnicodeDecodeError) as error:
                number += 1
                what = f"not a row of a table ({error}); it took {lines.taken:,} lines"
                reason = "encoding" if isinstance(error, UnicodeDecodeError) else "bad line"
                yield Dropped(f"{source.name}:{number}", reason, what)
                rows = csv.reader(lines, delimiter=delimiter, strict=True)  # goes on with the next line
                continue
            if not row:
                continue  # a blank line between rows
            if column is None:
                column, fields = row.index(text_column(row, reading)), len(row)
                continue
            number += 1
            id = f"{source.name}:{number}"
            if len(row) == fields:
                yield Document(id, source.name, row[column], "text", source.licence)
            else:
                yield Dropped(id, "bad line", f"{len(row)} fields where the header has {fields}")


class _Lines(Iterable[str]):
    """Lines of text for the csv module, counted by the row that they are in."""

    def __init__(self, file: BinaryIO, reading: Reading) -> None:
        self._file, self._limit, self._encoding = file, reading.max_document_bytes, reading.encoding
        self._first = True
        self.next_row()

    def next_row(self) -> None:
        self._held = self.taken = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(self._limit + 1)
        if not line:
            raise StopIteration
        self.taken += 1
        self._held += len(line)
        if self._held > self._limit:
            raise too_large(self._held, self._limit)
        if self._first:
            if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise Refused("encoding", "tables in UTF-16 are not read; save it as UTF-8")
            line, self._first = line.removeprefix(codecs.BOM_UTF8), False
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            if self._encoding is None:
                raise
            return line.decode(self._encoding)
