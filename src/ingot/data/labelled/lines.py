"""The lines of a file of examples, each with its number: JSON lines, CSV, TSV, or CoNLL columns.

```
.jsonl .json     one object per line, or one array of objects
.csv .tsv        the first line names the columns
.conll .iob ...  one word per line, its tag in the last column, a blank line between sentences
```
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from ingot.data.records.record import RowError
from ingot.data.records.rows import read_rows
from ingot.errors import DataError

LONGEST_CELL = 2**24
"""Characters of one cell of a table."""


class Line(NamedTuple):
    """One example: the line that it starts on, counted from 1, and its values or what is wrong with it."""

    number: int
    value: dict[str, Any] | RowError


def read_lines(path: Path) -> Iterator[Line]:
    """Reads the examples of a file in order.

    Raises:
        DataError: no such file, an unknown suffix, or a file that is broken as a whole.

    Example:
        >>> [line.number for line in read_lines(Path("reviews.csv"))]   # doctest: +SKIP
        [2, 3, 4]
    """
    reader = _READERS.get(path.suffix.lower())
    if not path.is_file():
        raise DataError("no such file", where=path, fix="give a file of examples")
    if reader is None:
        known = " ".join(_READERS)
        raise DataError(
            f"files ending in '{path.suffix}' hold no examples", where=path, fix=f"known: {known}"
        )
    try:
        yield from reader(path)
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 (byte {error.start + 1})"
        raise DataError(what, where=path, fix="save it as UTF-8") from None


def _json(path: Path) -> Iterator[Line]:
    for row in read_rows(path):
        yield Line(row.line, row.value)


def _table(separator: str) -> Callable[[Path], Iterator[Line]]:
    def read(path: Path) -> Iterator[Line]:
        previous = csv.field_size_limit(LONGEST_CELL)
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                if separator == "\t":  # where quotes are signs like any other
                    rows = csv.reader(file, delimiter=separator, quoting=csv.QUOTE_NONE)
                else:
                    rows = csv.reader(file, delimiter=separator, strict=True)
                names = next(rows, None)
                if not names:
                    raise DataError("is empty", where=path, fix="name the columns in the first line")
                before = rows.line_num
                for cells in rows:
                    number, before = before + 1, rows.line_num
                    if not cells:
                        continue
                    if len(cells) != len(names):
                        what = f"has {len(cells)} cells, the first line names {len(names)} columns"
                        yield Line(number, RowError(what, "quote cells that hold the separator"))
                    else:
                        yield Line(number, dict(zip(names, cells, strict=True)))
        except csv.Error as error:
            raise DataError(f"line {rows.line_num}: {error}", where=path, fix="mend the file") from None
        finally:
            csv.field_size_limit(previous)

    return read


def _columns(path: Path) -> Iterator[Line]:
    words: list[str] = []
    tags: list[str] = []
    began, wrong = 0, 0
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(chain(file, [""]), 1):
            cells = line.split()
            if cells and cells[0] != "-DOCSTART-":
                began = began or number
                wrong = wrong or (number if len(cells) < 2 else 0)
                words.append(cells[0])
                tags.append(cells[-1])
            elif words and not cells:
                what = RowError(f"line {wrong} has a word and no tag", "write the tag in the last column")
                yield Line(began, what if wrong else {"words": words, "tags": tags})
                words, tags, began, wrong = [], [], 0, 0


_READERS: dict[str, Callable[[Path], Iterator[Line]]] = {
    **dict.fromkeys((".jsonl", ".json", ".ndjson"), _json),
    ".csv": _table(","),
    ".tsv": _table("\t"),
    **dict.fromkeys((".conll", ".iob", ".iob2", ".bio"), _columns),
}
