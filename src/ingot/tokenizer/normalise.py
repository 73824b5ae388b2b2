"""Normalisers: what is done to a text before it is cut into pieces.

Each is described as in a `tokenizer.json` (an object with a `type`) and built into a function from text
to text. A tokenizer of ours has none by default: every byte of the text comes back.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from ingot.tokenizer.charsmap import read_charsmap
from ingot.tokenizer.reading import PATIENCE, Fields, pattern_of, refuse

Normalise = Callable[[str], str]

WHITE_SPACE = "".join(map(chr, (*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B))))
WHITE_SPACE += "\u2028\u2029\u202f\u205f\u3000"
"""Unicode's property White_Space, which regular expressions mean by \\s; `str.isspace` has four more."""

_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
"""Blocks of Chinese characters, each a word to BERT (Devlin et al. 2019, its published tokenizer)."""

BERT: dict[str, Any] = {
    "type": "BertNormalizer",
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": True,
}
"""What BERT's uncased models do: control characters out, Chinese apart, accents off, lower case."""

NAMED: dict[str, dict[str, Any] | None] = {
    "none": None,
    "nfc": {"type": "NFC"},
    "nfkc": {"type": "NFKC"},
    "bert": BERT,
    "bert_cased": {**BERT, "lowercase": False},
}
"""The normalisers that a tokenizer trained here can be given, by name."""


def build(fields: Fields) -> Normalise:
    """Makes the function that a description stands for.

    Raises:
        ArtifactError: an unknown type, or a wrong field.

    Example:
        >>> build(Fields({"type": "BertNormalizer"}, "normalizer"))("Café")
        'cafe'
    """
    kind = fields.text("type")
    if kind not in _KINDS:
        raise refuse(f"the normalizer '{kind}' is not supported", fields.where)
    return _KINDS[kind](fields)


def without_surrogates(text: str) -> str:
    r"""Returns a text with U+FFFD for each lone surrogate, which is no character.

    Example:
        >>> without_surrogates("a\ud800")
        'a�'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", errors="replace")
    return text


def lower(text: str) -> str:
    """Lower case character by character, as Rust does it: a sigma at the end of a word is no exception."""
    return text.lower() if "Σ" not in text else "".join(map(str.lower, text))


def _form(form: Any) -> Callable[[Fields], Normalise]:
    return lambda fields: functools.partial(unicodedata.normalize, form)


def _without(categories: tuple[str, ...]) -> Normalise:
    def strip(text: str) -> str:
        return "".join(c for c in text if c < "\u0300" or not unicodedata.category(c).startswith(categories))

    return strip


def _strip(fields: Fields) -> Normalise:
    left, right = fields.flag("strip_left", True), fields.flag("strip_right", True)

    def strip(text: str) -> str:
        text = text.lstrip(WHITE_SPACE) if left else text
        return text.rstrip(WHITE_SPACE) if right else text

    return strip


def _replace(fields: Fields) -> Normalise:
    content = fields.text("content")
    pattern = fields.inner("pattern")
    if "String" in pattern.values:
        old = pattern.text("String")
        if not old:
            raise refuse("an empty text cannot be replaced", pattern.where)
        return lambda text: text.replace(old, content)
    found = pattern_of(fields)
    return lambda text: found.sub(lambda match: content, text, timeout=PATIENCE)


def _prepend(fields: Fields) -> Normalise:
    prefix = fields.text("prepend")
    return lambda text: prefix + text if text else text


def _bert(fields: Fields) -> Normalise:
    lowercase = fields.flag("lowercase", True)
    steps: list[Normalise] = []
    if fields.flag("clean_text", True):
        steps.append(_clean)
    if fields.flag("handle_chinese_chars", True):
        steps.append(_apart)
    if fields.flag("strip_accents", lowercase):
        unaccented = _without(("Mn",))
        steps.append(lambda text: unaccented(unicodedata.normalize("NFD", text)))
    if lowercase:
        steps.append(lower)
    return _chain(steps)


def _clean(text: str) -> str:
    """Blanks become spaces; control, format and private characters go."""
    if text.isascii() and text.isprintable():
        return text
    kept = []
    for character in text:
        if character in "\t\n\r":
            kept.append(" ")
        elif character != "\ufffd" and unicodedata.category(character) not in ("Cc", "Cf", "Co"):
            kept.append(" " if character.isspace() else character)
    return "".join(kept)


def _apart(text: str) -> str:
    """A space on either side of every Chinese character."""
    if text.isascii():
        return text
    return "".join(f" {c} " if _is_ideograph(ord(c)) else c for c in text)


def _is_ideograph(point: int) -> bool:
    return point >= 0x3400 and any(first <= point <= last for first, last in _IDEOGRAPHS)


def _chain(steps: list[Normalise]) -> Normalise:
    return lambda text: functools.reduce(lambda current, step: step(current), steps, text)


def _sequence(fields: Fields) -> Normalise:
    return _chain([build(inner) for inner in fields.inners("normalizers")])


_KINDS: Mapping[str, Callable[[Fields], Normalise]] = {
    "NFC": _form("NFC"),
    "NFD": _form("NFD"),
    "NFKC": _form("NFKC"),
    "NFKD": _form("NFKD"),
    "Lowercase": lambda fields: lower,
    "StripAccents": lambda fields: _without(("M",)),
    "Strip": _strip,
    "Replace": _replace,
    "Prepend": _prepend,
    "BertNormalizer": _bert,
    "Precompiled": lambda fields: read_charsmap(fields.text("precompiled_charsmap"), fields.where),
    "Sequence": _sequence,
}
