"""From one format's file to another's: every row arrives, or is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingot.data.records.format import Format
from ingot.data.records.formats import named
from ingot.data.records.record import Record, RowError
from ingot.data.records.reshape import reshape
from ingot.data.records.rows import write_rows
from ingot.data.records.validate import Problems, Reading


@dataclass
class Converted:
    """What became of a file.

    Args:
        source: the format that it was in.
        target: the format that was written.
        written: rows in the new file.
        problems: rows that could not be used.
        left_out: what the new format has no place for, counted.
    """

    source: Format
    target: Format
    problems: Problems
    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def convert(record: Record, target: Format, left_out: Counter[str]) -> list[dict[str, Any]]:
    """Returns a record as rows of a format: one, several (a preference as two judged answers), or none.

    Args:
        record: any.
        target: the format to write.
        left_out: is told what has no place there.

    Raises:
        RowError: the record cannot be told in that format.
    """
    return [target.write(one) for one in reshape(record, target.shape, left_out)]


def convert_file(
    path: Path, out: Path, target: str, source: str | None = None, leave_out_wrong: bool = False
) -> Converted:
    """Converts a file of rows to JSON lines of another format.

    The new file has its name only when it is whole; its rows stream, so neither file has to be in memory.

    Args:
        path: JSON lines or a JSON array.
        out: the file to write, replaced if it is there.
        target: name of the format to write.
        source: name of the format to read; None tells it from the first rows.
        leave_out_wrong: write the good rows though others cannot be used; otherwise that is an error.

    Returns:
        The counts, problems among them.

    Raises:
        DataError: rows that cannot be used (the first five by line, and the count), no such file or format.
    """
    reading = Reading(path, source)
    converted = Converted(reading.format, named(target), reading.problems)
    rows = _rows(reading, converted, path, leave_out_wrong)
    converted.written = write_rows(out, rows)
    return converted


def _rows(
    reading: Reading, converted: Converted, path: Path, leave_out_wrong: bool
) -> Iterator[dict[str, Any]]:
    for line, record in reading:
        try:
            rows = convert(record, converted.target, converted.left_out)
        except RowError as error:
            converted.problems.add(line, error)
        else:
            yield from rows
    if converted.problems.count and not leave_out_wrong:
        raise converted.problems.error(path)
