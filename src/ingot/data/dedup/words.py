"""Texts as bare words, so that copies that differ in case, signs, accents or blanks are told as copies.

    "Café No. 12.50 -- it's OPEN"   ->   b"cafe no 0 it s open"

Lower case; every number is one 0; punctuation and control characters are blanks; accents go. The rules and
the list of punctuation are those of datatrove's default `TextNormConfig`, which FineWeb was made with
(Penedo et al. 2024, arXiv 2406.17557). In scripts without spaces each character is a word. Text in ASCII,
which most is, goes through tables of bytes and never character by character.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import regex

from ingot.data.dedup.rolling import PIECE, Hashes, Places, Sums
from ingot.data.permutation import mix

Numbers = Literal["zero", "kept"]

_SIGNS = "«´»–—’“”„…∶━►、。〈〉《》「」【】！％（），．：；？～"  # beside those of ASCII
_SPACES = "\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_BLANK = re.compile(f"[{_SIGNS}{_SPACES}\x80-\x9f]")
_NUMBER = regex.compile(r"\p{Nd}+(?:[.,،٫⎖⎗⎘]\p{Nd}+)?")
_OTHER_NUMBER = regex.compile(r"[[\p{Nd}،٫⎖⎗⎘]--[0-9]]", regex.VERSION1)
_ACCENTS = regex.compile(r"\p{Mn}+")
_CHARACTER = re.compile("([\u3040-\u30ff\u3400-\u9fff])")


class Words(NamedTuple):
    """The words of a text.

    Args:
        hashes: [n] uint64, of each word.
        starts: [n] where each starts in the normalised bytes.
        ends: [n] the place after its last byte.
    """

    hashes: Hashes
    starts: Places
    ends: Places


def normal(text: str, numbers: Numbers = "zero") -> bytes:
    """Writes a text as bare words.

    Args:
        text: any; half characters (surrogates) are kept as they are.
        numbers: "zero" writes each number, with its fraction, as 0; "kept" keeps its digits.

    Returns:
        UTF-8; words are separated by one blank or more, and there are no other blanks.

    Example:
        >>> normal("Café No. 12.50 -- it's OPEN").split()
        [b'cafe', b'no', b'0', b'it', b's', b'open']
    """
    if text.isascii():
        return _ascii(text.encode("ascii"), numbers)
    text = text.lower()
    if numbers == "zero" and _OTHER_NUMBER.search(text) is not None:
        text, numbers = _NUMBER.sub("0", text), "kept"
    data = _ascii(_BLANK.sub(" ", text).encode("utf-8", "surrogatepass"), numbers)
    if data.isascii():
        return data
    text = unicodedata.normalize("NFD", data.decode("utf-8", "surrogatepass"))
    text = _CHARACTER.sub(r" \1 ", _ACCENTS.sub("", text))
    return text.encode("utf-8", "surrogatepass")


def words(data: bytes) -> Words:
    """Finds and hashes the words of a normalised text.

    A word without end, such as an image in base64, is cut where a piece of `PIECE` bytes ends.

    Args:
        data: what `normal` returned, or several of them with a blank in between.
    """
    if len(data) <= 2 * PIECE:
        return _words(data, 0)
    found, start = [], 0
    while start < len(data):
        end = start + PIECE
        blank = data.rfind(b" ", start, end) if end < len(data) else -1
        end = blank if blank > start else end
        found.append(_words(data[start:end], start))
        start = end
    return Words(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def batches(texts: Iterable[str], numbers: Numbers = "zero") -> Iterator[list[bytes]]:
    """Normalises texts, and takes them together up to about `PIECE` bytes, so that numpy is kept busy."""
    batch: list[bytes] = []
    size = 0
    for text in texts:
        data = normal(text, numbers)
        if batch and size + len(data) > PIECE:
            yield batch
            batch, size = [], 0
        batch.append(data)
        size += len(data) + 1
    if batch:
        yield batch


def joined(batch: Sequence[bytes]) -> tuple[bytes, Words, Places, Places]:
    """Finds the words of several normalised texts at once.

    Returns:
        The texts as one, its words, and for each text [n] the number of its first word, and that after its
        last.
    """
    data = b" ".join(batch)
    found = words(data)
    last = np.searchsorted(found.starts, np.cumsum([len(one) + 1 for one in batch]))
    return data, found, np.concatenate(([0], last[:-1])), last


def _words(data: bytes, offset: int) -> Words:
    values = np.frombuffer(b" " + data + b" ", dtype=np.uint8)
    inside = values > 32
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[0::2], edges[1::2]
    return Words(mix(Sums(values[1:-1]).spans(starts, ends)), starts + offset, ends + offset)


def _ascii(data: bytes, numbers: Numbers) -> bytes:
    """The rules for the bytes of ASCII; the others stay."""
    if numbers == "kept":
        return data.translate(_KEPT)
    data = data.translate(_ZEROED)
    while b"00" in data:
        data = data.replace(b"00", b"0")
    return data.replace(b"0.0", b"0").replace(b".", b" ")


def _table(changes: dict[str, str]) -> bytes:
    """Byte -> byte: letters in lower case, anything else of ASCII that is no digit a blank."""
    table = bytearray(range(256))
    for code in range(128):
        sign = chr(code)
        table[code] = ord(changes.get(sign, sign.lower() if sign.isalnum() else " "))
    return bytes(table)


_KEPT = _table({})
_ZEROED = _table({**dict.fromkeys("0123456789", "0"), ".": ".", ",": "."})
