"""What travels along the data road: documents, and the reasons why some do not."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("python", "markdown", "rst", "text")


@dataclass(frozen=True)
class Document:
    """One text with its origin.

    Args:
        id: unique in its corpus: the source's path, and the line or row where it holds many texts.
        source: path of the file that it came from, relative to the corpus folder, with '/'.
        text: the text itself.
        kind: one of "python", "markdown", "rst", "text".
    """

    id: str
    source: str
    text: str
    kind: str


@dataclass(frozen=True)
class Dropped:
    """A file, line or document that did not become part of the corpus.

    Args:
        path: its id.
        reason: a short name to count by, such as "binary".
        detail: what exactly was wrong.
    """

    path: str
    reason: str
    detail: str
