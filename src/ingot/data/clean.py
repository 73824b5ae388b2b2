"""Cleaning: make texts uniform where they differ by accident, and leave everything else alone.

Line ends become `\\n`; a byte order mark and trailing NULs go; lone surrogates, which no file can hold,
become U+FFFD. Nothing is normalised beyond that: in code, every character may matter.
"""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Returns the text in its uniform shape; cleaning twice changes nothing more.

    Example:
        >>> clean("\\ufeffone\\r\\ntwo\\r")
        'one\\ntwo\\n'
    """
    text = text.lstrip("\ufeff").rstrip("\0")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def objection(text: str, min_bytes: int) -> tuple[str, str] | None:
    """Returns why a clean text is not worth keeping, as (reason, detail); None where it is.

    Args:
        text: what `clean` returned.
        min_bytes: shorter texts, in UTF-8 without the blanks around them, teach nothing.
    """
    if "\0" in text:
        return "binary", f"NUL character at {text.index(chr(0))}"
    size = len(text.strip().encode("utf-8"))
    if size == 0:
        return "empty", "nothing but blanks"
    if size < min_bytes:
        return "short", f"{size} bytes, fewer than {min_bytes}"
    return None
