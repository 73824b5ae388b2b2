"""Pre-tokenizers: a normalised text is cut into pieces that no token may cross.

Each is described as in a `tokenizer.json` and built into a function from pieces to pieces. Most tokenizers
of today use one regular expression (see `split`) and then write bytes as printable characters; the others
here are what BERT, T5, LLaMA, Falcon and their relatives use.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import regex

from ingot.tokenizer.bytes import printable
from ingot.tokenizer.normalise import WHITE_SPACE
from ingot.tokenizer.reading import PATIENCE, Fields, pattern_of, refuse
from ingot.tokenizer.split import PATTERNS

Cut = Callable[[list[str], bool], list[str]]
"""Pieces and whether the first of them begins the text -> pieces."""

SPACE = "\u2581"
"""What stands for a space in SentencePiece's tokens."""

_blanks = regex.compile(f"[{WHITE_SPACE}]+")
_words = regex.compile(r"\w+|[^\w\s]+")
_gpt2 = regex.compile(PATTERNS["gpt2"])


def build(fields: Fields) -> Cut:
    """Makes the function that a description stands for.

    Raises:
        ArtifactError: an unknown type, or a wrong field.

    Example:
        >>> build(Fields({"type": "Metaspace", "replacement": "_"}, "pre_tokenizer"))(["to be"], True)
        ['_to', '_be']
    """
    kind = fields.text("type")
    if kind not in _KINDS:
        raise refuse(f"the pre_tokenizer '{kind}' is not supported", fields.where)
    return _KINDS[kind](fields)


def byte_level(pattern: str | None) -> dict[str, Any]:
    """Describes the usual cut of byte-level BPE: one pattern, then bytes as printable characters."""
    last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    if pattern is None:
        return last
    return {"type": "Sequence", "pretokenizers": [split_by(pattern), last]}


