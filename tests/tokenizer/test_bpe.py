"""The trainer against the `tokenizers` library's, and against a plain loop over the definition."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from ingot.errors import DataError
from ingot.tokenizer import words
from ingot.tokenizer.alphabet import choose_alphabet
from ingot.tokenizer.bpe import train, train_characters
from ingot.tokenizer.bytes import BYTE_ORDER, printable, unprintable
from ingot.tokenizer.split import PATTERN, count_pieces
from ingot.tokenizer.words import Words


def reference_merges(texts: list[str], merges: int, **options: int) -> list[tuple[bytes, bytes]]:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, to_bytes])
    trainer = trainers.BpeTrainer(
        vocab_size=256 + merges,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        **{"min_frequency": 2, **options},
    )
    tokenizer.train_from_iterator(texts, trainer)
    pairs = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(unprintable(left), unprintable(right)) for left, right in pairs]


def our_merges(texts: list[str], merges: int, **options: int) -> list[tuple[bytes, bytes]]:
    tokens = [bytes([byte]) for byte in BYTE_ORDER]
    pairs = []
    for left, right in train(count_pieces(texts), merges, **options):
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


def sources() -> list[str]:
    """Some of the standard library's code."""
    folder = Path(inspect.__file__).parent
    return [path.read_text(encoding="utf-8") for path in sorted(folder.glob("[a-i]*.py"))]


def code() -> list[str]:
    return sources()[:25]


def english() -> list[str]:
    """Its docstrings."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for text in sources() for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return [text for node in nodes if (text := ast.get_docstring(node))]


def mixed() -> list[str]:
    """Words of many scripts that follow Zipf's law, some without blanks between them."""
    source = random.Random(5)
    scripts = [
        "日月火水木金土人大小中国語文字学生先",
        "あいうえおかきくけこ",
        "한국어말글자",
        "абвгдежзиклмно",
    ]
    scripts += [
        "αβγδεζη",
        "abcdefghijklmn",
        "กขคงจฉช",
        "अआइईउऊक",
        "👍🏽👩\u200d🇩🇪",
        "éèüßñ",
        "0123456789",
        ".,;:!?",
    ]
    words = ["".join(source.choices(source.choice(scripts), k=source.randint(1, 6))) for _ in range(6000)]
    weights = list(itertools.accumulate(1 / (1 + rank) for rank in range(len(words))))
    texts = [source.choices(words, cum_weights=weights, k=60) for _ in range(900)]
    return [source.choice(["", " ", " ", "、"]).join(words) for words in texts]


def tiny() -> list[str]:
    return ["low lower lowest", "slow slow"]


CORPORA = {"code": code, "english": english, "mixed": mixed, "tiny": tiny}


@pytest.mark.parametrize("corpus", CORPORA)
def test_four_thousand_merges_equal_the_reference_trainers(corpus: str) -> None:
    texts = CORPORA[corpus]()
    expected = reference_merges(texts, 4000)
    assert our_merges(texts, 4000) == expected
    assert len(expected) == 4000 or corpus == "tiny"


@pytest.mark.parametrize("options", [{"min_frequency": 7}, {"min_frequency": 1}])
def test_options_mean_what_they_mean_to_the_reference_trainer(options: dict[str, int]) -> None:
    texts = code()[:3]
    expected = reference_merges(texts, 6000, **options)
    assert our_merges(texts, 6000, **options) == expected
    assert len(expected) < 6000 or "min_frequency" not in options or options["min_frequency"] == 1


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


@pytest.mark.parametrize("longest", [2, 5])
def test_no_token_is_longer_than_asked(longest: int) -> None:
    """The library's own limit is one that tokens stay below."""
    texts = code()[:3]
    ours = our_merges(texts, 6000, max_token_length=longest)
    assert ours == reference_merges(texts, 6000, max_token_length=longest + 1)
    assert max(len(left + right) for left, right in ours) == longest


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text("ab", max_size=9), st.integers(1, 5), max_size=6), st.integers(0, 30))
def test_counts_past_32_bits_are_exact(pieces: dict[str, int], merges: int) -> None:
    """Counts that differ by one, near 2**40: fewer bits, or floats, would call them equal or overflow."""
    large = {piece: count + 2**40 for piece, count in pieces.items()}
    assert train(large, merges) == plain_merges(large, merges)


