"""What travels along the data road: documents, and the reasons why some do not."""

from __future__ import annotations

from dataclasses import dataclass

PROSE = ("text", "markdown", "rst", "html", "pdf", "docx", "epub", "web", "wiki", "mail", "table")
"""Kinds of documents that people wrote for people; every other kind is a programming language."""


@dataclass(frozen=True)
class Document:
    """One text with its origin.

    Args:
        id: unique in its corpus: the source's path, and the line or row where it holds many texts.
        source: path of the file that it came from, relative to the corpus folder, with '/'.
        text: the text itself.
        kind: one of `PROSE`, or a programming language in lower case, such as "python".
        licence: what its origin says of its use, an SPDX name where it can be told; None is unknown.
        language: of prose, as two or three letters of ISO 639; None is not looked at.
    """

    id: str
    source: str
    text: str
    kind: str
    licence: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class Dropped:
    """A file, line or document that did not become part of the corpus.

    Args:
        path: its id.
        reason: the rule's name, to count by, such as "binary" or "gopher.mean_word_length".
        detail: what exactly was wrong.
        value: what the rule measured, where it measures.
        threshold: what it was held against.
        text: what was dropped, where it could be read.
    """

    path: str
    reason: str
    detail: str
    value: float | None = None
    threshold: float | None = None
    text: str = ""


def is_code(kind: str) -> bool:
    """Tells a programming language from prose.

    Example:
        >>> is_code("python"), is_code("markdown")
        (True, False)
    """
    return kind not in PROSE
