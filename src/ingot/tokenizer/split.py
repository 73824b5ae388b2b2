"""Splitting: the first cut of a text, into pieces that no token may cross.

A piece is a contraction, a word with the space or sign before it, one digit, a run of signs with the line
ends after it, line ends with the blanks before them, or blanks. Words keep their space, so that spaces
cost no tokens of their own; digits stand alone, so that a number has one spelling.

Three regular-expression engines read this pattern: Rust's (tiktoken, where we encode; and `tokenizers`,
where everybody else does) and Python's `regex` (where we count pieces for training). They agree on
everything but letters so new that one engine's Unicode tables lack them; training is free to cut those
elsewhere, and a test compares the two encoders on every code point there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import regex

PATTERN = (
    r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"  # 's 't 're 've 'm 'll 'd
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"  # a word, with one sign or space before it
    r"|\p{N}"  # one digit
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"  # signs, with one space before and line ends after
    r"|\s*[\r\n]+"  # line ends, with blanks before
    r"|\s+(?!\S)"  # blanks, but the last before a word belongs to the word
    r"|\s+"
)
"""Qwen2's split (Qwen technical report, arXiv 2309.16609, section 2.2), which llama.cpp knows as "qwen2".

The contractions spell out both cases: ignoring case, some engines also take the long s of old prints.
"""

_pieces = regex.compile(PATTERN)


def split(text: str) -> list[str]:
    """Cuts a text into pieces; joined, they are the text again.

    Example:
        >>> split("def area(x2):\\n    return x2")
        ['def', ' area', '(x', '2', '):\\n', '   ', ' return', ' x', '2']
    """
    return _pieces.findall(text)


def count_pieces(texts: Iterable[str]) -> Counter[str]:
    """Counts the pieces of many texts, in order of first appearance."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_pieces.findall(text))
    return counts
