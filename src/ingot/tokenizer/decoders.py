"""Decoders: what is done to the names of tokens to make text of them again.

Each is described as in a `tokenizer.json` and built into a function from names to texts, which joined are
the decoded text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from ingot.tokenizer.bytes import named_bytes
from ingot.tokenizer.pretokenise import SPACE
from ingot.tokenizer.reading import PATIENCE, Fields, pattern_of, refuse

Decode = Callable[[list[str]], list[str]]

_byte_name = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def build(fields: Fields) -> Decode:
    """Makes the function that a description stands for.

    Raises:
        ArtifactError: an unknown type, or a wrong field.

    Example:
        >>> build(Fields({"type": "WordPiece", "prefix": "##"}, "decoder"))(["go", "##es", "!"])
        ['go', 'es', '!']
    """
    kind = fields.text("type")
    if kind not in _KINDS:
        raise refuse(f"the decoder '{kind}' is not supported", fields.where)
    return _KINDS[kind](fields)


def byte_of(name: str) -> bytes | None:
    """The byte that a token of byte fallback stands for, None for any other token.

    Example:
        >>> byte_of("<0x0A>"), byte_of("x")
        (b'\\n', None)
    """
    found = _byte_name.fullmatch(name)
    return bytes([int(found[1], 16)]) if found else None


def is_byte_level(description: Mapping[str, Any] | None) -> bool:
    """Whether token names are bytes written as printable characters, and nothing else is done to them."""
    return description is not None and description.get("type") == "ByteLevel"


SENTENCEPIECE: dict[str, Any] = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}
"""Marks back to spaces, bytes back to characters, and off with the space before the first word."""


def _byte_level(fields: Fields) -> Decode:
    return lambda names: [b"".join(map(named_bytes, names)).decode("utf-8", errors="replace")]


def _byte_fallback(fields: Fields) -> Decode:
    def decode(names: list[str]) -> list[str]:
        texts: list[str] = []
        held = b""
        for name in names:
            byte = byte_of(name)
            if byte is None:
                texts += [*_released(held), name]
                held = b""
            else:
                held += byte
        return texts + _released(held)

    return decode


def _released(held: bytes) -> list[str]:
    """Bytes as a text; where they are none, one U+FFFD for each."""
    if not held:
        return []
    try:
        return [held.decode("utf-8")]
    except UnicodeDecodeError:
        return ["\ufffd"] * len(held)


def _metaspace(fields: Fields) -> Decode:
    mark = fields.text("replacement", SPACE)
    old = "always" if fields.flag("add_prefix_space", True) else "never"
    bare = fields.text("prepend_scheme", old) != "never"

    def decode(names: list[str]) -> list[str]:
        first = [name.replace(mark, "" if bare else " ") for name in names[:1]]
        return first + [name.replace(mark, " ") for name in names[1:]]

    return decode


_UNTIDY = (
    *((f" {sign}", sign) for sign in ".?!,"),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    *((f" {end}", end) for end in ("'s", "'ve", "'re")),
)
"""Blanks that English text lacks before signs and contractions, as BERT's decoder takes them away."""


def _word_piece(fields: Fields) -> Decode:
    prefix, tidy = fields.text("prefix", "##"), fields.flag("cleanup", True)

    def decode(names: list[str]) -> list[str]:
        texts = []
        for index, name in enumerate(names):
            if index:
                name = name.replace(prefix, "", 1) if name.startswith(prefix) else " " + name
            for old, new in _UNTIDY if tidy else ():
                name = name.replace(old, new)
            texts.append(name)
        return texts

    return decode


def _suffix(fields: Fields) -> Decode:
    suffix = fields.text("suffix", "</w>")

    def decode(names: list[str]) -> list[str]:
        inner = [name.replace(suffix, " ") for name in names[:-1]]
        return inner + [name.replace(suffix, "") for name in names[-1:]]

    return decode


def _strip(fields: Fields) -> Decode:
    content, start, stop = fields.text("content"), fields.number("start"), fields.number("stop")
    if len(content) != 1:
        raise refuse(f"{content!r} is not one character", fields.at("content"))

    def decode(name: str) -> str:
        left = len(name) - len(name.lstrip(content))
        name = name[min(left, start) :]
        right = len(name) - len(name.rstrip(content))
        return name[: len(name) - min(right, stop)]

    return lambda names: list(map(decode, names))


def _replace(fields: Fields) -> Decode:
    pattern, content = pattern_of(fields), fields.text("content")
    return lambda names: [pattern.sub(lambda match: content, name, timeout=PATIENCE) for name in names]


def _sequence(fields: Fields) -> Decode:
    steps = [build(inner) for inner in fields.inners("decoders")]
    return lambda names: functools.reduce(lambda current, step: step(current), steps, names)


_KINDS: Mapping[str, Callable[[Fields], Decode]] = {
    "ByteLevel": _byte_level,
    "ByteFallback": _byte_fallback,
    "Fuse": lambda fields: lambda names: ["".join(names)],
    "Metaspace": _metaspace,
    "WordPiece": _word_piece,
    "BPEDecoder": _suffix,
    "Strip": _strip,
    "Replace": _replace,
    "Sequence": _sequence,
}
