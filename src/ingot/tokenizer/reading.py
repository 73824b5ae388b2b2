"""Reading files that strangers wrote: JSON whose every field is checked, and refused by its name.

A tokenizer file comes from anywhere. What it lacks, what has the wrong type and what we do not know is
refused with the path of the field, never guessed and never a crash.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import regex

from ingot.errors import ArtifactError

LARGEST_FILE = 1 << 29
"""Bytes that a tokenizer file may have; the largest that is published has a tenth of this."""

LONGEST_PATTERN = 20_000
"""Characters that a regular expression may have; the longest that is published has 2,000."""

PATIENCE = 10.0
"""Seconds that a regular expression out of a file may take over one text."""


def refuse(what: str, where: object, fix: str | None = None) -> ArtifactError:
    """Returns the error for a file that cannot be used."""
    return ArtifactError(
        what, where=where, fix=fix or "use a tokenizer of a kind that docs/tokenizers.md lists"
    )


def read_bytes(path: Path) -> bytes:
    """Reads a whole file of a tokenizer.

    Raises:
        ArtifactError: it is missing, unreadable, or too large to be one.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise refuse(f"has {size:,} bytes, more than any tokenizer", path, "check that this is the file")
        return path.read_bytes()
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise refuse(what, path, "give a file or folder that holds a tokenizer") from None


def read_text(path: Path) -> str:
    """Reads a whole UTF-8 file of a tokenizer.

    Raises:
        ArtifactError: it is missing, too large, or not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise refuse("is damaged: not UTF-8", path, "fetch or make the tokenizer again") from None


def read_json(path: Path) -> Fields:
    """Reads a JSON object.

    Raises:
        ArtifactError: it is missing, damaged, nested too deep, or no object.
    """
    again = "fetch or make the tokenizer again"
    try:
        return Fields(json.loads(read_text(path)), str(path))
    except RecursionError:
        raise refuse("is damaged: nested too deep", path, again) from None
    except ValueError:
        raise refuse("is damaged: not JSON", path, again) from None


def compiled(pattern: str, where: str) -> regex.Pattern[str]:
    """Compiles a regular expression out of a file.

    Raises:
        ArtifactError: it is too long, or not one.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise refuse(f"a pattern of {len(pattern):,} characters is too long", where)
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError, MemoryError) as error:
        raise refuse(f"{pattern[:60]!r} is no regular expression ({error})", where) from None


class Fields:
    """A JSON object whose values are taken out with their types checked.

    Args:
        values: the object.
        where: its place, for errors.

    Raises:
        ArtifactError: here and in every method: a field is missing or of the wrong type.
    """

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, dict):
            raise refuse(f"is {_kind(values)} where an object is needed", where)
        self.values: dict[str, Any] = values
        self.where = where

    def at(self, key: str) -> str:
        """The place of a field, for errors."""
        return f"{self.where}: {key}"

    def get(self, key: str) -> Any:
        """A field of any type, None where it is missing."""
        return self.values.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        """A text."""
        return self._typed(key, str, default)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false; null counts as missing."""
        return self._typed(key, bool, default)

    def number(self, key: str, default: int | None = None) -> int:
        """A whole number of zero or more."""
        value = self._typed(key, int, default)
        if isinstance(value, bool) or value < 0:
            raise refuse(f"is {value!r} where a number of zero or more is needed", self.at(key))
        return value

    def items(self, key: str) -> list[Any]:
        """A list; empty where it is missing."""
        return self._typed(key, list, [])

    def inner(self, key: str) -> Fields:
        """An object inside."""
        return Fields(self.get(key), self.at(key))

    def inners(self, key: str) -> list[Fields]:
        """A list of objects; empty where it is missing."""
        return [Fields(item, f"{self.at(key)}[{index}]") for index, item in enumerate(self.items(key))]

    def _typed(self, key: str, kind: type, default: Any) -> Any:
        value = self.values.get(key)
        if value is None:
            value = default
        if not isinstance(value, kind):
            raise refuse(f"is {_kind(value)} where {kind.__name__} is needed", self.at(key))
        return value


def pattern_of(fields: Fields) -> regex.Pattern[str]:
    """The `pattern` field, `{"String": ...}` or `{"Regex": ...}`, compiled."""
    pattern = fields.inner("pattern")
    if "String" in pattern.values:
        return compiled(regex.escape(pattern.text("String"), special_only=True), pattern.where)
    return compiled(pattern.text("Regex"), pattern.where)


def _kind(value: object) -> str:
    return "missing" if value is None else type(value).__name__