def test_a_total_past_32_bits_is_kept() -> None:
    words = Words(np.array([-1, 3, 4, -1, 3, 4, -1]), np.array([2**33, 2**61]))
    assert words.best() == (2**33 + 2**61, (3, 4))
    assert words.size == 2 * (2**33 + 2**61)
    words.merge((3, 4), 5)
    assert words.size == 2**33 + 2**61


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text("abc", max_size=12), st.integers(1, 5), max_size=8), st.integers(0, 30))
def test_size_is_the_number_of_tokens_that_merging_leaves(pieces: dict[str, int], merges: int) -> None:
    """Any merges will do: here they are fixed before, not chosen."""
    ids = {"a": 0, "b": 1, "c": 2}
    row = [-1]
    for piece in pieces:
        row += [*(ids[character] for character in piece), -1]
    words = Words(np.array(row), np.array(list(pieces.values())))
    plain = [([ids[character] for character in piece], count) for piece, count in pieces.items()]
    source = random.Random(merges)
    for token in range(3, 3 + merges):
        pair = (source.randrange(token), source.randrange(min(token, 4)))
        words.merge(pair, token)
        for word, _ in plain:
            position = 0
            while position < len(word) - 1:
                if (word[position], word[position + 1]) == pair:
                    word[position : position + 2] = [token]
                position += 1
        counts: Counter[tuple[int, int]] = Counter()
        for word, count in plain:
            for neighbours in itertools.pairwise(word):
                counts[neighbours] += count
        assert words.size == sum(len(word) * count for word, count in plain)
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        assert words.best() == (None if best is None else (counts[best], best))


def test_more_symbols_than_positions_can_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_MOST", 9)
    assert train({"aaaaaaa": 2}, 1)  # and two separators
    with pytest.raises(DataError, match="have 10 symbols, more than 9"):
        train({"aaaaaaaa": 2}, 1)


def test_training_stops_where_nothing_repeats() -> None:
    assert train({"abcdef": 1}, 100) == []
    assert train({}, 100) == []


def reference_characters(
    texts: list[str], vocabulary: int, **options: object
) -> tuple[list[str], list[list[str]]]:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated")
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, min_frequency=2, show_progress=False, **options)
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [list(pair) for pair in model["merges"]]


@pytest.mark.parametrize("options", [{}, {"initial_alphabet": ["ж", "a", "世"]}])
def test_merges_of_characters_equal_the_reference_trainers(options: dict[str, object]) -> None:
    texts = mixed()[:300]
    vocabulary, pairs = reference_characters(texts, 1500, **options)
    alphabet = len(choose_alphabet(count_pieces(texts), options.get("initial_alphabet", ())))  # type: ignore[arg-type]
    ours = train_characters(count_pieces(texts), 1500 - alphabet, **options)  # type: ignore[arg-type]
    tokens = ours.tokens()
    assert tokens == vocabulary
    assert [[tokens[left], tokens[right]] for left, right in ours.merges] == pairs


def test_a_limited_alphabet_keeps_the_most_frequent_and_no_token_crosses_the_others() -> None:
    pieces = {"axb": 5, "ab": 4, "bxb": 3, "y": 2, "é": 2}
    trained = train_characters(pieces, 10, limit_alphabet=3)
    assert trained.alphabet == ("a", "b", "x")
    trained = train_characters(pieces, 10, limit_alphabet=2, initial_alphabet="é")
    assert trained.alphabet == ("b", "é")
    trained = train_characters({"axb": 5, "ab": 4, "aab": 1, "zzz": 5}, 10, limit_alphabet=2)
    assert trained.tokens() == ["a", "z", "zz", "zzz"]  # 11 times a, 15 times z, 10 times b


def test_lone_surrogates_do_not_break_training() -> None:
    pieces = {f"a{chr(0xD800)}b": 2, f"a{chr(0xDFFF)}b": 3}
    assert train_characters(pieces, 0).alphabet == ("a", "b", chr(0xD800), chr(0xFFFD))
    assert train({"a\ud800b": 2}, 1) == train({"a?b": 2}, 1)


@given(st.binary())
def test_printable_bytes_come_back(token: bytes) -> None:
    text = printable(token)
    assert text.isprintable()
    assert unprintable(text) == token


def test_printable_bytes_are_the_reference_alphabet() -> None:
    assert sorted(pre_tokenizers.ByteLevel.alphabet()) == [printable(bytes([b])) for b in BYTE_ORDER]
