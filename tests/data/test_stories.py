"""Synthetic stories: the same ones everywhere, varied, and no plot on both sides of the split."""

from __future__ import annotations

import hashlib
import re
from collections import Counter

import pytest

from ingot.data.clean import clean
from ingot.data.document import Document
from ingot.data.holdout import hold_out
from ingot.data.sources import open_place, read
from ingot.data.stories import stories, story
from ingot.errors import DataError

COUNT = 3000


def digest(texts: list[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def test_the_split_is_pinned() -> None:
    made = list(stories(COUNT))
    train = [one.text for one in made if one.split == "train"]
    heldout = [one.text for one in made if one.split == "heldout"]
    assert (len(train), len(heldout)) == (2705, 295)
    assert digest(train) == "cea85f6cdb59afba130386834a2eb2c7b16940acc6dd66af1535e1be2be7869e"
    assert digest(heldout) == "f93aced454f1c3ce0447e17f291c01b90fda4e3f3cd9120b1aa9faa6a2f8aed3"


def test_nothing_held_out_is_trained_on() -> None:
    made = list(stories(COUNT))
    sides = {side: [one for one in made if one.split == side] for side in ("train", "heldout")}
    assert {one.text for one in sides["train"]}.isdisjoint(one.text for one in sides["heldout"])
    assert {one.plot for one in sides["train"]}.isdisjoint(one.plot for one in sides["heldout"])
    assert 0.07 < len(sides["heldout"]) / COUNT < 0.13


def test_a_corpus_of_stories_splits_by_plot_too() -> None:
    (source,) = open_place(f"stories://made?count={COUNT}").sources
    documents = [item for item in read(source) if isinstance(item, Document)]
    assert len(documents) == COUNT
    plots = {one.text: one.plot for one in stories(COUNT)}
    split = hold_out(documents, 0.1)
    trained = {plots[one.text] for one in split.train}
    assert trained.isdisjoint(plots[one.text] for one in split.heldout)


def test_stories_are_varied_and_simple() -> None:
    made = [one.text for one in stories(COUNT)]
    assert len(set(made)) == COUNT
    assert story(7, seed=1) != story(7, seed=2)
    words = Counter(word for text in made for word in re.findall(r"[a-z]+", text.lower()))
    assert 300 < len(words) < 1500
    sizes = [len(text) for text in made]
    assert min(sizes) > 200 and max(sizes) < 1200
    for text in made:
        assert not re.search(r"[{}]|  |\.\.| an? an? ", text), text
        assert clean(text) == text and text.isascii()
    openings = Counter(text[:20] for text in made)
    assert openings.most_common(1)[0][1] < COUNT / 3


def test_places_of_stories() -> None:
    (source,) = open_place("stories@").sources
    first = next(iter(read(source)))
    assert isinstance(first, Document)
    assert (first.id, first.licence) == ("stories:1", "CC0-1.0")
    for wrong in ("stories://made?count=x", "stories://made?count=0", "stories://made?cuont=3"):
        with pytest.raises(DataError, match="stories://made"):
            open_place(wrong)
