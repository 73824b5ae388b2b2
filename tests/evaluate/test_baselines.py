"""Simple means beside models: n-grams, TF-IDF, and the scores, against libraries and against loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.errors import DataError
from ingot.evaluate.answers import BehindQuestion, exact, normal, overlap
from ingot.evaluate.baselines import ngram_bits_per_byte
from ingot.evaluate.classification import by_class, things, things_f1
from ingot.evaluate.scores import Score, mcnemar
from ingot.evaluate.tf_idf import TextClassifier, TfIdf, logistic
from ingot.models import ngram_counts

WORDS = ("good", "bad", "film", "a", "the", "was", "not", "very", "!")


class Letters:
    """A tokenizer of lower-case letters; everything else is one token."""

    bos_id = 0

    def encode(self, text: str) -> list[int]:
        return [1 + (ord(sign) - 97) % 27 for sign in text]


def sentences(count: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, size=random.integers(2, 9))) for _ in range(count)]


def test_ngram_bits_are_those_of_the_models_own_chances() -> None:
    train, heldout = ["abcabcabd" * 9, "bcdbcd" * 5], ["abcd", "dcba", "zz"]
    found = ngram_bits_per_byte(train, heldout, Letters(), 28, order=3)
    model = ngram_counts.train([Letters().encode(text) for text in train], 28, 0, 3)
    bits = 0.0
    for text in heldout:
        tokens = [0, *Letters().encode(text)]
        for place in range(1, len(tokens)):
            bits -= math.log2(model.distribution(tokens[:place])[tokens[place]])
    assert found.bits_per_byte == pytest.approx(bits / 10, abs=1e-9)
    assert found.nats.sum() == pytest.approx(bits * math.log(2), abs=1e-9)
    assert found.name == "3-gram, Kneser-Ney, 0.0 MB"


def test_bytes_not_characters_divide_the_bits() -> None:
    found = ngram_bits_per_byte(["aé" * 50], ["é" * 4], Letters(), 28, order=2)
    assert found.bits_per_byte == pytest.approx(found.nats.sum() / math.log(2) / 8)


def test_training_text_is_capped_and_read_no_further() -> None:
    def documents() -> Any:
        yield "ab" * 300
        yield "cd" * 300
        raise AssertionError("read further than the cap")

    capped = ngram_bits_per_byte(documents(), ["abab"], Letters(), 28, megabytes=8e-4)
    assert capped.megabytes == pytest.approx(8e-4)
    same = ngram_bits_per_byte(["ab" * 300, "cd" * 100], ["abab"], Letters(), 28)
    assert capped.bits_per_byte == same.bits_per_byte


def test_text_of_the_same_kind_costs_less_than_noise() -> None:
    found = ngram_bits_per_byte(sentences(200), sentences(20, seed=1), Letters(), 28)
    noise = "".join(np.random.default_rng(0).choice(list("abcdefgh"), 400))
    assert found.bits_per_byte < 2 < ngram_bits_per_byte(sentences(200), [noise], Letters(), 28).bits_per_byte


def test_no_text_is_refused() -> None:
    with pytest.raises(DataError, match="no held-out text"):
        ngram_bits_per_byte(["abc"], ["", ""], Letters(), 28)
    with pytest.raises(DataError, match="no training text"):
        ngram_bits_per_byte([], ["abc"], Letters(), 28)


def test_tf_idf_is_scikit_learns() -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text")
    train, asked = sentences(60), [*sentences(20, seed=1), "unseen words only", ""]
    ours = TfIdf(train)
    theirs = text.TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", vocabulary=ours.columns
    ).fit(train)
    assert np.abs(ours.rows(asked).toarray() - theirs.transform(asked).toarray()).max() < 1e-12


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_is_scikit_learns(classes: int) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    texts = sentences(120)
    labels = np.random.default_rng(1).integers(0, classes, len(texts))
    rows = TfIdf(texts).rows(texts)
    ours = logistic(rows, labels, classes, 3.0)
    theirs = linear.LogisticRegression(C=3.0, tol=1e-8, max_iter=2000).fit(rows, labels)
    scores = rows @ ours[:-1] + ours[-1]
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    if classes > 2:  # of two classes they weigh one vector of differences, which is another penalty
        assert np.abs(chances - theirs.predict_proba(rows)).max() < 5e-3
    assert (scores.argmax(1) == theirs.predict(rows)).mean() > 0.97


def test_the_classifier_finds_words_that_say_the_class() -> None:
    texts = sentences(300)
    labels = ["up" if "good" in text else "down" for text in texts]
    asked = sentences(80, seed=5)
    found = TextClassifier.train(texts, labels).classify(asked)
    right = ["up" if "good" in text else "down" for text in asked]
    assert np.mean([a == b for a, b in zip(found, right, strict=True)]) > 0.95
    assert TextClassifier.train(["x", "x"], ["a", "b"]).classify(["x"])[0] in ("a", "b")


@settings(max_examples=50, deadline=None)
@given(pairs=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1))
def test_figures_by_class_are_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    right, said = [one for one, _ in pairs], [other for _, other in pairs]
    found = by_class(right, said)
    names = sorted(set(right))
    expected = metrics.precision_recall_fscore_support(right, said, labels=names, zero_division=0)
    for name, *figures in zip(names, *expected, strict=True):
        ours = found["classes"][name]
        assert [ours[key] for key in ("precision", "recall", "f1", "count")] == pytest.approx(figures)
    assert found["macro_f1"] == pytest.approx(expected[2].mean())


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-A I-A O", {(1, 3, "A")}),
        ("B-A B-A I-B", {(0, 1, "A"), (1, 2, "A"), (2, 3, "B")}),
        ("I-A I-A", {(0, 2, "A")}),
        ("B-A O I-A", {(0, 1, "A"), (2, 3, "A")}),
        ("NOUN VERB O", {(0, 1, "NOUN"), (1, 2, "VERB")}),
        ("B-A NOUN I-A", {(0, 1, "A"), (1, 2, "NOUN"), (2, 3, "A")}),
        ("O O", set()),
    ],
)
def test_what_tags_spell_out(tags: str, expected: set[Any]) -> None:
    assert things(tags.split()) == expected
    found = things_f1([tags.split()], [tags.split()])
    assert found["f1"] == (1.0 if expected else 0.0)


def test_a_thing_counts_only_when_it_is_whole() -> None:
    right, said = [["B-A", "I-A", "O", "B-B"]], [["B-A", "O", "O", "B-B"]]
    assert things_f1(right, said) == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "count": 2}


def test_a_score_has_the_doubt_of_its_kind() -> None:
    ours, theirs = [1] * 80 + [0] * 20, [1] * 60 + [0] * 40
    score = Score("accuracy", ours, baselines={"other": theirs})
    found = score.plain()
    assert found["value"] == 0.8 and found["examples"] == 100
    assert found["interval"] == pytest.approx((0.711, 0.867), abs=1e-3)  # Wilson's
    other = found["baselines"]["other"]
    assert other["difference"] == pytest.approx(0.2) and other["excludes_zero"]
    assert other["mcnemar_p"] == pytest.approx(2 * 0.5**20)
    assert "other 0.600 (better)" in score.words()
    assert "(worse)" in Score("accuracy", theirs, baselines={"other": ours}).words()
    assert "(within the noise)" in Score("accuracy", ours, baselines={"other": ours}).words()


def test_a_ratio_counts_long_items_more() -> None:
    score = Score("tags", [9, 0], counts=[9, 1], baselines={"none": [0, 0]})
    assert score.value == 0.9
    low, high = score.interval()
    assert (low, high) == (0.0, 1.0)  # of two items
    assert "mcnemar_p" not in score.plain()["baselines"]["none"]


def test_many_items_are_drawn_in_blocks() -> None:
    random = np.random.default_rng(0)
    right = random.integers(0, 5, 6000)
    score = Score("tags", right, counts=np.full(6000, 4))
    deviation = right.std() / 4 / math.sqrt(6000)
    low, high = score.interval()
    assert (high - low) == pytest.approx(2 * 1.96 * deviation, rel=0.1)
    assert (low + high) / 2 == pytest.approx(score.value, abs=deviation)


def brute_mcnemar(one: Sequence[int], two: Sequence[int]) -> float:
    won = sum(a > b for a, b in zip(one, two, strict=True))
    lost = sum(b > a for a, b in zip(one, two, strict=True))
    n = won + lost
    chances = [math.comb(n, k) / 2**n for k in range(n + 1)]
    return min(1.0, sum(p for p in chances if p <= chances[won] * (1 + 1e-9)))


@settings(max_examples=50, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_mcnemars_test_is_the_coins(pairs: list[tuple[int, int]]) -> None:
    one, two = [a for a, _ in pairs], [b for _, b in pairs]
    assert mcnemar(np.array(one), np.array(two)) == pytest.approx(brute_mcnemar(one, two))


def test_answers_are_compared_as_squad_does() -> None:
    assert exact("The Eiffel Tower!", "eiffel tower") == 1
    assert overlap("in the garden", "garden") == pytest.approx(2 / 3)
    assert overlap("", "") == 1 and overlap("a", "x") == 0
    assert normal("()") == ["()"] and exact("()", "[]") == 0


def test_words_behind_the_questions() -> None:
    simple = BehindQuestion(["3", "None", "x y"])
    code = "def read(path, limit=3, mode=None): pass"
    assert simple.answer("What is the default of limit in read?", code) == "3"
    assert simple.answer("?", "") == ""


def test_a_folder_is_measured_beside_n_grams_of_its_training_text(tmp_path: Path) -> None:
    from ingot.evaluate.folder import evaluate_folder
    from ingot.models import huggingface
    from ingot.models.decoder import DecoderConfig
    from ingot.tokenizer.tokenizer import Tokenizer

    train, heldout = sentences(40), sentences(4, seed=3)
    tokenizer = Tokenizer.train(train, 300)
    sizes = {"width": 32, "layers": 1, "heads": 1, "kv_heads": 1, "head_width": 32, "feed_forward": 32}
    model = DecoderConfig(vocabulary=tokenizer.vocab_size, context=16, **sizes).build()
    huggingface.save(tmp_path, model)
    tokenizer.save(tmp_path)
    found = evaluate_folder(tmp_path, heldout, train=iter(train))
    expected = ngram_bits_per_byte(train, heldout, tokenizer, tokenizer.vocab_size)
    assert found["ngram"] == expected.plain()
    assert found["ngram"]["bits_per_byte"] < found["bits_per_byte"]  # the network has learnt nothing
    assert evaluate_folder(tmp_path, heldout)["ngram"] is None
