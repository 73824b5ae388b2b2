"""Words, counts and repeated sequences against definitions spelled out."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingot.data.rules.repetition import repeats
from ingot.data.rules.signs import SIGNS
from ingot.data.rules.statistics import Statistics
from ingot.data.rules.words import FastSplitter, splitter
from ingot.errors import ResourceError

word = st.text("abé中_.'", min_size=1, max_size=4)
words = st.lists(word | st.sampled_from(["a", "b", "ab", "ba", "aa"]), max_size=80)


class Given:
    """A splitter that knows the words already."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def words(self, text: str) -> list[str]:
        return self._words

    def sentences(self, text: str) -> list[str]:
        return [text]


def walk(parts: list[str], n: int) -> int:
    """Letters of repeated sequences, by the definition, with texts for hashes."""
    known, repeated, place = set(), 0, 0
    while place + n <= len(parts):
        joined = "".join(parts[place : place + n])
        if joined in known:
            repeated += len(joined)
            place += n
        else:
            known.add(joined)
            place += 1
    return repeated


def top(parts: list[str], n: int) -> int:
    """Letters of the most frequent sequence, the first of equals, by the definition."""
    counts = Counter(" ".join(parts[start : start + n]) for start in range(len(parts) - n + 1))
    sequence, often = max(counts.items(), key=lambda pair: pair[1], default=("", 0))
    return len(sequence) * often


@settings(deadline=None, max_examples=150)
@given(words, st.integers(1, 30), st.integers(0, 3))
def test_repeated_sequences(parts: list[str], n: int, copies: int) -> None:
    parts = parts * (copies + 1)
    sequences = Statistics("", Given(parts)).sequences
    for size in (n, 5, 1, 10):
        letters = walk(parts, size)
        assert sequences.repeated_letters(size) == letters
        assert sequences.repeated_letters(size, letters - 1) == letters  # not too few to tell
        assert sequences.repeated_letters(size, letters) in (0, letters)


@settings(deadline=None)
@given(words)
def test_the_bound_of_the_most_frequent_sequence(parts: list[str]) -> None:
    sequences = Statistics("", Given(parts)).sequences
    pairs = Counter("".join(parts[i : i + 2]) for i in range(len(parts) - 1))
    assert sequences.most_frequent_pair == max(pairs.values(), default=0)
    for n in (2, 3, 4):
        grams = ["".join(parts[i : i + n]) for i in range(len(parts) - n + 1)]
        assert sequences.longest(n) == max(map(len, grams), default=0)
        assert top(parts, n) <= sequences.most_frequent_pair * (sequences.longest(n) + n - 1)


@settings(deadline=None, max_examples=150)
@given(words, st.integers(1, 12), st.integers(0, 2))
@example(["a", "ab", "a", "aa", "b"], 2, 1)  # the same letters, cut at other places
def test_the_most_frequent_sequence(parts: list[str], n: int, copies: int) -> None:
    parts = parts * (copies + 1)
    sequences = Statistics("", Given(parts)).sequences
    letters = top(parts, n)
    assert sequences.top_letters(n) == letters
    assert sequences.top_letters(n, letters - 1) == letters
    assert sequences.top_letters(n, letters) in (0, letters)


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=5) | word, max_size=40))
def test_counts(parts: list[str]) -> None:
    counts = Statistics("", Given(parts)).counts
    proper = [one for one in parts if any(sign not in SIGNS for sign in one)]
    assert counts.words == len(parts)
    assert counts.proper == len(proper)
    assert counts.letters == sum(map(len, proper))
    assert counts.alphabetic == sum(any(sign.isalpha() for sign in one) for one in parts)


@settings(deadline=None)
@given(st.text() | st.text("a .,-'_é中ก\u0301\u093f\n1@/:"))
def test_words_leave_nothing_out_and_hold_no_blanks(text: str) -> None:
    cut = FastSplitter().words(text)
    assert "".join(cut) == "".join(text.split()) or "".join(cut) == "".join(
        sign for sign in text if not sign.isspace() or sign in "\x1c\x1d\x1e\x1f"
    )
    assert len(cut) >= len([chunk for chunk in text.split() if chunk])
    assert Statistics(text, FastSplitter()).fewest_words <= len(cut)


@settings(deadline=None)
@given(st.text() | st.text("ab. !?\"')。 \n"))
def test_sentences_leave_nothing_out(text: str) -> None:
    sentences = FastSplitter().sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(one == one.strip() != "" for one in sentences)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("don’t can't it's we'll", ["don", "’t", "can", "'t", "it", "'s", "we", "'ll"]),
        ("3.14 1,000 2020-01-02", ["3.14", "1,000", "2020", "-", "01", "-", "02"]),
        ("see http://a.b/c?d=e-f, (x_y)", ["see", "http://a.b/c?d=e-f", ",", "(", "x_y", ")"]),
        ("Wait... -- no_", ["Wait", "...", "--", "no", "_"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("你好世界啊 ภาษาไทย", ["你好", "世界", "啊", "ภาษา", "ไทย"]),
        ("Größe naïve", ["Größe", "naïve"]),
        ("", []),
    ],
)
def test_words_of_many_scripts(text: str, expected: list[str]) -> None:
    assert FastSplitter().words(text) == expected


def test_sentences_of_abbreviations_and_wide_signs() -> None:
    cut = FastSplitter()
    assert cut.sentences("Mr. Smith met Dr. J. Jones. They left, e.g. by bus! 3.5 km.") == [
        "Mr. Smith met Dr. J. Jones.",
        "They left, e.g. by bus!",
        "3.5 km.",
    ]
    assert cut.sentences("你好。世界！") == ["你好。", "世界！"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "", "c c"]), max_size=30))
def test_repeats(parts: list[str]) -> None:
    later = [part for index, part in enumerate(parts) if part in parts[:index]]
    assert repeats(parts) == (len(later), sum(map(len, later)))


def test_a_language_that_spacy_does_not_know() -> None:
    pytest.importorskip("spacy")
    with pytest.raises(ResourceError, match="cannot split 'qq'"):
        splitter("spacy", "qq")
