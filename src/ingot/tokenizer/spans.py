"""Spans: which tokens stand for which stretch of a text.

A span is the shortest stretch of whole characters that whole tokens make. Usually that is one token; where
a character takes several tokens, or tokens end inside a character, they share a span. What the tokenizer
loses (blanks between words, say) is a span without tokens. So the texts of all spans, joined, are the text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingot.tokenizer.tokenizer import Specials, Tokenizer

_TURNING = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)
_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(32), 0x7F, *range(0x80, 0xA0))}
_ESCAPED |= {code: f"\\u{code:04x}" for code in (*_TURNING, 0x2028, 0x2029)}
_ESCAPED |= {9: "\\t", 10: "\\n", 13: "\\r", 0x5C: "\\\\"}


@dataclass(frozen=True)
class Span:
    """A stretch of a text.

    Args:
        text: the stretch, as it is in the text; empty for tokens that stand for nothing in it.
        ids: the tokens that stand for it, in order; empty where it is lost.
    """

    text: str
    ids: tuple[int, ...]


def spans(tokenizer: Tokenizer, text: str, specials: Specials = "text") -> list[Span]:
    """Returns the spans of a text; their texts joined are the text, their ids joined its encoding.

    Where a tokenizer changes the text (lower case, no accents), places come from the `tokenizers` library. It
    may encode characters newer than its Unicode tables otherwise; the ids from the first to the last that
    differ are one span then.

    Args:
        tokenizer: encodes.
        text: without lone surrogates.
        specials: as in `Tokenizer.encode`.

    Example:
        >>> spans(Tokenizer([]), "né")
        [Span(text='n', ids=(77,)), Span(text='é', ids=(127, 102))]
    """
    ids = tokenizer.encode(text, specials)
    control = set(tokenizer.special.values())
    pieces = [
        tokenizer.token(token).encode() if token in control else tokenizer.token_bytes(token) for token in ids
    ]
    if b"".join(pieces) == text.encode():
        return list(_of_bytes(ids, pieces))
    return list(_of_places(text, _places(tokenizer, text, specials, ids)))


def written(data: bytes | str) -> str:
    """Writes bytes or a text on one line: what does not print is escaped as in Python.

    Example:
        >>> written(b"caf\\xc3\\n")
        'caf\\\\xc3\\\\n'
    """
    if isinstance(data, str):
        return data.translate(_ESCAPED)
    return "".join(
        part.translate(_ESCAPED) if is_text else "".join(f"\\x{byte:02x}" for byte in part.encode("latin-1"))
        for part, is_text in _stretches(data)
    )


def _stretches(data: bytes) -> Iterator[tuple[str, bool]]:
    """Bytes as stretches of text, and of bytes that are none (as Latin-1)."""
    while data:
        try:
            yield data.decode(), True
            return
        except UnicodeDecodeError as error:
            yield data[: error.start].decode(), True
            yield data[error.start : error.end].decode("latin-1"), False
            data = data[error.end :]


def _of_bytes(ids: Sequence[int], pieces: Sequence[bytes]) -> Iterator[Span]:
    """Spans of tokens whose bytes are the text."""
    held: list[int] = []
    data = b""
    for token, piece in zip(ids, pieces, strict=True):
        held.append(token)
        data += piece
        try:
            text = data.decode()
        except UnicodeDecodeError:  # ends inside a character
            continue
        yield Span(text, tuple(held))
        held, data = [], b""


Place = tuple[int, int, tuple[int, ...]]
"""First character, the one behind the last, and the tokens."""


def _places(tokenizer: Tokenizer, text: str, specials: Specials, ids: list[int]) -> Iterator[Place]:
    """Where the tokens stand by the `tokenizers` library."""
    import tokenizers

    from ingot.tokenizer.hugging_face import tokenizer_json

    peer = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(tokenizer.parts)))
    peer.encode_special_tokens = specials == "text"
    found = peer.encode(text, add_special_tokens=False)
    theirs, offsets = found.ids, found.offsets
    shorter = min(len(ids), len(theirs))
    first = next((place for place in range(shorter) if ids[place] != theirs[place]), shorter)
    last = next(
        (place for place in range(shorter - first) if ids[-1 - place] != theirs[-1 - place]), shorter - first
    )
    for place in range(first):
        yield *offsets[place], (ids[place],)
    middle = slice(first, len(theirs) - last)
    if first < len(ids) - last or offsets[middle]:
        start = offsets[first - 1][1] if first else 0
        stop = offsets[len(theirs) - last][0] if last else len(text)
        yield start, max(start, stop), tuple(ids[first : len(ids) - last])
    for place in range(last, 0, -1):
        yield *offsets[-place], (ids[-place],)


def _of_places(text: str, places: Iterator[Place]) -> Iterator[Span]:
    """Spans of tokens by their places: those that overlap are one, what lies between is lost."""
    begin = end = 0
    held: tuple[int, ...] = ()
    for start, stop, ids in places:
        if held and start >= end and end > begin:
            yield Span(text[begin:end], held)
            begin, held = end, ()
        if not held and start > begin:
            yield Span(text[begin:start], ())
            begin = start
        held += ids
        end = max(end, stop)
    if held:
        yield Span(text[begin:end], held)
        begin = end
    if begin < len(text):
        yield Span(text[begin:], ())