def split_by(pattern: str) -> dict[str, Any]:
    """Describes a cut by one pattern that keeps everything."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def single_pattern(description: Mapping[str, Any] | None) -> str | None:
    """The one pattern of a byte-level tokenizer, None where its cut is anything else."""
    match description:
        case {"type": "ByteLevel", "add_prefix_space": False, **rest} if rest.get("use_regex", True):
            return PATTERNS["gpt2"]
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated"} as split,
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        } if not split.get("invert", False):
            return pattern
    return None


def is_byte_level(description: Mapping[str, Any] | None) -> bool:
    """Whether the model behind this cut sees bytes written as printable characters."""
    if description is None:
        return False
    inner = description.get("pretokenizers", [])
    return description.get("type") == "ByteLevel" or any(map(is_byte_level, inner))


def _each(cut: Callable[[str], Iterator[str] | list[str]]) -> Cut:
    return lambda pieces, first: [part for piece in pieces for part in cut(piece) if part]


def _byte_level(fields: Fields) -> Cut:
    prefix = fields.flag("add_prefix_space", True)
    pattern = _gpt2 if fields.flag("use_regex", True) else None

    def cut(piece: str) -> Iterator[str]:
        text = " " + piece if prefix and not piece.startswith(" ") else piece
        for part in pattern.findall(text) if pattern else (text,):
            yield printable(part.encode("utf-8", errors="replace"))

    return _each(cut)


def _metaspace(fields: Fields) -> Cut:
    mark = fields.text("replacement", SPACE)
    old = "always" if fields.flag("add_prefix_space", True) else "never"
    scheme = fields.text("prepend_scheme", old)
    whole = not fields.flag("split", True)
    if len(mark) != 1 or scheme not in ("always", "first", "never"):
        raise refuse(f"replacement {mark!r} with prepend_scheme {scheme!r} is not supported", fields.where)
    words = regex.compile(f"{regex.escape(mark)}[^{regex.escape(mark)}]*|[^{regex.escape(mark)}]+")

    def cut(pieces: list[str], first: bool) -> list[str]:
        found: list[str] = []
        for index, piece in enumerate(pieces):
            text = piece.replace(" ", mark)
            prefixed = scheme == "always" or (scheme == "first" and first and index == 0)
            if prefixed and not text.startswith(mark):
                text = mark + text
            found += [text] if whole else words.findall(text)
        return found

    return cut


def _split(fields: Fields) -> Cut:
    pattern = pattern_of(fields)
    behaviour = fields.text("behavior")
    if behaviour not in _BEHAVIOURS:
        raise refuse(f"the behavior '{behaviour}' is not supported", fields.where)
    return _each(functools.partial(_parted, pattern, _BEHAVIOURS[behaviour], fields.flag("invert", False)))


def _parted(pattern: regex.Pattern[str], behaviour: str, invert: bool, piece: str) -> list[str]:
    """Cuts one piece at the matches of a pattern."""
    parts: list[str] = []
    matched: list[bool] = []
    done = 0
    for match in pattern.finditer(piece, timeout=PATIENCE):
        start, stop = match.span()
        if start > done:
            parts.append(piece[done:start])
            matched.append(invert)
        parts.append(piece[start:stop])  # even an empty one parts what is before from what is behind
        matched.append(not invert)
        done = stop
    if done < len(piece):
        parts.append(piece[done:])
        matched.append(invert)
    return _joined(parts, matched, behaviour)


def _joined(parts: list[str], matched: list[bool], behaviour: str) -> list[str]:
    """What becomes of the matches: gone, apart, with a neighbour, or with their like."""
    if behaviour == "apart":
        return parts
    if behaviour == "gone":
        return [part for part, is_match in zip(parts, matched, strict=True) if not is_match]
    if behaviour == "next":
        turned = _joined([part[::-1] for part in parts[::-1]], matched[::-1], "previous")
        return [part[::-1] for part in turned[::-1]]
    found: list[str] = []
    before = False  # whether the part before is a match
    for part, is_match in zip(parts, matched, strict=True):
        glued = is_match == before if behaviour == "like" else is_match and not before
        if found and glued:
            found[-1] += part
        else:
            found.append(part)
        before = is_match
    return found


_BEHAVIOURS = {
    "Removed": "gone",
    "Isolated": "apart",
    "MergedWithPrevious": "previous",
    "MergedWithNext": "next",
    "Contiguous": "like",
}


def _is_punctuation(character: str) -> bool:
    return character in _ASCII_SIGNS or unicodedata.category(character).startswith("P")


_ASCII_SIGNS = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


def _runs(apart: Callable[[str], bool], alone: bool) -> Callable[[str], list[str]]:
    """A cut that puts characters of one kind apart: each alone, or in runs."""

    def cut(piece: str) -> list[str]:
        kinds = [apart(character) for character in piece]
        return _joined(list(piece), kinds, "like") if not alone else _alone(piece, kinds)

    return cut


def _alone(piece: str, kinds: list[bool]) -> list[str]:
    found: list[str] = []
    done = 0
    for index, is_apart in enumerate(kinds):
        if is_apart:
            found += [piece[done:index], piece[index]]
            done = index + 1
    return [*found, piece[done:]]


def _bert(fields: Fields) -> Cut:
    punctuation = _runs(_is_punctuation, alone=True)
    return _each(lambda piece: [part for word in _blanks.split(piece) for part in punctuation(word)])


def _punctuation(fields: Fields) -> Cut:
    behaviour = fields.text("behavior", "Isolated")
    if behaviour not in ("Isolated", "Contiguous"):
        raise refuse(f"the behavior '{behaviour}' is not supported", fields.where)
    return _each(_runs(_is_punctuation, alone=behaviour == "Isolated"))


def _digits(fields: Fields) -> Cut:
    numeric = regex.compile(r"\p{N}")
    alone = fields.flag("individual_digits", False)
    return _each(_runs(lambda character: numeric.match(character) is not None, alone=alone))


def _sequence(fields: Fields) -> Cut:
    cuts = [build(inner) for inner in fields.inners("pretokenizers")]
    return lambda pieces, first: functools.reduce(lambda current, cut: cut(current, first), cuts, pieces)


_KINDS: Mapping[str, Callable[[Fields], Cut]] = {
    "ByteLevel": _byte_level,
    "Metaspace": _metaspace,
    "Split": _split,
    "BertPreTokenizer": _bert,
    "Punctuation": _punctuation,
    "Digits": _digits,
    "Whitespace": lambda fields: _each(_words.findall),
    "WhitespaceSplit": lambda fields: _each(_blanks.split),
    "Sequence": _sequence,
}
