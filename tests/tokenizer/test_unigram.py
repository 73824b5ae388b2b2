"""Unigram models against `tokenizers`, sentencepiece, and all segmentations written out."""

from __future__ import annotations

import inspect
import io
import itertools
import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from tokenizers import models

from ingot.errors import ArtifactError, ConfigError, DataError
from ingot.tokenizer import seeds, unigram
from ingot.tokenizer.split import Splitter, count_pieces
from ingot.tokenizer.unigram import Unigram

Pieces = list[tuple[str, float]]


def sources(number: int = 12) -> list[str]:
    folder = Path(inspect.__file__).parent
    return [path.read_text(encoding="utf-8") for path in sorted(folder.glob("[a-d]*.py"))][:number]


def words() -> dict[str, int]:
    """The words of some code, blanks as SentencePiece writes them."""
    return {
        piece.replace(" ", "▁"): count for piece, count in count_pieces(sources(), Splitter("gpt2")).items()
    }


@pytest.fixture(scope="module")
def pieces() -> Pieces:
    return [("<unk>", 0.0), *unigram.train(words(), 1500, coverage=0.9999)]


def strings(pieces: Pieces, number: int) -> list[str]:
    """Runs of the model's own pieces, mixed with characters it does not know."""
    source = random.Random(0)
    texts = [text for text, _ in pieces[1:]]
    strange = ["é", "日本", "👍🏽", "\x00", "ß"]
    return [
        "".join(
            source.choice(strange) if source.random() < 0.05 else source.choice(texts)
            for _ in range(source.randint(1, 8))
        )
        for _ in range(number)
    ]


def test_ten_thousand_strings_encode_as_in_the_reference_library(pieces: Pieces) -> None:
    ours = Unigram(pieces)
    theirs = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0))
    texts = strings(pieces, 10_000)
    for text, expected in zip(texts, theirs.encode_batch(texts), strict=True):
        assert ours.encode(text) == expected.ids, repr(text)


def test_bytes_stand_in_for_unknown_characters_as_in_the_reference_library(pieces: Pieces) -> None:
    with_bytes = [*pieces, *((f"<0x{byte:02X}>", 0.0) for byte in range(256))]
    ours = Unigram(with_bytes, byte_fallback=True)
    theirs = tokenizers.Tokenizer(models.Unigram(with_bytes, unk_id=0, byte_fallback=True))
    texts = strings(pieces, 3_000)
    for text, expected in zip(texts, theirs.encode_batch(texts), strict=True):
        assert ours.encode(text) == expected.ids, repr(text)
    assert 0 not in ours.encode("日本語")


def test_names_of_bytes_in_a_text_are_no_bytes(pieces: Pieces) -> None:
    ours = Unigram([*pieces, *((f"<0x{byte:02X}>", 0.0) for byte in range(256))], byte_fallback=True)
    assert len(ours.encode("<0x41>")) > 1


