r"""Splitting: the first cut of a text, into pieces that no token may cross.

A piece is a contraction, a word with the space or sign before it, one to three digits, a run of signs with
the line ends after it, line ends with the blanks before them, or blanks. Words keep their space, so that
spaces cost no tokens of their own. The published patterns differ in how they cut digits, case and marks;
`PATTERNS` holds them by name, and `with_digits` changes the digits of any of them.

Three regular-expression engines read these patterns: Rust's (tiktoken, where we encode; and `tokenizers`,
where everybody else does) and Python's `regex` (where we count pieces for training). They agree on
everything but letters so new that one engine's Unicode tables lack them; training is free to cut those
elsewhere, and a test compares the two encoders on every code point there is.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import regex

from ingot.errors import ConfigError, did_you_mean

Digits = Literal["1", "1-2", "1-3", "free"]

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

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS_AND_SIGNS = rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
_LLAMA3 = rf"{_WORDS_AND_SIGNS}|{_BLANKS}"
_CL100K = rf"{_WORDS_AND_SIGNS}|\s+(?![\s\S])|{_BLANKS}"  # blanks at the very end stay together

_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDINGS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDINGS}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"
)


def _deepseek() -> str:
    """Three cuts in a row (numbers; Chinese and Japanese; the rest) as one pattern.

    No match may cross into or out of a number or a run of these scripts, so each character looks first on
    which side it is. What no alternative takes, such as control characters, is cut off by the last two.
    """
    script = r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]"
    inner, outer = rf"(?={script})", rf"(?!{script})"
    word = r"[\p{L}\p{M}]"
    inside = (
        rf"(?:{inner}[^\r\n\p{{L}}\p{{P}}\p{{S}}])?(?:{inner}{word})+"  # letters of the script
        rf"|(?:{inner}[\p{{P}}\p{{S}}])+"  # and its signs
    )
    outside = (
        r"[!-/:-@\[-`{-~][A-Za-z]+"
        rf"|(?:{outer}[^\r\n\p{{L}}\p{{P}}\p{{S}}\p{{N}}])?(?:{outer}{word})+"
        rf"| ?(?:{outer}[\p{{P}}\p{{S}}])+[\r\n]*"
        r"|\s*[\r\n]+"
        r"|\s+(?![^\s\p{N}\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff])"
        r"|\s+"
    )
    taken = rf"\p{{N}}{{1,3}}|{inside}|{outside}"
    gap = rf"(?!{taken})[\s\S]"
    return rf"{taken}|(?:{inner}{gap})+|(?:{outer}{gap})+"


PATTERNS: dict[str, str] = {
    "qwen2": PATTERN,
    "gpt2": _GPT2,
    "cl100k": _CL100K,
    "llama3": _LLAMA3,
    "o200k": _O200K,
    "deepseek3": _deepseek(),
    "lines": r"[^\n]*\n+|[^\n]+",
}
"""Splits by name: Qwen2's; OpenAI's for GPT-2 (Radford et al. 2019), GPT-4 and GPT-4o (what tiktoken 0.14
does, without possessive quantifiers); Llama 3's, GPT-4's but for blanks at the end; DeepSeek-V3's, three
cuts as one pattern; and "lines", hardly a cut at all, for tokens that may cross words (as Gemma's and many of
SentencePiece's do)."""

WORDS = r"[!-/:-@\[-`{-~\p{P}]|[^\s!-/:-@\[-`{-~\p{P}]+"
"""BERT's words and signs (Devlin et al. 2019), each sign by itself. Blanks are in no piece: they are lost."""

_DIGITS: dict[Digits, str] = {"1": r"\p{N}", "1-2": r"\p{N}{1,2}", "1-3": r"\p{N}{1,3}", "free": r"\p{N}+"}


def with_digits(name: str, digits: Digits) -> str:
    """Returns a published pattern with another cut of numbers.

    One digit for each token gives a number one spelling; longer runs cost fewer tokens.

    Args:
        name: one of `PATTERNS`, but not "lines", which does not cut numbers.
        digits: at most 1, 2 or 3 digits to a piece, or "free" for any number of them.

    Raises:
        ConfigError: no such pattern, or no such policy.

    Example:
        >>> Splitter(with_digits("gpt2", "1-3")).split("in 12345")
        ['in', ' ', '123', '45']
    """
    if digits not in _DIGITS:
        raise ConfigError(f"unknown policy '{digits}'", where="digits", fix=did_you_mean(digits, _DIGITS))
    pattern = named(name)
    for old in (r"| ?\p{N}+|", r"|\p{N}{1,3}|", r"|\p{N}|"):
        if old in pattern:
            return pattern.replace(old, f"|{_DIGITS[digits]}|")
    if pattern.startswith(r"\p{N}{1,3}|"):
        return pattern.replace(r"\p{N}{1,3}|", f"{_DIGITS[digits]}|")
    raise ConfigError(f"'{name}' does not cut numbers", where="digits", fix="use another pattern")


def named(name: str) -> str:
    """Returns the pattern of a name.

    Raises:
        ConfigError: no such name.
    """
    if name not in PATTERNS:
        raise ConfigError(
            f"unknown split '{name}'", where="tokenizer.split", fix=did_you_mean(name, PATTERNS)
        )
    return PATTERNS[name]


_COMPLETE = {
    *PATTERNS.values(),
    *(with_digits(name, digits) for name in PATTERNS if name != "lines" for digits in _DIGITS),
    WORDS,  # left as it is: losing blanks is its purpose
    _LLAMA3.replace("{1,3}", ""),  # Qwen2's as its files write it
}
"""Patterns that are known to leave nothing over, and so need no alternative for it."""


@dataclass(frozen=True)
class Splitter:
    """Cuts texts by a pattern. It can be pickled: workers that count pieces take it along.

    A pattern of the user's own may leave something over, and engines disagree on what becomes of that
    (tiktoken drops it). Here every character is in a piece: `pattern` ends with an alternative for runs
    that the given one would skip, which is the same as what `tokenizers` makes of them.

    Args:
        given: a name in `PATTERNS`, or a regular expression.

    Raises:
        ConfigError: no regular expression, or one that matches nothing at all (an empty piece).

    Example:
        >>> Splitter("gpt2").split("It's 2025!")
        ['It', "'s", ' 2025', '!']
        >>> Splitter("[a-z]+").split("ab--c")
        ['ab', '--', 'c']
    """

    given: str = "qwen2"

    def __post_init__(self) -> None:
        """Finds mistakes when it is made, not when the first text comes."""
        _finder(self.source)  # by itself: in the longer pattern, what is added could close its brackets
        _finder(self.pattern)

    @property
    def pattern(self) -> str:
        """The regular expression that cuts, for whichever engine; it leaves nothing over."""
        source = self.source
        return source if source in _COMPLETE else rf"{source}|(?:(?!{source})[\s\S])+"

    @property
    def source(self) -> str:
        """The regular expression as it was given, which files write down."""
        return PATTERNS.get(self.given, self.given)

    def split(self, text: str) -> list[str]:
        """Returns the pieces of a text; joined, they are the text again (but for `WORDS`)."""
        return _finder(self.pattern)(text)

    def iterate(self, text: str) -> Iterator[str]:
        """Yields the pieces one by one, for a text whose list of pieces would fill the memory."""
        return (match.group() for match in regex.compile(self.pattern).finditer(text))


@functools.lru_cache(maxsize=64)
def _finder(pattern: str) -> Callable[[str], list[str]]:
    """What finds all pieces of a text."""
    try:
        compiled: Any = regex.compile(pattern)
    except regex.error as error:
        what = f"{pattern!r} is no regular expression ({error})"
        raise ConfigError(what, where="tokenizer.split", fix="mend it, or name a published split") from None
    if compiled.match("") is not None:
        what = f"{pattern!r} matches the empty text, so pieces could be empty"
        raise ConfigError(what, where="tokenizer.split", fix="let it match one character or more")
    if compiled.groups:  # findall would return the groups, not the matches
        return lambda text: [match.group() for match in compiled.finditer(text)]
    return compiled.findall


def split(text: str) -> list[str]:
    """Cuts a text into pieces by `PATTERN`; joined, they are the text again.

    Example:
        >>> split("def area(x2):\\n    return x2")
        ['def', ' area', '(x', '2', '):\\n', '   ', ' return', ' x', '2']
    """
    return _finder(PATTERN)(text)


def count_pieces(texts: Iterable[str], splitter: Splitter | None = None) -> Counter[str]:
    """Counts the pieces of many texts, in order of first appearance.

    For more text than a few megabytes see `counting.count`, which uses all cores in bounded memory.
    """
    find = _finder((splitter or Splitter(PATTERN)).pattern)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(find(text))
    return counts
