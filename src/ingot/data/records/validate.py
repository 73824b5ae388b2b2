"""Validation: which rows of a file are not what its format asks for, by line, and why."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ingot.data.records.format import Format
from ingot.data.records.formats import detect, named
from ingot.data.records.record import Record, RowError
from ingot.data.records.rows import Row, read_rows
from ingot.errors import DataError

SHOWN = 5
"""Problems that an error lists; the count tells of the others."""

LOOKED_AT = 100
"""Rows from which the format of a file is told."""


@dataclass(frozen=True)
class Problem:
    """A row that cannot be used.

    Args:
        line: that it starts on, counted from 1.
        what: what is wrong with it.
        fix: what to do about it.
    """

    line: int
    what: str
    fix: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.what} ({self.fix})" if self.fix else f"line {self.line}: {self.what}"


@dataclass
class Problems:
    """The first few problems of a file, and how many there are."""

    rows: int = 0
    count: int = 0
    first: list[Problem] = field(default_factory=list)

    def add(self, line: int, error: RowError) -> None:
        """Takes one more."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(Problem(line, error.what, error.fix))

    def error(self, where: object) -> DataError:
        """Returns them as one error."""
        more = f", and {self.count - SHOWN} more" if self.count > SHOWN else ""
        listed = "; ".join(map(str, self.first))
        what = f"{self.count:,} of {self.rows:,} rows cannot be used: {listed}{more}"
        return DataError(what, where=where, fix="mend these rows or leave them out")


class Reading:
    """The records of a file, read once from its start to its end.

    Args:
        path: JSON lines or a JSON array.
        format: the name of its format; None tells it from the first rows.

    Raises:
        DataError: no such file or format, a broken array, or rows of no known format.

    Example:
        >>> reading = Reading(path)                                         # doctest: +SKIP
        >>> for line, record in reading: ...
        >>> reading.problems.count
    """

    def __init__(self, path: Path, format: str | None = None) -> None:
        rows = read_rows(path)
        first = list(itertools.islice(rows, LOOKED_AT))
        if not first:
            raise DataError("holds no row", where=path, fix="give a file with data")
        self.path = path
        self.format = named(format) if format is not None else _detect(first, path)
        self.problems = Problems()
        self._rows: Iterator[Row] = itertools.chain(first, rows)

    def __iter__(self) -> Iterator[tuple[int, Record]]:
        """Yields (line, record) of every row that can be used, and collects the problems of the others."""
        for line, value in self._rows:
            self.problems.rows += 1
            try:
                if isinstance(value, RowError):
                    raise value
                yield line, self.format.read(value)
            except RowError as error:
                self.problems.add(line, error)


def check(path: Path, format: str | None = None) -> tuple[Format, Problems]:
    """Reads a file to its end and returns its format and what is wrong with it.

    Args:
        path: JSON lines or a JSON array.
        format: the name of its format; None tells it from the first rows.
    """
    reading = Reading(path, format)
    for _ in reading:
        pass
    return reading.format, reading.problems


def load(path: Path, format: str | None = None) -> list[Record]:
    """Reads all records of a file.

    Args:
        path: JSON lines or a JSON array.
        format: the name of its format; None tells it from the first rows.

    Raises:
        DataError: one row or more cannot be used: the first five, each with its line, and the count.
    """
    reading = Reading(path, format)
    records = [record for _, record in reading]
    if reading.problems.count:
        raise reading.problems.error(path)
    return records


def _detect(first: list[Row], path: Path) -> Format:
    readable = [row.value for row in first if not isinstance(row.value, RowError)]
    if not readable:
        problems = Problems(rows=len(first))
        for line, value in first:
            if isinstance(value, RowError):
                problems.add(line, value)
        raise problems.error(path)
    return detect(readable, path)
