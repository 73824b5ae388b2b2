"""Porter's stemmer: English words without their endings, by the rules of the paper (Porter 1980).

A word is a sequence [C](VC){m}[V] of consonant and vowel runs; m is its measure. Each step has a list of
endings, and the first ending that fits decides: it is replaced where its condition holds for the stem, else
nothing is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

Condition = Callable[[str], bool]
Rules = tuple[tuple[str, str], ...]

_STEP_2: Rules = (
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("abli", "able"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
)
_STEP_3: Rules = (
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
)
_STEP_4: Rules = tuple(
    (ending, "")
    for ending in (
        *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent"),
        *("ion", "ou", "ism", "ate", "iti", "ous", "ive", "ize"),
    )
)
_RUNS = re.compile("v+c")


@functools.lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Returns the stem of an English word, in lower case.

    Example:
        >>> [stem(word) for word in ("caresses", "ponies", "relational", "hopping", "Formalize")]
        ['caress', 'poni', 'relat', 'hop', 'formal']
    """
    word = _plural(word.lower())
    word = _past(word)
    if word.endswith("y") and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    word = _first(word, _STEP_2, lambda stem: _measure(stem) > 0)
    word = _first(word, _STEP_3, lambda stem: _measure(stem) > 0)
    word = _step_4(word)
    return _tidy(word)


def _plural(word: str) -> str:
    for ending, new in (("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")):
        if word.endswith(ending):
            return word[: -len(ending)] + new
    return word


def _past(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        if word.endswith(ending) and _has_vowel(word[: -len(ending)]):
            return _mended(word[: -len(ending)])
    return word


def _mended(word: str) -> str:
    """What -ed and -ing leave, as a word: conflat(ed) is conflate, hopp(ing) is hop, fil(ing) is file."""
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if _ends_double(word):
        return word if word[-1] in "lsz" else word[:-1]
    return word + "e" if _measure(word) == 1 and _ends_short(word) else word


def _first(word: str, rules: Rules, holds: Condition) -> str:
    for ending, new in rules:
        if word.endswith(ending):
            return word[: -len(ending)] + new if holds(word[: -len(ending)]) else word
    return word


def _step_4(word: str) -> str:
    ion = word.endswith("ion")
    return _first(word, _STEP_4, lambda stem: _measure(stem) > 1 and (not ion or stem.endswith(("s", "t"))))


def _tidy(word: str) -> str:
    if word.endswith("e"):
        measure = _measure(word[:-1])
        if measure > 1 or (measure == 1 and not _ends_short(word[:-1])):
            word = word[:-1]
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word


def _shape(word: str) -> str:
    """A "c" for each consonant and a "v" for each vowel; y is a vowel after a consonant."""
    shape = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if vowel else "c"
    return shape


def _measure(word: str) -> int:
    return len(_RUNS.findall(_shape(word)))


def _has_vowel(word: str) -> bool:
    return "v" in _shape(word)


def _ends_double(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _shape(word)[-1] == "c"


def _ends_short(word: str) -> bool:
    """Ends consonant, vowel, consonant, the last of which is not w, x or y."""
    return _shape(word)[-3:] == "cvc" and word[-1] not in "wxy"
