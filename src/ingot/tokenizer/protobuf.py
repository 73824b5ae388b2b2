"""Protocol buffers, as little as SentencePiece's files need: fields by number, both ways.

Wire format: a field is a key (number and wire type) as a varint, then a varint, four or eight bytes, or a
length and so many bytes (Protocol Buffers, "Encoding").
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

Value = int | bytes
"""A varint, or the bytes of any other field."""

Field = tuple[int, int | float | bool | str | bytes]
"""Number and value of a field to be written."""


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Yields number and value of each field.

    Raises:
        ValueError: the data is cut off, or no protocol buffer.

    Example:
        >>> list(fields(message([(1, b"hi"), (2, 300)])))
        [(1, b'hi'), (2, 300)]
    """
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        if kind == 0:
            number, position = _varint(data, position)
            yield key >> 3, number
            continue
        if kind == 2:
            length, position = _varint(data, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if position + length > len(data):
            raise ValueError("cut off")
        yield key >> 3, data[position : position + length]
        position += length


def message(values: Iterable[Field]) -> bytes:
    """Writes fields: whole numbers as varints, fractions in four bytes, texts and bytes with their length."""
    out = bytearray()
    for number, value in values:
        if isinstance(value, float):
            out += _key(number, 5) + struct.pack("<f", value)
        elif isinstance(value, int):
            out += _key(number, 0) + _as_varint(value)
        else:
            content = value.encode("utf-8") if isinstance(value, str) else value
            out += _key(number, 2) + _as_varint(len(content)) + content
    return bytes(out)


def fraction(value: Value) -> float:
    """The number in the four bytes of a field.

    Raises:
        ValueError: it is no such field.
    """
    if not isinstance(value, bytes) or len(value) != 4:
        raise ValueError("no fraction")
    return float(struct.unpack("<f", value)[0])


def signed(value: Value) -> int:
    """A varint as a signed number of 64 bits.

    Raises:
        ValueError: it is no varint.
    """
    if not isinstance(value, int):
        raise ValueError("no number")
    return value - (1 << 64) if value >> 63 else value


def text(value: Value) -> str:
    """The text of a field.

    Raises:
        ValueError: it is none, or not UTF-8.
    """
    return content(value).decode("utf-8")


def content(value: Value) -> bytes:
    """The bytes of a field.

    Raises:
        ValueError: it is a number.
    """
    if not isinstance(value, bytes):
        raise ValueError("a number where bytes are needed")
    return value


def _key(number: int, kind: int) -> bytes:
    return _as_varint(number << 3 | kind)


def _as_varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("cut off")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
