"""Bytes as printable characters: how `tokenizer.json` writes tokens that are not text.

GPT-2's table (Radford et al. 2019): bytes that print in Latin-1 stand for themselves, the other 68 take
the code points from 256 on. The order of the characters is the order of the first 256 token ids.
"""

from __future__ import annotations

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in set(_PRINTABLE)]

BYTE_ORDER: tuple[int, ...] = (*_PRINTABLE, *_OTHERS)
"""The byte that token i < 256 stands for: ordered by its printable character."""

_TO_CHARACTER = {byte: chr(byte) for byte in _PRINTABLE} | {b: chr(256 + i) for i, b in enumerate(_OTHERS)}
_TO_BYTE = {character: byte for byte, character in _TO_CHARACTER.items()}


def printable(token: bytes) -> str:
    """Writes a token with one printable character per byte.

    Example:
        >>> printable(b" caf\\xc3")
        'ĠcafÃ'
    """
    return "".join(_TO_CHARACTER[byte] for byte in token)


def unprintable(text: str) -> bytes:
    """Reads what `printable` wrote.

    Raises:
        KeyError: a character that stands for no byte.
    """
    return bytes(_TO_BYTE[character] for character in text)


def named_bytes(name: str) -> bytes:
    """The bytes of a token by its name: what `printable` wrote, or for any other text its UTF-8.

    Example:
        >>> named_bytes("Ġto"), named_bytes("<｜end｜>").decode()
        (b' to', '<｜end｜>')
    """
    try:
        return unprintable(name)
    except KeyError:
        return name.encode("utf-8", errors="replace")
