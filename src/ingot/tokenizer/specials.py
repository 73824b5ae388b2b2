"""Added tokens: strings that are one token each wherever they are obeyed, and the parts that they play.

Control tokens (`special`) in a text that a user typed are text, unless the caller asks to obey them;
other added tokens are ordinary words of the vocabulary that happen to be looked for before all else.
How they are found is as in the `tokenizers` library: leftmost, longest, in the raw text or behind the
normaliser, with or without the blanks around them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import regex

from ingot.tokenizer.normalise import WHITE_SPACE
from ingot.tokenizer.reading import Fields, refuse

BOS, START, END, PAD = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"
SPECIALS = (BOS, START, END, PAD)
"""Control tokens of the tokenizers that are trained here, the last ids of their vocabulary, in this order."""

ROLES = ("bos", "eos", "pad", "start", "end", "unk", "mask", "cls", "sep")
"""What a control token can be for; `start` and `end` enclose a message of a chat."""

DEFAULT_ROLES = {"bos": BOS, "eos": END, "pad": PAD, "start": START, "end": END}

_USUAL = {
    "bos": ("<s>", "<bos>", "<|begin_of_text|>", "[CLS]", "<|endoftext|>"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "[SEP]", "<|endoftext|>"),
    "pad": ("<pad>", "[PAD]", "<|pad|>"),
    "unk": ("<unk>", "[UNK]"),
    "mask": ("<mask>", "[MASK]"),
    "cls": ("[CLS]",),
    "sep": ("[SEP]",),
    "start": (START,),
    "end": (END,),
}
"""Names by which control tokens are known where no file says what they are for."""

_is_word = regex.compile(r"\w").match


@dataclass(frozen=True)
class Added:
    """A string that is one token.

    Args:
        text: the string.
        id: its token id.
        special: a control token: obeyed only on request, left out of decoded text on request.
        single_word: only where no letter or digit touches it.
        lstrip: takes the blanks before it along.
        rstrip: takes the blanks behind it along.
        normalized: looked for behind the normaliser, not in the raw text.
    """

    text: str
    id: int
    special: bool = True
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False

    def flags(self) -> dict[str, Any]:
        """What `tokenizer.json` and `tokenizer_config.json` say of it, but the id."""
        return {
            "content": self.text,
            "single_word": self.single_word,
            "lstrip": self.lstrip,
            "rstrip": self.rstrip,
            "normalized": self.normalized,
            "special": self.special,
        }


def read_added(fields: Sequence[Fields]) -> list[Added]:
    """Reads the list `added_tokens` of a `tokenizer.json`.

    Raises:
        ArtifactError: an empty string, or one that comes twice.
    """
    found: dict[str, Added] = {}
    for entry in fields:
        text = entry.text("content")
        if not text or text in found:
            raise refuse(f"the added token {text!r} is empty or comes twice", entry.where)
        flags = ("special", "single_word", "lstrip", "rstrip")
        values = {flag: entry.flag(flag, False) for flag in flags}
        normalized = entry.flag("normalized", not values["special"])
        found[text] = Added(text, entry.number("id"), **values, normalized=normalized)
    return list(found.values())


def usual_roles(names: Iterable[str]) -> dict[str, str]:
    """The parts that control tokens play, by the names that are usual for them.

    Example:
        >>> usual_roles(["<unk>", "<s>", "</s>"])
        {'bos': '<s>', 'eos': '</s>', 'unk': '<unk>'}
    """
    known = set(names)
    found = {role: next((name for name in usual if name in known), None) for role, usual in _USUAL.items()}
    return {role: name for role, name in found.items() if name is not None}


class Finder:
    """Cuts texts at the added tokens.

    Args:
        added: all of them.
        normalise: what the tokenizer does to text before it is cut into pieces.
    """

    def __init__(self, added: Sequence[Added], normalise: Callable[[str], str] | None) -> None:
        self._normalise = normalise
        raw = [token for token in added if not token.normalized]
        behind = {
            (normalise(token.text) if normalise else token.text): token for token in added if token.normalized
        }
        self._raw = {token.text: token for token in raw}
        self._behind = {text: token for text, token in behind.items() if text}
        self._find_raw, self._find_behind = _alternatives(self._raw), _alternatives(self._behind)
        self.plain = all(token.special for token in added)  # then nothing is looked for in "text" mode

    def parts(self, text: str, obey: bool) -> Iterator[int | str]:
        """Yields the ids of added tokens and the normalised text between them, in order.

        Args:
            text: as the user gave it.
            obey: whether control tokens count; the others always do.
        """
        for part in _cut(text, self._find_raw, self._raw, obey):
            if isinstance(part, int):
                yield part
            else:
                normal = self._normalise(part) if self._normalise else part
                yield from _cut(normal, self._find_behind, self._behind, obey)


def _alternatives(tokens: Mapping[str, Added]) -> re.Pattern[str] | None:
    """A pattern that finds the longest of the texts at the leftmost place."""
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if tokens else None


def _cut(
    text: str, find: re.Pattern[str] | None, tokens: Mapping[str, Added], obey: bool
) -> Iterator[int | str]:
    done = 0
    for match in find.finditer(text) if find else ():
        token = tokens[match.group()]
        start, stop = match.span()
        if token.special and not obey:
            continue
        if token.single_word and (
            _is_word(text[max(0, start - 1) : start]) or _is_word(text[stop : stop + 1])
        ):
            continue
        while token.lstrip and start > done and text[start - 1] in WHITE_SPACE:
            start -= 1
        while token.rstrip and stop < len(text) and text[stop] in WHITE_SPACE:
            stop += 1
        if start > done:
            yield text[done:start]
        yield token.id
        done = stop
    if done < len(text):
        yield text[done:]
