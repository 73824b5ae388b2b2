"""Lines and arrays of JSON: one document per line or element; the bad ones are named."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from ingot.data.document import Document, Dropped
from ingot.data.readers.reading import Reading
from ingot.data.readers.source import Refused, Source
from ingot.data.readers.unpacked import opened, too_large

_STEP = 2**18
_SKIP = 2**20
_BLANKS = " \t\r\n"


def read_lines(source: Source, reading: Reading) -> Iterator[Document | Dropped]:
    """Reads JSON lines, packed or not, in memory for one line at a time."""
    with opened(source.path, reading) as file:
        for number, line in _lines(file, reading.max_document_bytes):
            id = f"{source.name}:{number}"
            if isinstance(line, Refused):
                yield Dropped(id, line.reason, line.detail, line.value, line.threshold)
                continue
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except ValueError as error:
                yield Dropped(id, "bad line", f"not JSON in UTF-8 ({error})")
            except RecursionError:
                yield Dropped(id, "bad line", "nested too deep")
            else:
                yield document_of(row, id, source, reading)


def document_of(row: object, id: str, source: Source, reading: Reading) -> Document | Dropped:
    """Returns the document that a JSON object holds under one of the text keys."""
    text = _text_of(row, reading.text_keys)
    if text is None:
        return Dropped(id, "bad line", f"no text under {' or '.join(reading.text_keys)}")
    return Document(id, source.name, text, "text", source.licence)


def _text_of(row: object, keys: tuple[str, ...]) -> str | None:
    if not isinstance(row, dict):
        return None
    return next((row[key] for key in keys if isinstance(row.get(key), str)), None)


def _lines(file: BinaryIO, limit: int) -> Iterator[tuple[int, bytes | Refused]]:
    """Lines by number; one over the limit is passed over without ever being in memory."""
    number = 0
    while line := file.readline(limit + 1):
        number += 1
        if len(line) <= limit or line.endswith(b"\n"):
            yield number, line
            continue
        size = len(line)
        while (more := file.readline(_SKIP)) and not more.endswith(b"\n"):
            size += len(more)
        yield number, too_large(size + len(more), limit)


def read_array(source: Source, reading: Reading) -> Iterator[Document | Dropped]:
    """Reads a JSON file: an array of objects, element by element, or one object.

    Raises:
        Refused: it is not JSON in UTF-8, or an element is larger than a document may be.
    """
    with opened(source.path, reading) as file:
        elements = _Elements(file, reading.max_document_bytes)
        if elements.is_array():
            for number, row in enumerate(elements, start=1):
                yield document_of(row, f"{source.name}:{number}", source, reading)
            return
        item = document_of(elements.next(), source.name, source, reading)
        if isinstance(item, Dropped):  # settings of a project, mostly
            item = Dropped(source.name, "no text", f"a JSON value with {item.detail}")
        elements.end()
        yield item


class _Elements:
    """Takes one JSON value after another from a stream."""

    def __init__(self, file: io.BufferedReader, limit: int) -> None:
        self._file, self._limit = file, limit
        self._text = codecs.getincrementaldecoder("utf-8-sig")()
        self._decoder = json.JSONDecoder()
        self._buffer, self._at = "", 0
        self._error: Refused | None = None

    def is_array(self) -> bool:
        if self._peek() != "[":
            return False
        self._at += 1
        return True

    def __iter__(self) -> Iterator[Any]:
        if self._peek() == "]":
            self._at += 1
        else:
            while True:
                yield self.next()
                mark = self._peek()
                self._at += 1
                if mark == "]":
                    break
                if mark != ",":
                    raise Refused("damaged", f"JSON: {mark or 'the end'!r} where ',' or ']' is due")
        self.end()

    def end(self) -> None:
        if self._peek():
            raise Refused("damaged", "JSON: more text after the end of the value")

    def next(self) -> Any:
        """One value; the text that is looked at doubles until the value is in it."""
        self._peek()
        step = _STEP
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except RecursionError:
                raise Refused("damaged", "JSON: nested too deep") from None
            except json.JSONDecodeError as error:
                if error.pos < len(self._buffer) - 16 and not error.msg.startswith("Unterminated"):
                    raise Refused("damaged", f"JSON: {error.msg}") from None  # wrong, not unfinished
                held = len(self._buffer) - self._at
                if held > self._limit:
                    raise too_large(held, self._limit) from None
                if not self._more(step):
                    raise Refused("damaged", f"JSON: {error.msg}") from None
                step *= 2
                continue
            except ValueError as error:  # a number of thousands of digits
                raise Refused("damaged", f"JSON: {error}") from None
            # A number may go on in the next block; what has an end of its own may not.
            if end == len(self._buffer) and self._buffer[end - 1].isalnum() and self._more(step):
                continue
            self._at = end
            return value

    def _peek(self) -> str:
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _BLANKS:
                    return self._buffer[self._at]
                self._at += 1
            if not self._more(_STEP):
                return ""

    def _more(self, size: int) -> bool:
        """Takes `size` bytes more, or what there is before the end or an error, which is raised next time."""
        blocks: list[bytes] = []
        while size > 0 and self._error is None:
            try:
                block = self._file.read1(_STEP)
            except Refused as error:
                self._error = error
                break
            if not block:
                break
            blocks.append(block)
            size -= len(block)
        if not blocks and self._error is not None:
            raise self._error
        self._buffer, self._at = self._buffer[self._at :], 0
        try:
            self._buffer += self._text.decode(b"".join(blocks), final=not blocks)
        except UnicodeDecodeError as error:
            raise Refused("encoding", f"JSON that is not UTF-8 ({error})") from None
        return bool(blocks)
