"""Rows of a file, each with the line that it starts on: JSON lines, or one JSON array."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ingot.data.records.record import RowError
from ingot.errors import DataError

LONGEST_ROW = 64 * 2**20
"""Bytes of one row; a longer one is no conversation, and is named and not read."""

LARGEST_ARRAY = 2**30
"""Bytes of a JSON array, which is read as a whole; JSON lines may be of any length."""

_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\r\n]*")


class Row(NamedTuple):
    """One row: the line that it starts on, counted from 1, and its value or what is wrong with it."""

    line: int
    value: dict[str, Any] | RowError


def read_rows(path: Path) -> Iterator[Row]:
    """Reads the rows of a file one after the other.

    Args:
        path: JSON lines (blank lines are passed over), or a JSON array of objects.

    Yields:
        Every row in order. One that is no JSON object comes with the error in place of its value.

    Raises:
        DataError: no such file, or an array that is broken as a whole or too large.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        yield from _array(path) if start.startswith(b"[") else _lines(path)
    except FileNotFoundError:
        raise DataError("no such file", where=path, fix="check the path") from None


def to_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yields each row as a line of JSON that UTF-8 can hold."""
    for row in rows:
        line = json.dumps(row, ensure_ascii=False)
        try:
            line.encode("utf-8")
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell and UTF-8 cannot
            line = json.dumps(row)
        yield line + "\n"


def write_rows(out: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Writes rows as JSON lines, one after the other, and returns how many.

    The file has its name only when it is whole: an error among the rows leaves what was there before.

    Args:
        out: the file, replaced if it is there.
        rows: one at a time in memory.
    """
    aside = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    count = 0
    try:
        with open(aside, "w", encoding="utf-8", newline="\n") as file:
            for line in to_lines(rows):
                file.write(line)
                count += 1
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, out)
    finally:
        aside.unlink(missing_ok=True)
    return count


def _lines(path: Path) -> Iterator[Row]:
    with open(path, "rb") as file:
        number = 0
        while raw := file.readline(LONGEST_ROW):
            number += 1
            if len(raw) == LONGEST_ROW and not raw.endswith(b"\n"):
                while (rest := file.readline(LONGEST_ROW)) and not rest.endswith(b"\n"):
                    pass
                yield Row(number, RowError(f"is longer than {LONGEST_ROW // 2**20} MiB", "split it"))
            elif raw.strip():
                yield Row(number, _row(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw))


def _row(raw: bytes) -> dict[str, Any] | RowError:
    try:
        return _object(json.loads(raw.decode("utf-8")))
    except UnicodeDecodeError as error:
        return RowError(f"is not UTF-8 (byte {error.start + 1} of the line)", "save the file as UTF-8")
    except json.JSONDecodeError as error:
        return RowError(
            f"is not JSON ({error.msg} at sign {error.pos + 1})", "write one JSON object per line"
        )
    except (RecursionError, ValueError) as error:  # nested too deeply; a number of thousands of digits
        return RowError(f"cannot be read as JSON ({type(error).__name__})", "leave it out")


def _object(value: Any) -> dict[str, Any] | RowError:
    if isinstance(value, dict):
        return value
    return RowError(f"is {json.dumps(value)[:40]}, not an object", 'write {"key": ...}')


def _array(path: Path) -> Iterator[Row]:
    size = path.stat().st_size
    if size > LARGEST_ARRAY:
        what = f"is a JSON array of {size / 2**30:.1f} GiB, which must be read as a whole"
        raise DataError(what, where=path, fix="write it as JSON lines")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 (byte {error.start + 1})"
        raise DataError(what, where=path, fix="save it as UTF-8") from None
    place, counted, line = text.index("[") + 1, 0, 1
    place = _skip(text, place)
    while text[place : place + 1] != "]":
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, place = _DECODER.raw_decode(text, place)
        except (json.JSONDecodeError, RecursionError) as error:
            what = f"line {line}: is not JSON ({getattr(error, 'msg', 'nested too deeply')})"
            raise DataError(what, where=path, fix="mend the file") from None
        yield Row(line, _object(value))
        place = _skip(text, place)
        if text[place : place + 1] == ",":
            place = _skip(text, place + 1)
        elif text[place : place + 1] != "]":
            line += text.count("\n", counted, place)
            raise DataError(f"line {line}: ',' or ']' is missing", where=path, fix="mend the file")


def _skip(text: str, place: int) -> int:
    found = _BLANK.match(text, place)
    return found.end() if found else place
