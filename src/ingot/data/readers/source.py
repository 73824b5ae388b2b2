"""A place to read documents from, and what a folder or URL turned out to hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Source:
    """One file, table or data set to read.

    Args:
        path: where the file lies; for what is no file, a path made of its name.
        name: its path relative to the corpus folder, with '/'; ids of documents start with it.
        licence: what the nearest licence file above it says, as an SPDX name; None is unknown.
        url: of a database table, a hub data set or a generator; None where `path` is read as a file.
    """

    path: Path
    name: str
    licence: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Found:
    """What a place holds.

    Args:
        sources: what can be read, in order of their names.
        others: how many files of kinds that are not read, by suffix.
        skipped: how many folders and links were left alone, by reason.
    """

    sources: list[Source]
    others: Counter[str]
    skipped: Counter[str] = field(default_factory=Counter)


class Refused(Exception):
    """Content that is not read, by a stated rule; `read` turns it into a `Dropped`.

    Args:
        reason: the rule's name.
        detail: what exactly was wrong.
        value: what the rule measured, where it measures.
        threshold: what it was held against.
    """

    def __init__(
        self, reason: str, detail: str, value: float | None = None, threshold: float | None = None
    ) -> None:
        self.reason, self.detail, self.value, self.threshold = reason, detail, value, threshold
        super().__init__(f"{reason}: {detail}")


class BrokenOff(Refused):
    """A file that ends, or turns into something else, before its end: nothing after this can be read."""

    def __init__(self, detail: str) -> None:
        super().__init__("damaged", detail)


def first_line(error: BaseException) -> str:
    """Returns what an error says, in one line of bounded length, for a ledger."""
    text = str(error).strip().partition("\n")[0]
    return text[:200] or type(error).__name__
