"""Checks the table of promises in docs/capabilities.md and counts it, by section and by status.

Run as `make capabilities`, or `python scripts/capabilities.py [--json] [FILE]`. Only the standard library
is used, so that it runs before anything is installed. A row that is not as it should be ends the run with
one line that names it, and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "docs" / "capabilities.md"
STATUSES = ("no", "thin", "works", "measured")
COLUMNS = (
    "id",
    "thing",
    "stated",
    "test on two cores",
    "GPU / full scale",
    "status",
    "shown by",
    "last figure",
)
NOTHING = "-"


class MalformedTable(Exception):
    """A line of the table that cannot be trusted; the message names the row or the line."""


@dataclass(frozen=True)
class Row:
    """One promise: what it is, how it is tested, and where it stands."""

    id: str
    thing: str
    stated: str
    test: str
    scale: str
    status: str
    command: str
    figure: str


@dataclass(frozen=True)
class Section:
    """The promises under one heading, in order."""

    letter: str
    title: str
    rows: tuple[Row, ...]

    def count(self, status: str) -> int:
        """Returns how many rows of this section have the status."""
        return sum(row.status == status for row in self.rows)


def parse(text: str) -> list[Section]:
    """Reads the whole table.

    Args:
        text: the Markdown of docs/capabilities.md.

    Returns:
        The sections in the order of the file.

    Raises:
        MalformedTable: a row with a wrong number of cells, an id that is out of order or used twice, an
            unknown status, a status without what it calls for, or a section without a table.
    """
    headings: list[tuple[str, str]] = []
    rows: dict[str, list[Row]] = {}
    header_seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("## "):
            heading = re.fullmatch(r"## ([A-Z])\. (.+)", line)
            if heading is None:
                raise MalformedTable(f"line {number}: heading {line!r} is not of the form '## X. title'")
            letter, title = heading.groups()
            if letter in rows:
                raise MalformedTable(f"line {number}: section {letter} stands twice")
            headings.append((letter, title))
            rows[letter] = []
        elif line.startswith("|"):
            if not headings:
                raise MalformedTable(f"line {number}: a table row before the first section")
            letter = headings[-1][0]
            cells = _cells(line, number)
            if letter not in header_seen:
                if tuple(cells) != COLUMNS:
                    raise MalformedTable(f"line {number}: section {letter} has the columns {cells}")
                header_seen.add(letter)
            elif not all(re.fullmatch(r":?-{3,}:?", cell) for cell in cells):
                rows[letter].append(_row(cells, letter, len(rows[letter]) + 1, number))
    for letter, title in headings:
        if not rows[letter]:
            raise MalformedTable(f"section {letter}. {title}: no rows")
    if not headings:
        raise MalformedTable("no sections")
    return [Section(letter, title, tuple(rows[letter])) for letter, title in headings]


def _cells(line: str, number: int) -> list[str]:
    """The cells of one Markdown row; a bar inside a cell is written `\\|`."""
    if not line.rstrip().endswith("|") or len(line.rstrip()) < 2:
        raise MalformedTable(f"line {number}: {line[:40]!r} does not end with '|'")
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]


def _row(cells: list[str], letter: str, place: int, number: int) -> Row:
    name = cells[0] or f"line {number}"
    if len(cells) != len(COLUMNS):
        raise MalformedTable(f"{name}: {len(cells)} cells where there should be {len(COLUMNS)}")
    empty = [column for column, cell in zip(COLUMNS, cells, strict=True) if not cell]
    if empty:
        raise MalformedTable(f"{name}: '{empty[0]}' is empty (write {NOTHING})")
    row = Row(*cells)
    if row.id != f"{letter}{place}":
        raise MalformedTable(f"{name}: {letter}{place} should stand here")
    if row.status not in STATUSES:
        raise MalformedTable(f"{name}: status {row.status!r} is none of {', '.join(STATUSES)}")
    has_command, has_figure = row.command != NOTHING, row.figure != NOTHING
    if row.status == "no" and (has_command or has_figure):
        raise MalformedTable(f"{name}: status is 'no', yet it names a command or a figure")
    if row.status != "no" and not re.search(r"`[^`]+`", row.command):
        raise MalformedTable(f"{name}: status is {row.status!r}, yet no `command` shows it")
    if row.status == "measured" and not re.search(r"\d", row.figure):
        raise MalformedTable(f"{name}: status is 'measured', yet there is no figure")
    return row


def summary(sections: list[Section]) -> dict[str, object]:
    """Returns the counts as plain data: in all, by status, by section, and the rows that are not 'no'."""
    rows = [row for section in sections for row in section.rows]
    totals = Counter(row.status for row in rows)
    return {
        "rows": len(rows),
        "by_status": {status: totals[status] for status in STATUSES},
        "by_section": {
            section.letter: {
                "title": section.title,
                "rows": len(section.rows),
                **{status: section.count(status) for status in STATUSES},
            }
            for section in sections
        },
        "shown": [asdict(row) for row in rows if row.status != "no"],
    }


def draw(sections: list[Section]) -> str:
    """Returns the counts as a table for the terminal; a zero is a dot, so that the rest stands out."""
    width = max(len(section.title) for section in sections)
    columns = ("rows", *STATUSES)
    lines = ["   " + "section".ljust(width) + "".join(name.rjust(10) for name in columns)]

    def line(label: str, numbers: list[int]) -> str:
        return label.ljust(width + 3) + "".join((str(n) if n else "·").rjust(10) for n in numbers)

    for section in sections:
        counts = [len(section.rows), *(section.count(status) for status in STATUSES)]
        lines.append(line(f"{section.letter}  {section.title}", counts))
    totals = [sum(len(section.rows) for section in sections)]
    totals += [sum(section.count(status) for section in sections) for status in STATUSES]
    return "\n".join([*lines, "-" * len(lines[0]), line("   in all", totals)])


def main(arguments: list[str] | None = None) -> int:
    """Reads the table, prints its counts, and returns the exit code."""
    parser = argparse.ArgumentParser(description="Check docs/capabilities.md and count its rows.")
    parser.add_argument("file", nargs="?", type=Path, default=TABLE)
    parser.add_argument("--json", action="store_true", help="print the counts as one JSON object")
    options = parser.parse_args(arguments)
    try:
        sections = parse(options.file.read_text(encoding="utf-8"))
    except OSError as error:
        print(f"{options.file}: cannot be read ({error.strerror})", file=sys.stderr)
        return 2
    except MalformedTable as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 2
    print(json.dumps(summary(sections), indent=2) if options.json else draw(sections))
    return 0


if __name__ == "__main__":
    sys.exit(main())
