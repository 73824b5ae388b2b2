"""The merge loop, and what ranks and merge lists say, against plain definitions on every short text."""

from __future__ import annotations

import itertools
import random

import pytest

from ingot.tokenizer.borders import Borders
from ingot.tokenizer.loop import merge
from ingot.tokenizer.ranks import Merge, by_rank, merges_of

TEXTS = ["".join(letters) for size in range(1, 8) for letters in itertools.product("abc", repeat=size)]
Table = dict[tuple[int, int], tuple[int, int]]


def by_list(text: str, pairs: list[tuple[str, str]]) -> list[str]:
    """The definition: of all neighbours in the list, the first in it, leftmost first."""
    parts = list(text)
    while True:
        found = [(pairs.index(pair), i) for i, pair in enumerate(itertools.pairwise(parts)) if pair in pairs]
        if not found:
            return parts
        place = min(found)[1]
        parts[place : place + 2] = ["".join(parts[place : place + 2])]


def by_ranks(text: str, ranks: dict[str, int]) -> list[str]:
    """tiktoken's definition: of all neighbours that together are a token, the lowest rank, leftmost first."""
    parts = list(text)
    while True:
        joined = [left + right for left, right in itertools.pairwise(parts)]
        found = [(ranks[text], place) for place, text in enumerate(joined) if text in ranks]
        if not found:
            return parts
        place = min(found)[1]
        parts[place : place + 2] = [joined[place]]


def random_list(seed: int) -> list[tuple[str, str]]:
    """Merges of a, b, c; every third time in no particular order."""
    source = random.Random(seed)
    names, pairs = ["a", "b", "c"], []
    for _ in range(source.randint(1, 8)):
        pair = source.choice(names), source.choice(names)
        if pair not in pairs and len("".join(pair)) < 7:
            pairs.append(pair)
            names += [name for name in ["".join(pair)] if name not in names]
    if seed % 3 == 0:
        source.shuffle(pairs)
    return pairs


def numbered(pairs: list[tuple[str, str]]) -> tuple[list[str], list[Merge]]:
    names = list(dict.fromkeys(["a", "b", "c", *("".join(pair) for pair in pairs)]))
    ids = {name: token for token, name in enumerate(names)}
    return names, [(ids[left], ids[right], ids[left + right]) for left, right in pairs]


@pytest.mark.parametrize("seeds", [range(0, 60), range(60, 120)])
def test_the_loop_and_ranks_encode_as_the_list_says(seeds: range) -> None:
    said = 0
    for seed in seeds:
        pairs = random_list(seed)
        names, merges = numbered(pairs)
        table: Table = {(left, right): (rank, token) for rank, (left, right, token) in enumerate(merges)}
        order = by_rank(merges, [0, 1, 2])
        said += order is not None
        ranks = {names[token]: rank for rank, token in enumerate(order or ())}
        for text in random.Random(seed).sample(TEXTS, 400):
            expected = by_list(text, pairs)
            assert [names[token] for token in merge(["abc".index(c) for c in text], table)] == expected
            assert order is None or by_ranks(text, ranks) == expected
    assert len(seeds) / 2 < said < len(seeds)


def test_the_list_of_any_ranks_encodes_as_the_ranks_say() -> None:
    for seed in range(120):
        source = random.Random(seed)
        made = ("".join(source.choices("abc", k=source.randint(2, 5))) for _ in range(source.randint(1, 9)))
        ranks = {name: rank for rank, name in enumerate(dict.fromkeys(["a", "b", "c", *made]))}
        names = list(ranks)
        table: Table = {(left, right): (token, token) for left, right, token in merges_of(ranks)}
        for text in source.sample(TEXTS, 400):
            found = [names[token] for token in merge([ranks[c] for c in text], table)]
            assert found == by_ranks(text, {name: rank for name, rank in ranks.items() if rank > 2})


def test_the_list_of_a_trained_vocabulary_is_what_was_trained() -> None:
    from ingot.tokenizer import Tokenizer

    tokenizer = Tokenizer.train(["low lower lowest slow slower aaaa aaaaaa banana bananas " * 20], 320)
    size = 256 + len(tokenizer.merges)
    ranks = {tokenizer.token_bytes(token): token for token in range(size)}
    assert [(left, right) for left, right, _ in merges_of(ranks)] == tokenizer.merges


def test_cutting_at_borders_changes_nothing() -> None:
    for seed in range(60):
        pairs = random_list(seed)
        names, merges = numbered(pairs)
        table: Table = {(left, right): (rank, token) for rank, (left, right, token) in enumerate(merges)}
        borders = Borders(names)
        for text in random.Random(seed).sample(TEXTS, 100):
            parts = borders.cut(text)
            assert "".join(parts) == text
            apart = [token for part in parts for token in merge(["abc".index(c) for c in part], table)]
            assert apart == merge(["abc".index(c) for c in text], table)


def test_long_texts_take_no_longer_than_their_length_asks() -> None:
    """A quadratic loop would need hours for this."""
    table: Table = {(0, 0): (0, 1), (1, 1): (1, 2), (2, 2): (2, 3)}
    assert merge([0] * 200_000, table) == [3] * 25_000
