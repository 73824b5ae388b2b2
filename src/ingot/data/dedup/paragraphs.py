"""Repeated paragraphs: menus, notices and licences that stand in many documents stay in the first.

A paragraph is compared by 64 bits of its hash, any run of blanks in it as one, and nothing else is kept of
it: about 10 bytes each. Among a hundred million paragraphs, the chance that any two that differ
share a hash is 3 in 10,000.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal

import numpy as np
from pydantic import Field

from ingot.config import Config
from ingot.data.dedup.cut import Span, cut
from ingot.data.dedup.rolling import Hashes
from ingot.data.dedup.runs import Runs
from ingot.data.document import Document, Dropped

REASON = "repeated paragraph"

_ENDS = {"paragraph": re.compile(r"\n[ \t\r]*\n\s*"), "line": re.compile(r"\n\s*")}
_BLANKS = re.compile(r"\s+")


class ParagraphsConfig(Config):
    """Which repeated paragraphs go.

    Args:
        unit: "paragraph", which ends at an empty line, or "line", of which extracted web pages are made.
        min_characters: shorter ones are left alone, as headings and greetings repeat of right.
    """

    unit: Literal["paragraph", "line"] = "paragraph"
    min_characters: int = Field(default=100, ge=1)

    def build(self) -> Paragraphs:
        """Returns the memory of what has been seen, empty."""
        return Paragraphs(self)


class Paragraphs:
    """Remembers paragraphs, one document after the other: of two, the earlier stays.

    Args:
        config: None is the default.
        seen: hashes of paragraphs that went before, as `seen()` returns them; a killed run goes on so.
    """

    def __init__(self, config: ParagraphsConfig | None = None, seen: Hashes | None = None) -> None:
        self.config = config or ParagraphsConfig()
        self._seen = Runs()
        if seen is not None:
            self._seen.add(seen)

    def __len__(self) -> int:
        return len(self._seen)

    def drop(self, document: Document) -> tuple[Document, list[Dropped]]:
        """Takes out of a document what stood in an earlier one or further up, and remembers the rest.

        Returns:
            The document, its text shorter or even empty, and one entry for each paragraph that went.
        """
        spans = self.repeated(document.text)
        return cut(document, spans, REASON, self.config.min_characters)

    def repeated(self, text: str) -> list[Span]:
        """Finds the repeated paragraphs of a text, each with the blanks after it, and remembers the rest."""
        spans = self._paragraphs(text)
        keys = np.array([_key(text[span.start : span.end]) for span in spans], dtype=np.uint64)
        if len(keys) == 0:
            return []
        known = self._seen.contains(keys)
        first = np.zeros(len(keys), dtype=bool)
        first[np.unique(keys, return_index=True)[1]] = True
        self._seen.add(keys[first & ~known])
        return [span for span, gone in zip(spans, (known | ~first).tolist(), strict=True) if gone]

    def seen(self) -> Hashes:
        """Returns the hashes of all paragraphs so far, sorted: [n] uint64."""
        return self._seen.all()

    def _paragraphs(self, text: str) -> list[Span]:
        """Those that are long enough to count."""
        found, start = [], 0
        for match in _ENDS[self.config.unit].finditer(text):
            found.append((start, match.start(), match.end()))
            start = match.end()
        found.append((start, len(text), len(text)))
        least = self.config.min_characters
        return [Span(start, after) for start, end, after in found if len(text[start:end].strip()) >= least]


def _key(text: str) -> int:
    bare = _BLANKS.sub(" ", text).strip().encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(bare, digest_size=8).digest(), "little")
