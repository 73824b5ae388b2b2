"""Cutting repeated parts out of a document, with a line in the ledger for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ingot.data.document import Document, Dropped


@dataclass(frozen=True)
class Span:
    """Part of a text, in characters: from `start` up to before `end`."""

    start: int
    end: int


def cut(
    document: Document, spans: Sequence[Span], reason: str, threshold: float
) -> tuple[Document, list[Dropped]]:
    """Removes parts of a document.

    Args:
        document: any.
        spans: in order, not overlapping.
        reason: the rule's name.
        threshold: how many characters the rule asks for.

    Returns:
        The document with what is left of its text (perhaps nothing), and what was taken.
    """
    if not spans:
        return document, []
    kept, dropped, at = [], [], 0
    for span in spans:
        kept.append(document.text[at : span.start])
        size = span.end - span.start
        detail = f"characters {span.start:,} to {span.end:,}"
        text = document.text[span.start : span.end]
        dropped.append(Dropped(document.id, reason, detail, float(size), threshold, text))
        at = span.end
    kept.append(document.text[at:])
    return replace(document, text="".join(kept)), dropped
