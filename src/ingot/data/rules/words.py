"""Words and sentences, for rules that count them.

Counting is all that these words are for, and it is the most that rules cost, so the fast splitter is one
regular expression. It cuts where spaCy's rules for English cut in ordinary text: at blanks, signs, hyphens
and contractions, but not within numbers, dotted names and addresses. Scripts without blanks between words
are cut into pieces of about a word's length.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable
from typing import Literal, Protocol

from ingot.data.rules.signs import ENDS
from ingot.errors import ResourceError

SplitterName = Literal["fast", "spacy"]

_ADDRESS = r"://[^\s<>\"]*[^\s<>\".,;:!?)]"  # what follows "https"
_CONTRACTION = "['\u2019](?:(?:[stdmSTDM]|ll|re|ve)\\b)?"

# "Plain" text holds Latin, Greek and Cyrillic letters and any signs; these make a text an "other" one.
_OTHER = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0530-\u1dff\u1f00-\u1fff\u2c00-\ud7ff\uf900-\ufdff\ufe20-\ufe2f\ufe70-\uffef]"
)
_PAIRED = "\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han and kana
_LONGER = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"  # Thai, Lao, Burmese, Khmer


class Splitter(Protocol):
    """Cuts text into words and sentences."""

    def words(self, text: str) -> list[str]:
        """Returns the words and signs of a text, in order, without blanks."""
        ...

    def sentences(self, text: str) -> list[str]:
        """Returns the sentences of a text, none of them blank."""
        ...


def splitter(name: SplitterName = "fast", language: str = "en") -> Splitter:
    """Returns a splitter; the same one for the same arguments.

    Args:
        name: "fast" for any language by one expression, "spacy" for the tokenizer of that library.
        language: whose rules spaCy uses.

    Raises:
        ResourceError: spaCy is asked for and missing, or knows no such language.
    """
    return _FAST if name == "fast" else _spacy(language)


class FastSplitter:
    """Words by one regular expression, chosen by the scripts that a text is written in.

    Example:
        >>> FastSplitter().words("It's 3.5 well-known words.")
        ['It', "'s", '3.5', 'well', '-', 'known', 'words', '.']
        >>> FastSplitter().sentences("It is. Isn't it? (Yes.)")
        ['It is.', "Isn't it?", '(Yes.)']
    """

    def words(self, text: str) -> list[str]:
        """Returns the words and signs of a text."""
        if text.isascii():
            return _ascii_words()(text)
        return (_other_words() if _OTHER.search(text) else _plain_words())(text)

    def sentences(self, text: str) -> list[str]:
        """Returns the sentences of a text, each up to its end and the signs that close it."""
        cut, start = [], 0
        for match in (_ASCII_END if text.isascii() else _any_end()).finditer(text):
            if not _ABBREVIATION.search(text, max(0, match.start() - 5), match.start() + 1):
                cut.append(text[start : match.end()].strip())
                start = match.end()
        rest = text[start:].strip()
        return [*cut, rest] if rest else cut


class SpacySplitter:
    """Words of spaCy's rule-based tokenizer, sentences of its sentencizer: what datatrove's filters use.

    Args:
        language: a language that spaCy has rules for; no model is needed.
    """

    def __init__(self, language: str = "en") -> None:
        try:
            import spacy
        except ImportError:
            raise ResourceError(
                "the package 'spacy' is missing", where="words", fix="pip install spacy, or use words=fast"
            ) from None
        try:
            self._pipeline = spacy.blank(language)
        except ImportError as error:
            raise ResourceError(
                f"spaCy cannot split '{language}' ({error})".splitlines()[0],
                where="words",
                fix="name another language, or use words=fast",
            ) from None
        self.language = language
        self._pipeline.add_pipe("sentencizer")

    def __reduce__(self) -> tuple[Callable[[str], SpacySplitter], tuple[str]]:
        return _spacy, (self.language,)

    def words(self, text: str) -> list[str]:
        """Returns spaCy's tokens, stripped of blanks."""
        self._pipeline.max_length = max(len(text) + 10, 1)
        with self._pipeline.memory_zone():
            found = [token.text.strip() for token in self._pipeline.make_doc(text)]
        return [word for word in found if word]

    def sentences(self, text: str) -> list[str]:
        """Returns the sentencizer's sentences, stripped of blanks."""
        self._pipeline.max_length = max(len(text) + 10, 1)
        with self._pipeline.memory_zone():
            found = [sentence.text.strip() for sentence in self._pipeline(text).sents]
        return [sentence for sentence in found if sentence]


_FAST = FastSplitter()
_spacy = functools.lru_cache(SpacySplitter)

_ABBREVIATION = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|No|Nr|Fig|vs|cf|etc|approx|e\.g|i\.e|z\.B|[A-Z])\.$", re.ASCII
)


_CLOSING = "['\"\u2019\u201d)\\]\u300d\u300f\uff09]*"
_ASCII_END = re.compile(r"""[!.?]+['")\]]*(?=\s)""")


@functools.cache
def _any_end() -> re.Pattern[str]:
    narrow = "".join(re.escape(end) for end in sorted(ENDS) if end < "\u3000")
    wide = "".join(re.escape(end) for end in sorted(ENDS) if end >= "\u3000")
    return re.compile(f"[{narrow}]+{_CLOSING}(?=\\s)|[{wide}]+{_CLOSING}")


def _compiled(letters: str, before: str = "") -> Callable[[str], list[str]]:
    """The expression for words of these letters (the inside of a character class).

    Spelling the letters out makes matching twice as fast as the class of all words does, and passing over
    blanks first saves a look at each kind of word in vain.
    """
    one = f"[{letters}]"
    word = rf"{one}++(?:[._@]{one}++|,[0-9]++|{_ADDRESS})*+"
    signs = rf"{_CONTRACTION}|\.+|-+|[^\s{letters}]"
    return re.compile(rf"\s*+({before}{word}|{signs})").findall


@functools.cache
def _ascii_words() -> Callable[[str], list[str]]:
    return _compiled("0-9A-Za-z")


@functools.cache
def _plain_words() -> Callable[[str], list[str]]:
    letters = [code for code in range(0x80, 0x530) if chr(code).isalnum()]
    return _compiled("0-9A-Za-z" + _ranges(letters) + "\u1e00-\u1eff")


@functools.cache
def _other_words() -> Callable[[str], list[str]]:
    """Letters, digits and marks of every script; those without blanks between words come first.

    Characters beyond U+FFFF are words by themselves: a class that holds them matches ten times slower.
    """
    unspaced = re.compile(f"[{_PAIRED}{_LONGER}]")
    letters = [
        code
        for code in range(0x80, 0x10000)
        if (chr(code).isalnum() or unicodedata.category(chr(code)) in ("Mn", "Mc"))
        and not unspaced.match(chr(code))
    ]
    return _compiled("0-9A-Za-z" + _ranges(letters), f"[{_PAIRED}]{{1,2}}+|[{_LONGER}]{{1,4}}+|")


def _ranges(codes: list[int]) -> str:
    """Sorted code points as the inside of a character class."""
    runs: list[list[int]] = []
    for code in codes:
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" if first < last else chr(first) for first, last in runs)
