"""Alphabets: what a tokenizer starts from, and counted pieces as rows of its symbols for `words`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ingot.tokenizer.bytes import BYTE_ORDER
from ingot.tokenizer.words import SEPARATOR, UNKNOWN, Longs, Words

BREAK = 0xDFFF
"""Between words in a row of code points: half a surrogate pair, which is no character."""

_BYTE_BREAK = 0xFF  # stands in no UTF-8
_POINTS = 0x110000


def byte_words(pieces: Mapping[str, int], least: int) -> Words:
    """Counted pieces as words of bytes; those of one byte, which has no pair, are left out.

    Args:
        pieces: text piece -> how often it occurs.
        least: count below which pairs are of no interest.
    """
    row, counts = bytearray([_BYTE_BREAK]), []
    for piece, count in pieces.items():
        encoded = piece.encode("utf-8", errors="replace")
        if len(encoded) > 1:
            row += encoded
            row.append(_BYTE_BREAK)
            counts.append(count)
    ids = np.full(256, SEPARATOR, dtype=np.int32)
    ids[list(BYTE_ORDER)] = np.arange(256)
    ids[_BYTE_BREAK] = SEPARATOR
    return Words(ids[np.frombuffer(row, np.uint8)], np.array(counts, np.int64), least)


def character_words(pieces: Mapping[str, int], alphabet: Sequence[str], least: int) -> Words:
    """Counted pieces as words of characters; a character that is not in the alphabet is in no pair.

    Args:
        pieces: text piece -> how often it occurs.
        alphabet: characters by id.
        least: count below which pairs are of no interest.
    """
    ids = np.full(_POINTS, UNKNOWN, dtype=np.int32)
    ids[[ord(character) for character in alphabet]] = np.arange(len(alphabet))
    ids[BREAK] = SEPARATOR
    return Words(ids[code_points(pieces)], np.fromiter(pieces.values(), np.int64, len(pieces)), least)


def code_points(pieces: Iterable[str]) -> NDArray[np.uint32]:
    """Returns the characters of all pieces as one row, `BREAK` before, between and after them."""
    mark = chr(BREAK)
    parts = [piece.replace(mark, "\ufffd") if mark in piece else piece for piece in pieces]
    row = mark.join(["", *parts, ""]) if parts else mark
    return np.frombuffer(row.encode("utf-32-le", errors="surrogatepass"), np.uint32)


def choose_alphabet(
    pieces: Mapping[str, int], initial: Iterable[str] = (), limit: int | None = None
) -> list[str]:
    """Returns the characters that pieces consist of, by code point.

    Args:
        pieces: text piece -> how often it occurs.
        initial: characters to have even if they do not occur.
        limit: how many to have at most: the most frequent (of equals, those of smaller code point), and
            the initial ones in any case; None for all.
    """
    points = code_points(pieces)
    counts: Longs = np.fromiter(pieces.values(), np.int64, len(pieces))
    breaks = points == BREAK
    word = np.cumsum(breaks)[~breaks] - 1
    often = np.zeros(_POINTS, np.int64)
    np.add.at(often, points[~breaks], counts[word])
    asked = sorted({ord(character) for character in initial})
    often[asked] = np.iinfo(np.int64).max
    order = np.argsort(-often, kind="stable")[: np.count_nonzero(often)]
    if limit is not None:
        order = order[: max(limit, len(asked))]
    return [chr(point) for point in sorted(order.tolist())]