@pytest.fixture(scope="module")
def sentencepiece_model() -> object:
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    lines = [line for text in sources() for line in text.splitlines()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="unigram",
        vocab_size=1500,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def test_ten_thousand_strings_encode_as_in_sentencepiece(sentencepiece_model: object) -> None:
    theirs = sentencepiece_model
    pieces = [(theirs.id_to_piece(i), theirs.get_score(i)) for i in range(theirs.get_piece_size())]  # type: ignore[attr-defined]
    ours = Unigram(pieces, hidden=[1, 2])
    source = random.Random(1)
    lines = [line.strip() for text in sources() for line in text.splitlines() if line.strip()]
    texts = [source.choice(lines)[: source.randint(1, 60)].strip() for _ in range(10_000)]
    different = []
    for text, expected in zip(texts, theirs.encode(texts), strict=True):  # type: ignore[attr-defined]
        marked = "▁" + "▁".join(part for part in text.split(" ") if part)
        if ours.encode(marked) != expected:
            difference = sum(pieces[i][1] for i in ours.encode(marked)) - sum(pieces[i][1] for i in expected)
            different.append(difference)
    assert all(abs(difference) < 1e-4 for difference in different)  # ties, but for 32-bit rounding
    assert len(different) < 30


def test_our_model_of_a_text_is_as_good_as_sentencepieces(sentencepiece_model: object) -> None:
    """Tokens that the training text takes with as many pieces."""
    theirs = sentencepiece_model
    counted: Counter[str] = Counter()
    for text in sources():
        for line in text.splitlines():
            counted.update("▁" + part for part in line.split(" ") if part)
    mine = Unigram([("<unk>", 0.0), *unigram.train(counted, 1497)])
    tokens = sum(len(mine.encode(word)) * count for word, count in counted.items())
    reference = sum(
        len(theirs.encode(word.removeprefix("▁"))) * count  # type: ignore[attr-defined]
        for word, count in counted.items()
    )
    assert tokens < 1.02 * reference


def segmentations(text: str, pieces: dict[str, float]) -> dict[tuple[str, ...], float]:
    """All of them, and their log-probability."""
    if not text:
        return {(): 0.0}
    return {
        (text[:size], *rest): pieces[text[:size]] + score
        for size in range(1, len(text) + 1)
        if text[:size] in pieces
        for rest, score in segmentations(text[size:], pieces).items()
    }


SMALL = {"a": -1.7, "b": -2.1, "ab": -2.9, "ba": -3.3, "aba": -3.9, "bb": -3.6, "abab": -5.2}


def small() -> Unigram:
    return Unigram([("<unk>", 0.0), *SMALL.items()])


@settings(max_examples=200, deadline=None)
@given(st.text("ab", min_size=1, max_size=8), st.integers(1, 50))
def test_the_best_segmentations_are_the_best_of_all(text: str, number: int) -> None:
    model = small()
    every = segmentations(text, SMALL)
    best = model.nbest(text, number)
    assert [score for _, score in best] == pytest.approx(sorted(every.values(), reverse=True)[:number])
    for ids, score in best:
        assert every[tuple(model.pieces[token][0] for token in ids)] == pytest.approx(score)
    assert len({tuple(ids) for ids, _ in best}) == len(best)
    texts = tuple(model.pieces[token][0] for token in model.encode(text))
    assert every[texts] == pytest.approx(max(every.values()))


@pytest.mark.parametrize("alpha", [1.0, 0.3, 0.0])
def test_samples_follow_the_lattices_probabilities(alpha: float) -> None:
    model = small()
    text, draws = "ababab", 20_000
    every = segmentations(text, SMALL)
    weights = {cut: math.exp(alpha * score) for cut, score in every.items()}
    total = sum(weights.values())
    random = np.random.default_rng(3)
    drawn = Counter(
        tuple(model.pieces[token][0] for token in model.sample(text, random, alpha)) for _ in range(draws)
    )
    assert set(drawn) <= set(every)
    rare = [cut for cut in every if weights[cut] / total * draws < 5]
    common = [cut for cut in every if cut not in rare]
    seen = [drawn[cut] for cut in common] + ([sum(drawn[cut] for cut in rare)] if rare else [])
    expected = [weights[cut] for cut in common] + ([sum(weights[cut] for cut in rare)] if rare else [])
    assert chisquare(seen, np.array(expected) / total * draws).pvalue > 0.001


def test_the_same_seed_draws_the_same_and_unknown_characters_take_part(pieces: Pieces) -> None:
    model = Unigram(pieces)
    for text in strings(pieces, 200):
        first, second = (model.sample(text, np.random.default_rng(7), 0.5) for _ in range(2))
        assert first == second
        assert model.sample(text, np.random.default_rng(0), 1e6) == model.encode(text)


def test_candidates_are_the_frequent_substrings() -> None:
    counted = {"abcab": 3, "bca": 1, "xyz": 1, "q": 2, "é\ud800": 2}
    found = seeds.find(counted, 1000, 4, 1.0)
    expected: Counter[str] = Counter()
    for word, count in counted.items():
        clean = word
        for start, end in itertools.combinations(range(len(clean) + 1), 2):
            if end - start <= 4:
                expected[clean[start:end]] += count
    kept = {text: count for text, count in expected.items() if count >= 2 or len(text) == 1}
    assert dict(zip(found.texts, found.frequencies.tolist(), strict=True)) == kept
    assert found.characters == sum(len(text) == 1 for text in kept)


def test_expectations_equal_those_over_all_segmentations() -> None:
    """Counts, losses and likelihood of a lattice, against every segmentation of every word."""
    counted = {"abab": 3, "bba": 2, "a": 4, "cab": 1}
    found = seeds.find(counted, 100, 3, 1.0)
    source = random.Random(2)
    scores = np.array([-1 - 3 * source.random() for _ in found.texts])
    model = dict(zip(found.texts, scores.tolist(), strict=True))
    result = found.lattices.expect(scores)
    counts: Counter[str] = Counter()
    losses: Counter[str] = Counter()
    likelihood = 0.0
    for word, often in counted.items():
        every = {cut: math.exp(score) for cut, score in segmentations(word, model).items()}
        total = sum(every.values())
        likelihood += often * math.log(total)
        places: Counter[tuple[int, str]] = Counter()
        for cut, chance in every.items():
            starts = [0, *itertools.accumulate(len(piece) for piece in cut)]
            for start, piece in zip(starts, cut, strict=False):
                places[start, piece] += chance / total  # type: ignore[assignment]
        for (_, piece), chance in places.items():
            counts[piece] += often * chance  # type: ignore[assignment]
            losses[piece] -= often * math.log(max(1 - chance, 1e-12))  # type: ignore[assignment]
    assert result.log_likelihood == pytest.approx(likelihood)
    assert result.counts == pytest.approx([counts[text] for text in found.texts])
    assert result.losses == pytest.approx([losses[text] for text in found.texts], rel=1e-3)


def test_training_keeps_all_characters_and_normalises(pieces: Pieces) -> None:
    texts = [text for text, _ in pieces[1:]]
    assert len(texts) == len(set(texts)) == 1500
    assert max(map(len, texts)) <= unigram.LONGEST_PIECE
    scores = [score for _, score in pieces[1:]]
    assert scores == sorted(scores, reverse=True)
    assert 0.7 < sum(map(math.exp, scores)) <= 1.0
    every = [("<unk>", 0.0), *unigram.train(words(), 600, coverage=1.0)]
    assert all(0 not in Unigram(every).encode(word) for word in words())


def test_words_of_what_does_not_repeat_give_characters() -> None:
    assert sorted(text for text, _ in unigram.train({"abc": 1}, 50)) == ["a", "b", "c"]
    assert unigram.train({}, 50) == []
    assert unigram.train({"": 3}, 50) == []


def test_given_pieces_count_as_much_as_their_bytes_at_best() -> None:
    pieces = [("<unk>", 0.0), ("a", -1.0), ("b", -1.0), ("ab", -2.5), ("ba", -9.0), ("x", -0.5)]
    assert Unigram(pieces).encode("abab") == [1, 2, 1, 2]
    assert Unigram(pieces, given=[4]).encode("abab") == [1, 4, 2]


def test_bad_models_and_texts_are_named() -> None:
    with pytest.raises(ArtifactError, match="no piece '<0x00>'"):
        Unigram([("a", -1.0)], None, byte_fallback=True)
    with pytest.raises(ArtifactError, match="no piece 7"):
        Unigram([("a", -1.0)], 7)
    with pytest.raises(DataError, match="'b' is no piece"):
        Unigram([("a", -1.0)], None).encode("ab")
    with pytest.raises(ConfigError, match="3 pieces are fewer than the 5 characters"):
        unigram.train({"abcde": 9}, 3, coverage=1.0)
    assert Unigram([("<unk>", 0.0), ("a", -1.0)]).encode("") == []
