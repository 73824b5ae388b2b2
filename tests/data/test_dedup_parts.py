"""Repeated paragraphs and passages, and the compact sets behind them, against brute force."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data.dedup import runs as runs_module
from ingot.data.dedup import substrings as substrings_module
from ingot.data.dedup.cut import Span, cut
from ingot.data.dedup.filter import Filter
from ingot.data.dedup.paragraphs import Paragraphs, ParagraphsConfig
from ingot.data.dedup.runs import Runs
from ingot.data.dedup.substrings import Substrings, SubstringsConfig
from ingot.data.document import Document

NUMBERS = st.lists(st.lists(st.integers(0, 30), max_size=10), max_size=20)


def hashed(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


@given(NUMBERS, st.lists(st.integers(0, 40), max_size=40), st.integers(1, 5))
def test_runs_equal_a_list(added: list[list[int]], asked: list[int], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_module, "_CAPACITY", 1)
        runs, plain = Runs(), Runs()
    entries: list[tuple[int, int]] = []
    for batch in added:
        values = np.arange(len(entries), len(entries) + len(batch), dtype=np.uint64)
        runs.add(hashed(batch), values)
        plain.add(hashed(batch))
        entries += zip(batch, values.tolist(), strict=True)
    places, values = runs.find(hashed(asked), most)
    expected = [
        (place, value)
        for place, one in enumerate(asked)
        for value in [value for key, value in entries if key == one][:most]
    ]
    assert list(zip(places.tolist(), values.tolist(), strict=True)) == expected
    assert plain.contains(hashed(asked)).tolist() == [one in {key for key, _ in entries} for one in asked]
    assert len(plain) == len(entries)
    assert plain.all().tolist() == sorted(hashed([key for key, _ in entries]).tolist())


def test_a_filter_passes_all_that_are_in_and_few_others() -> None:
    rng = np.random.default_rng(0)
    known, others = (rng.integers(0, 2**63, size=20_000).astype(np.uint64) << np.uint64(1) for _ in range(2))
    few = Filter(len(known))
    few.add(known)
    assert len(few.possible(known)) == len(known)
    assert len(few.possible(others)) < 0.02 * len(others)


def document(text: str, id: str = "d") -> Document:
    return Document(id, id, text, "text")


LONG = "All rights reserved. Redistribution is permitted. " * 3


def test_a_paragraph_stays_in_the_first_document() -> None:
    paragraphs = Paragraphs()
    first, none = paragraphs.drop(document(f"One.\n\n{LONG}\n\nEnd.", "a"))
    assert (first.text, none) == (f"One.\n\n{LONG}\n\nEnd.", [])
    second, gone = paragraphs.drop(document(f"Two.\n\n {LONG.replace(' ', chr(10), 1)} \n \nEnd.", "b"))
    assert second.text == "Two.\n\n End."
    assert [one.reason for one in gone] == ["repeated paragraph"]
    assert gone[0].path == "b"
    assert gone[0].text.split() == LONG.split()
    assert gone[0].value is not None and gone[0].value >= 100
    assert gone[0].threshold == 100


def test_short_paragraphs_may_repeat() -> None:
    paragraphs = ParagraphsConfig(min_characters=10).build()
    text = "Intro\n\nlong enough to count\n\nIntro\n\nlong enough to count"
    assert paragraphs.drop(document(text))[0].text == "Intro\n\nlong enough to count\n\nIntro\n\n"


def test_lines_are_paragraphs_on_request() -> None:
    lines = ParagraphsConfig(unit="line", min_characters=5).build()
    assert lines.drop(document("first line\nother line\nfirst line\n"))[0].text == "first line\nother line\n"


@given(st.lists(st.lists(st.sampled_from(["aaaa", "bbbb", "cccc", "d", ""]), max_size=6), max_size=6))
def test_paragraphs_equal_a_set(documents: list[list[str]]) -> None:
    paragraphs = ParagraphsConfig(min_characters=2).build()
    seen: set[str] = set()
    for parts in documents:
        left = []
        for part in parts:
            if part not in seen:
                left.append(part)
            if len(part) >= 2:
                seen.add(part)
        kept = paragraphs.drop(document("\n\n".join(parts)))[0].text
        assert [part for part in kept.split("\n\n") if part] == [part for part in left if part]
    assert len(paragraphs) == len(seen)


def test_paragraphs_go_on_where_they_were_left() -> None:
    before = Paragraphs()
    before.drop(document(LONG))
    after = Paragraphs(seen=before.seen())
    assert after.drop(document(LONG))[0].text == ""


def test_cutting_takes_what_it_says() -> None:
    whole = document("0123456789")
    left, gone = cut(whole, [Span(0, 2), Span(5, 6)], "rule", 1)
    assert left.text == "2346789"
    assert [(one.text, one.value, one.detail) for one in gone] == [
        ("01", 2.0, "characters 0 to 2"),
        ("5", 1.0, "characters 5 to 6"),
    ]
    assert cut(whole, [], "rule", 1) == (whole, [])


def pieces(text: str, spans: list[Span]) -> list[str]:
    """What is left of a text, part by part."""
    edges = [0, *(edge for span in spans for edge in (span.start, span.end)), len(text)]
    return [text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]


def check(texts: list[str], length: int) -> None:
    """Every cut is of passages that stand earlier; what is left holds none of `length` twice."""
    substrings = SubstringsConfig(length=length).build(texts.__getitem__)
    before: set[str] = set()
    for index, text in enumerate(texts):
        spans = substrings.repeated(index, text)
        assert all(a.end < b.start for a, b in pairwise(spans))
        repeated: set[int] = set()
        for start in range(len(text) - length + 1):
            window = text[start : start + length]
            if text.find(window) < start or any(window in other for other in texts[:index]):
                repeated.update(range(start, start + length))
        assert all(repeated.issuperset(range(span.start, span.end)) for span in spans)
        left: set[str] = set()
        for piece in pieces(text, spans):
            windows = [piece[i : i + length] for i in range(len(piece) - length + 1)]
            assert not before.intersection(windows)
            left.update(windows)
        before |= left


@given(st.integers(0, 10_000), st.integers(16, 40))
@settings(max_examples=60, deadline=None)
def test_no_long_passage_is_left_twice(seed: int, length: int) -> None:
    source = random.Random(seed)
    alphabet = source.choice(["ab", "abc d", "abcdefghijklmnop qrstuvwxyz é日"])
    texts: list[str] = []
    for _ in range(6):
        text = "".join(source.choices(alphabet, k=source.randint(0, 200)))
        for _ in range(3):
            donor = source.choice([*texts, text])
            start = source.randrange(len(donor) + 1)
            place = source.randrange(len(text) + 1)
            text = text[:place] + donor[start : start + source.randint(0, 3 * length)] + text[place:]
        texts.append(text)
    check(texts, length)


def test_planted_passages_are_cut_at_word_ends() -> None:
    source = random.Random(0)
    words = ["".join(source.choices("abcdefghij", k=source.randint(2, 9))) for _ in range(3000)]
    shared = " ".join(words[:100])
    first = " ".join(words[100:600]) + " " + shared + " " + words[600]
    second = words[700] + " " + shared + " " + " ".join(words[800:900])
    substrings = SubstringsConfig(length=400).build([first, second].__getitem__)
    assert substrings.drop(0, document(first)) == (document(first), [])
    left, gone = substrings.drop(1, document(second))
    assert [one.text.split() for one in gone] == [words[:100]]
    assert left.text.split() == [words[700], *words[800:900]]
    assert gone[0].reason == "repeated passage"
    assert gone[0].threshold == 400


def test_repeats_inside_one_text_are_cut() -> None:
    passage = "".join(random.Random(1).choices("abcdefgh ", k=300)) + " "
    substrings = SubstringsConfig(length=100).build([].__getitem__)
    assert substrings.repeated(0, passage + passage) == [Span(301, 602)]


def test_rulers_shrink_and_end() -> None:
    """Every place of a ruler repeats every other: the work must not be their product."""
    text = "head " + "=" * 200_000 + " tail"
    substrings = SubstringsConfig(length=100).build([].__getitem__)
    spans = substrings.repeated(0, text)
    left = "".join(pieces(text, spans))
    assert left.startswith("head ==") and left.endswith("= tail")
    assert len(left) < 500


def test_colliding_hashes_cut_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def colliding(values: np.ndarray, width: int) -> np.ndarray:
        return np.zeros(max(0, len(values) - width + 1), dtype=np.uint64)

    monkeypatch.setattr(substrings_module, "windows", colliding)
    source = random.Random(2)
    texts = ["".join(source.choices("abcdefgh ", k=400)) for _ in range(3)]
    substrings = SubstringsConfig(length=50).build(texts.__getitem__)
    assert [substrings.repeated(index, text) for index, text in enumerate(texts)] == [[], [], []]


def test_pieces_and_the_cache_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    source = random.Random(3)
    passage = "".join(source.choices("abcdefgh ", k=500))
    texts = ["".join(source.choices("abcdefgh ", k=700)) + passage[: 100 * i] for i in range(1, 6)]

    def run() -> list[list[Span]]:
        substrings = Substrings(SubstringsConfig(length=64), texts.__getitem__)
        return [substrings.repeated(index, text) for index, text in enumerate(texts)]

    expected = run()
    assert sum(map(len, expected)) >= 4
    monkeypatch.setattr(substrings_module, "PIECE", 70)
    monkeypatch.setattr(substrings_module, "_REMEMBERED", 1)
    assert run() == expected
