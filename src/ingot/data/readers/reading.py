"""How files are read: which encodings, which columns, and the limits that hostile content runs into."""

from __future__ import annotations

import codecs

from pydantic import Field, field_validator

from ingot.config import Config

MIB = 2**20
_SLACK = 16 * MIB


class Reading(Config):
    """How files are read, and how much of them.

    Args:
        text_keys: where a line, row or record keeps its text: the first of these names that it has.
        encoding: what files are in that are not UTF-8 and declare nothing else, such as "latin-1"; None
            drops them, since a wrong guess trains on garbage.
        separator: text between the documents of one plain text file, such as "<|endoftext|>"; None makes
            each file one document.
        max_document_bytes: larger documents (files, lines, rows, records) are dropped, unread.
        max_unpacked_bytes: a zip container (docx, epub) that unpacks to more is dropped.
        max_ratio: a compressed stream that unpacks to more than this times its size is broken off (once
            it has given more than 16 MiB, since small files compress oddly).
        max_seconds: a file that keeps its reader busy for longer (a hostile PDF can, for ever) is left out
            of a corpus, its process ended; None waits.
    """

    text_keys: tuple[str, ...] = Field(default=("text", "content"), min_length=1)
    encoding: str | None = None
    separator: str | None = Field(default=None, min_length=1)
    max_document_bytes: int = Field(default=128 * MIB, ge=1)
    max_unpacked_bytes: int = Field(default=512 * MIB, ge=1)
    max_ratio: float = Field(default=200, gt=1)
    max_seconds: float | None = Field(default=600, gt=0)

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                codecs.lookup(value)
            except LookupError:
                raise ValueError("Python knows no such encoding") from None
        return value

    def most_unpacked(self, packed: int) -> int:
        """Returns how many bytes a stream of `packed` bytes may unpack to."""
        return max(_SLACK, int(packed * self.max_ratio))


DEFAULT = Reading()
