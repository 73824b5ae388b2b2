"""What a format is: the keys of its rows, and functions that read and write one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from ingot.data.records.messages import missing
from ingot.data.records.record import Record, RowError

NEAR = 0.8
"""How alike an unknown key and an optional one must be to be taken for a misspelling."""


@dataclass(frozen=True)
class Format:
    """One way in which people write rows.

    Args:
        name: as a person types it.
        about: what its rows hold, in a few words.
        shape: the kind of record that a row is.
        keys: that a row must have.
        optional: that it may have.
        reads: makes the record of a row that has the keys; raises `RowError`.
        writes: makes the row of a record of that shape; raises `RowError` where the format has no place
            for something. None for a format that is only read.
        fits: tells rows with the same keys apart by their values.
    """

    name: str
    about: str
    shape: type[Record]
    keys: tuple[str, ...]
    optional: tuple[str, ...]
    reads: Callable[[Mapping[str, Any]], Record]
    writes: Callable[[Any], dict[str, Any]] | None
    fits: Callable[[Mapping[str, Any]], bool] = lambda row: True

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Whether a row looks like one of this format."""
        return all(key in row for key in self.keys) and self.fits(row)

    def read(self, row: Mapping[str, Any]) -> Record:
        """Returns what a row means, its other keys carried along as extras.

        Raises:
            RowError: a missing key, one that seems misspelled, or a value that cannot be used.
        """
        known = {*self.keys, *self.optional}
        for key in self.keys:
            if key not in row:
                raise missing(row, key, known)
        for key in row:
            unset = [name for name in self.optional if name not in row]
            if key not in known and (near := get_close_matches(key, unset, n=1, cutoff=NEAR)):
                raise RowError(f"'{key}' has no meaning", f"did you mean '{near[0]}'?")
        extras = {key: value for key, value in row.items() if key not in known}
        return replace(self.reads(row), extras=extras)

    def write(self, record: Record) -> dict[str, Any]:
        """Returns the row of a record of this format's shape, extras behind its own keys.

        Raises:
            RowError: the format has no place for something that the record holds, or is only read.
        """
        if self.writes is None:
            raise RowError(f"'{self.name}' is a format to read from", "choose another one to write")
        row = self.writes(record)
        return row | {key: value for key, value in record.extras.items() if key not in row}
