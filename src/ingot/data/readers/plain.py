"""Plain text and source code: one file, one document; nothing about its encoding is guessed.

Text must be UTF-8 unless the file itself declares something else (a Python coding cookie, a byte order
mark) or the reader states what other files are in. What cannot be read is dropped: a wrong guess trains
on garbage.
"""

from __future__ import annotations

import codecs
import io
import re
import tokenize
from collections.abc import Iterator

from ingot.data.document import Document, Dropped, is_code
from ingot.data.readers.reading import Reading
from ingot.data.readers.source import Refused, Source
from ingot.data.readers.unpacked import opened, too_large, whole

_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SPDX = re.compile(r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+ ()-]+?)[ \t]*(?:\*/|-->|[\r\n]|$)")
_HEAD = 2000
_STEP = 2**20


def read_plain(source: Source, reading: Reading, kind: str) -> Iterator[Document | Dropped]:
    """Reads a text file as one document, or as many where `reading.separator` says how they part.

    Raises:
        Refused: it is too large, binary, or in another encoding.
    """
    if reading.separator is not None and not is_code(kind):
        yield from _separated(source, reading, kind, reading.separator)
        return
    text = decoded(whole(source.path, reading), reading, kind)
    licence = source.licence
    if is_code(kind) and (stated := _SPDX.search(text, 0, _HEAD)):
        licence = stated[1]
    yield Document(source.name, source.name, text, kind, licence)


def decoded(data: bytes, reading: Reading, kind: str = "text") -> str:
    """Returns bytes as text.

    Args:
        data: the whole content.
        reading: states what is in no declared encoding.
        kind: of the document; Python files may declare theirs.

    Raises:
        Refused: "binary" or "encoding".
    """
    if data.startswith(_MARKS):
        return _strict(data, "utf-16")
    if b"\0" in data.rstrip(b"\0"):
        if reading.encoding is not None and len("a".encode(reading.encoding)) > 1:
            return _strict(data, reading.encoding)
        raise _binary(data)
    encoding = "utf-8"
    if kind == "python":
        try:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        except SyntaxError as error:
            if reading.encoding is None:
                raise _undeclared(encoding, error) from None
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        if reading.encoding is None:
            raise _undeclared(encoding, error) from None
    return _strict(data, reading.encoding)


def _strict(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undeclared(encoding, error) from None


def _undeclared(encoding: str, error: Exception) -> Refused:
    return Refused("encoding", f"not {encoding} and declares nothing else ({error})")


def _binary(data: bytes) -> Refused:
    """Text in UTF-16 without its mark has a NUL in every other byte; anything else is no text."""
    head = data[:1024]
    for order, offset in (("le", 1), ("be", 0)):
        half = head[offset::2]
        if len(head) >= 16 and half.count(0) >= 0.9 * len(half) and head[1 - offset :: 2].count(0) == 0:
            return Refused("encoding", f"utf-16-{order} by its look, without a byte order mark")
    return Refused("binary", f"NUL byte at {data.index(0)}")


def _separated(source: Source, reading: Reading, kind: str, separator: str) -> Iterator[Document | Dropped]:
    """Documents between separators, streamed; blank ones are what two separators in a row leave."""
    mark = separator.encode("utf-8")
    for number, piece in enumerate(_pieces(source, reading, mark), start=1):
        id = f"{source.name}:{number}"
        try:
            if isinstance(piece, Refused):
                raise piece
            text = decoded(piece, reading, kind).strip()
            if text:
                yield Document(id, source.name, text, kind, source.licence)
        except Refused as refused:
            yield Dropped(id, refused.reason, refused.detail, refused.value, refused.threshold)


def _pieces(source: Source, reading: Reading, mark: bytes) -> Iterator[bytes | Refused]:
    limit = reading.max_document_bytes
    buffer = bytearray()
    lost = 0  # bytes of a piece that is already too large, and no longer kept
    with opened(source.path, reading) as file:
        while block := file.read(_STEP):
            start = max(0, len(buffer) - len(mark) + 1)
            buffer += block
            while (end := buffer.find(mark, start)) >= 0:
                size = lost + end
                yield too_large(size, limit) if size > limit else bytes(buffer[:end])
                del buffer[: end + len(mark)]
                start, lost = 0, 0
            if lost + len(buffer) > limit:
                keep = len(mark) - 1
                lost += len(buffer) - keep
                del buffer[: len(buffer) - keep]
    size = lost + len(buffer)
    yield too_large(size, limit) if size > limit else bytes(buffer)
