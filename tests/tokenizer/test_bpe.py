"""The trainer against the `tokenizers` library's, and against a plain loop over the definition."""

from __future__ import annotations

import inspect
import itertools
import json
import random
from collections import Counter

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from ingot.tokenizer.bpe import train
from ingot.tokenizer.bytes import BYTE_ORDER, printable, unprintable
from ingot.tokenizer.split import PATTERN, count_pieces, split


def reference_merges(texts: list[str], merges: int) -> list[tuple[bytes, bytes]]:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, to_bytes])
    trainer = trainers.BpeTrainer(
        vocab_size=256 + merges,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    pairs = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(unprintable(left), unprintable(right)) for left, right in pairs]


def our_merges(texts: list[str], merges: int) -> list[tuple[bytes, bytes]]:
    tokens = [bytes([byte]) for byte in BYTE_ORDER]
    pairs = []
    for left, right in train(count_pieces(texts), merges):
        pairs.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    return pairs


def plain_merges(pieces: dict[str, int], merges: int) -> list[tuple[int, int]]:
    """The definition: count all pairs, merge the most frequent one everywhere, again."""
    ids = {byte: token for token, byte in enumerate(BYTE_ORDER)}
    words = [([ids[byte] for byte in piece.encode()], count) for piece, count in pieces.items()]
    learned: list[tuple[int, int]] = []
    while len(learned) < merges:
        counts: Counter[tuple[int, int]] = Counter()
        for word, count in words:
            for pair in itertools.pairwise(word):
                counts[pair] += count
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for word, _ in words:
            position = 0
            while position < len(word) - 1:
                if (word[position], word[position + 1]) == best:
                    word[position : position + 2] = [256 + len(learned)]
                position += 1
        learned.append(best)
    return learned


def code() -> list[str]:
    return [inspect.getsource(module) for module in (random, json, inspect, inspect.ast)]


def test_merges_equal_the_reference_trainers_on_code() -> None:
    texts = code()
    assert our_merges(texts, 1500) == reference_merges(texts, 1500)


@pytest.mark.parametrize("alphabet", ["ab", "aab \n", "né日本👍🏽 ", "01.,;: abc"])
def test_merges_equal_the_reference_trainers_on_random_text(alphabet: str) -> None:
    for seed in range(25):
        source = random.Random(seed)
        texts = ["".join(source.choices(alphabet, k=source.randint(0, 200))) for _ in range(4)]
        assert our_merges(texts, 60) == reference_merges(texts, 60), seed


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text("abcd", max_size=12), st.integers(1, 5), max_size=8), st.integers(0, 30))
def test_merges_follow_the_definition(pieces: dict[str, int], merges: int) -> None:
    assert train(pieces, merges) == plain_merges(pieces, merges)


def test_training_stops_where_nothing_repeats() -> None:
    assert train({"abcdef": 1}, 100) == []
    assert train({}, 100) == []


@given(st.text())
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(split(text)) == text


def test_pieces_are_what_the_pattern_says() -> None:
    pieces = ["I", "'LL", " don", "'t", "\n\n", "\tx", " =", " ", "1", "2", "\n", "   ", " #", " no", "!\n"]
    assert split("I'LL don't\n\n\tx = 12\n    # no!\n") == pieces


@given(st.binary())
def test_printable_bytes_come_back(token: bytes) -> None:
    text = printable(token)
    assert text.isprintable()
    assert unprintable(text) == token


def test_printable_bytes_are_the_reference_alphabet() -> None:
    assert sorted(pre_tokenizers.ByteLevel.alphabet()) == [printable(bytes([b])) for b in BYTE_ORDER]
