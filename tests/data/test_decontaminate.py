"""Evaluation items in training text: found where they were planted, and nowhere else."""

from __future__ import annotations

import pickle
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data import decontaminate
from ingot.data.decontaminate import Contamination, Item, Overlap
from ingot.data.dedup.words import Words, normal

QUESTION = "A farmer has 17 sheep, and all but 9 of them run away: how many sheep are left?"
SHORT = "Which planet of ours has the most moons?"  # 8 words
SETS = {
    "sums": [
        Item("What is seven times eight, minus six, plus the number of days in a week?", "57"),
        Item(QUESTION),
    ],
    "facts": [
        Item(SHORT, "Saturn"),
        Item("Who wrote it?", "Anonymous"),
        Item("", "otorhinolaryngological electroencephalography"),
    ],
}
KNOWN = Contamination.of(SETS)


def filler(source: random.Random, count: int) -> str:
    return " ".join("x" + "".join(source.choices("abcdefgh", k=6)) for _ in range(count))


@pytest.mark.parametrize(("set_", "item"), [("sums", 0), ("sums", 1), ("facts", 0), ("facts", 2)])
def test_planted_items_are_found_wherever_they_stand(set_: str, item: int) -> None:
    source = random.Random(item)
    wanted = SETS[set_][item]
    for _ in range(40):
        planted = f"{wanted.prompt} {wanted.answer}"
        planted = source.choice(
            [str.upper, str.lower, lambda t: re.sub(r"[^\w ]", "", t), lambda t: t.replace(" ", "\n -- ")]
        )(planted)
        text = (
            filler(source, source.randint(0, 300))
            + " "
            + planted
            + ". "
            + filler(source, source.randint(0, 300))
        )
        found = KNOWN.find(text)
        assert found is not None
        assert (found.set, found.item, found.share) == (set_, item, 1.0)
        assert found.ngram in " ".join(normal(text, numbers="kept").decode().split())


def test_the_share_says_how_much_of_an_item_was_found() -> None:
    words = [f"w{chr(97 + i)}" for i in range(25)]
    known = Contamination.of({"set": [Item(" ".join(words))]})  # 13 n-grams
    assert known.find("a b " + " ".join(words[:12])) is None
    found = known.find("a b " + " ".join(words[3:18]) + " c")
    assert found == Overlap("set", 0, " ".join(words[3:16]), pytest.approx(3 / 13))


def test_prompt_and_answer_are_one_text() -> None:
    words = [f"w{chr(97 + i)}" for i in range(14)]
    known = Contamination.of({"set": [Item(" ".join(words[:7]), " ".join(words[7:]))]})
    assert known.find(" ".join(words[1:])) is not None
    assert known.find(" ".join(words[2:])) is None


def test_other_numbers_are_another_question() -> None:
    assert KNOWN.find(QUESTION) is not None
    assert KNOWN.find(QUESTION.replace("17", "18").replace("9", "8")) is None


def test_short_items_count_from_a_stated_length_on() -> None:
    def finds(item: Item, text: str) -> bool:
        return Contamination.of({"set": [item]}).find(f"before {text} after") is not None

    assert finds(
        Item("one two three four five six seven eight"), "One, two. Three four five six seven: eight!"
    )
    assert not finds(Item("one two three four five six seven"), "one two three four five six seven")
    assert not finds(Item("a b c d e f g h"), "a b c d e f g h")  # 8 words, but of 15 characters
    assert finds(Item("", "x" * 40), "x" * 40)
    assert not finds(Item("", "x" * 39), "x" * 39)
    assert not finds(Item("東京は日本の首都です"), "東京は日本の首都です")  # ten characters are ten words
    assert not finds(
        Item("one two three four five six seven eight"), "one two three four five six seven nine"
    )


def test_short_items_that_begin_alike_are_told_apart() -> None:
    begin = "one two three four five six seven eight"
    known = Contamination.of({"a": [Item(begin + " nine"), Item(begin + " ten"), Item(begin + " ten more")]})
    found = known.find(begin + " ten")
    assert found is not None and found.item == 1
    assert known.find(begin + " eleven") is None


def test_an_item_at_the_seam_of_two_texts_is_in_neither() -> None:
    words = [f"w{chr(97 + i)}" for i in range(20)]
    known = Contamination.of({"set": [Item(" ".join(words))]})
    texts = [" ".join(words[:10]), " ".join(words[10:]), "", " ".join(words)]
    assert [one is not None for one in known.find_all(texts)] == [False, False, False, True]


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), max_size=30), max_size=6),
    st.lists(st.sampled_from("abcdef"), max_size=40),
)
@settings(max_examples=200)
def test_ngrams_equal_brute_force(items: list[list[str]], text: list[str]) -> None:
    """With n-grams of 4 and one-letter words, so that no short item is long enough."""
    known = Contamination.of({"set": [Item(" ".join(item)) for item in items]}, ngram=4)
    grams = {tuple(item[i : i + 4]) for item in items for i in range(len(item) - 3)}
    expected = any(tuple(text[i : i + 4]) in grams for i in range(len(text) - 3))
    assert (known.find(" ".join(text)) is not None) is expected


@given(st.lists(st.text("ghijklmn é日.,!?\n", max_size=80), max_size=5))
def test_disjoint_texts_raise_no_alarm(texts: list[str]) -> None:
    known = Contamination.of(
        {"set": [Item("abc def " * 10), Item("dead beef fade cafe bead face deed feed")]}
    )
    assert known.find_all(texts) == [None] * len(texts)


def test_batches_and_pieces_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    source = random.Random(5)
    texts = [filler(source, source.randint(0, 200)) for _ in range(30)]
    for index in range(0, 30, 3):
        texts[index] += " " + QUESTION + " " + filler(source, 50)
    expected = [one is not None for one in KNOWN.find_all(texts)]
    assert expected == [index % 3 == 0 for index in range(30)]
    monkeypatch.setattr(decontaminate, "PIECE", 16)
    assert [one is not None for one in KNOWN.find_all(texts)] == expected
    assert [KNOWN.find(text) is not None for text in texts] == expected


def test_colliding_hashes_contaminate_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """If every word had the same hash, the words themselves would still be compared."""
    from ingot.data.dedup import words as module

    real = module._words

    def colliding(data: bytes, offset: int) -> Words:
        found = real(data, offset)
        return found._replace(hashes=np.ones_like(found.hashes))

    monkeypatch.setattr(module, "_words", colliding)
    known = Contamination.of(SETS)
    assert known.find(filler(random.Random(1), 500)) is None
    first = SETS["sums"][0]
    assert known.find(first.prompt + " " + first.answer) is not None


def test_it_travels_to_worker_processes() -> None:
    again = pickle.loads(pickle.dumps(KNOWN))
    assert again.find(QUESTION) == KNOWN.find(QUESTION) != None  # noqa: E711
    assert len(again) == len(KNOWN) > 10


@pytest.mark.parametrize(
    "sets", [{}, {"empty": []}, {"bare": [Item("", "")]}, {"signs": [Item("?!", "...")]}]
)
def test_sets_without_words_contaminate_nothing(sets: dict[str, list[Item]]) -> None:
    known = Contamination.of(sets)
    assert len(known) == 0
    assert known.find_all(["some text", "", "?! ..."]) == [None, None, None]
    assert known.find_all([]) == []
