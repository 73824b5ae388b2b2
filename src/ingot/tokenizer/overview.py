"""What a tokenizer is, told to people: kind, sizes, control tokens, split, longest tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, get_args

from ingot.tokenizer.bpe_model import BPE
from ingot.tokenizer.decoders import byte_of
from ingot.tokenizer.pretokenise import single_pattern
from ingot.tokenizer.spans import written
from ingot.tokenizer.split import PATTERNS, Digits, Splitter, with_digits
from ingot.tokenizer.tokenizer import Tokenizer
from ingot.tokenizer.unigram_model import UnigramModel

_BY_PATTERN = {pattern: name for name, pattern in PATTERNS.items()}


@dataclass(frozen=True)
class Control:
    """A control token.

    Args:
        id: its id.
        name: its text.
        roles: what it is for.
    """

    id: int
    name: str
    roles: list[str]


@dataclass(frozen=True)
class Overview:
    """What a tokenizer is.

    Args:
        kind: its model.
        vocabulary: ids in all.
        merges: that it has; 0 where it does not merge.
        byte_tokens: ids that stand for one byte, whatever the text.
        added: strings that are one token each and no control tokens.
        control: its control tokens.
        split: name of the split pattern, or the pattern, or what cuts otherwise.
        normaliser: what is done to a text first, or "none".
        decoder: how text is made of tokens again.
        compiled: whether encoding runs in compiled code.
        longest: the longest tokens: id, and the text as it is written on one line.
    """

    kind: str
    vocabulary: int
    merges: int
    byte_tokens: int
    added: int
    control: list[Control]
    split: str
    normaliser: str
    decoder: str
    compiled: bool
    longest: list[tuple[int, str]]

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return asdict(self)


def overview(tokenizer: Tokenizer, longest: int = 10) -> Overview:
    """Describes a tokenizer.

    Args:
        tokenizer: any.
        longest: how many of the longest tokens to name.

    Example:
        >>> overview(Tokenizer([])).kind
        'byte-level BPE'
    """
    parts = tokenizer.parts
    names = parts.names()
    added = {token.id for token in parts.added}
    if tokenizer.byte_level:
        single = sum(len(tokenizer.token_bytes(token)) == 1 for token in range(len(names)))
    else:
        single = sum(byte_of(name) is not None for name in names)
    sizes = {token: len(tokenizer.token_bytes(token)) for token in range(len(names)) if token not in added}
    by_size = sorted(sizes, key=lambda token: (-sizes[token], token))[:longest]
    control = [
        Control(token, name, [role for role, played in parts.roles.items() if played == name])
        for name, token in sorted(tokenizer.special.items(), key=lambda item: item[1])
    ]
    return Overview(
        kind_of(tokenizer),
        tokenizer.vocab_size,
        len(tokenizer.merges),
        single,
        sum(not token.special for token in parts.added),
        control,
        split_of(tokenizer),
        _named(parts.normaliser, "normalizers"),
        _named(parts.decoder, "decoders"),
        tokenizer.compiled,
        [(token, written(tokenizer.token_bytes(token))) for token in by_size],
    )


def kind_of(tokenizer: Tokenizer) -> str:
    """Returns what a tokenizer's model is, for people."""
    model = tokenizer.parts.model
    if isinstance(model, BPE):
        return "byte-level BPE" if tokenizer.byte_level else "BPE on characters"
    return "Unigram" if isinstance(model, UnigramModel) else "WordPiece"


def split_of(tokenizer: Tokenizer) -> str:
    """Returns the name of the split pattern, the pattern where it has no name, or how else texts are cut."""
    pattern = single_pattern(tokenizer.parts.pretokeniser)
    if pattern is None:
        return _named(tokenizer.parts.pretokeniser, "pretokenizers")
    if pattern in _BY_PATTERN:
        return _BY_PATTERN[pattern]
    for name in PATTERNS:
        for digits in get_args(Digits) if name != "lines" else ():
            if Splitter(with_digits(name, digits)).pattern == pattern:
                return f"{name}, digits {digits}"
    return pattern


def _named(description: dict[str, Any] | None, inner: str) -> str:
    """The types of the steps that a description names."""
    if description is None:
        return "none"
    kind = str(description.get("type"))
    if kind != "Sequence":
        return kind
    return ", ".join(_named(step, inner) for step in description.get(inner, []))
