"""WordPiece against `tokenizers`: the same ids with the same vocabulary, the same vocabulary where no two
pairs are equally frequent."""

from __future__ import annotations

import inspect
import itertools
import random
from collections import Counter
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer, models, pre_tokenizers, trainers

from ingot.errors import ArtifactError, ConfigError
from ingot.tokenizer import wordpiece
from ingot.tokenizer.split import WORDS, Splitter, count_pieces
from ingot.tokenizer.wordpiece import SPECIALS, WordPiece


def words() -> dict[str, int]:
    folder = Path(inspect.__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("[a-c]*.py"))]
    return count_pieces(texts, Splitter(WORDS))


@pytest.fixture(scope="module")
def tokens() -> list[str]:
    return wordpiece.train(words(), 2000)


def test_ten_thousand_words_encode_as_in_the_reference_library(tokens: list[str]) -> None:
    ours = WordPiece(tokens)
    theirs = tokenizers.Tokenizer(
        models.WordPiece({text: token for token, text in enumerate(tokens)}, unk_token="[UNK]")
    )
    source = random.Random(0)
    parts = [text.removeprefix("##") for text in tokens[len(SPECIALS) :]] + ["日", "é\u0301", "👍🏽", "##"]
    texts = ["".join(source.choices(parts, k=source.randint(1, 6))) for _ in range(10_000)]
    texts += ["a" * 99, "a" * 100, "a" * 101, "[UNK]", "##ing", "ing##"]
    for text, expected in zip(texts, theirs.encode_batch(texts), strict=True):
        assert ours.encode_word(text) == expected.ids, repr(text)
    assert ours.encode_word("") == []


def test_whole_texts_encode_as_berts_tokenizer(tokens: list[str]) -> None:
    ours = WordPiece(tokens)
    vocabulary = {text: token for token, text in enumerate(tokens)}
    theirs = BertWordPieceTokenizer(
        vocabulary, lowercase=False, strip_accents=False, handle_chinese_chars=False
    )
    text = inspect.getsource(inspect)
    ids = [token for word in Splitter(WORDS).split(text) for token in ours.encode_word(word)]
    assert ids == theirs.encode(text, add_special_tokens=False).ids


def test_the_vocabulary_is_that_of_the_reference_trainer() -> None:
    """Counts are random, so that no two pairs are equally frequent for long: the library's order of those
    is not defined."""
    source = random.Random(4)
    counted = {
        "".join(source.choices("abcdef", k=source.randint(2, 7))): source.randint(20, 900) for _ in range(60)
    }
    size = 60
    ours = wordpiece.train(counted, size)
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=list(SPECIALS), show_progress=False)
    tokenizer.train_from_iterator((f"{word} " * count for word, count in counted.items()), trainer)
    assert set(ours) == set(tokenizer.get_vocab())
    assert len(ours) == size


def plain(counted: dict[str, int], alphabet: list[str], merges: int) -> list[str]:
    """The definition: count all pairs of parts, join the most frequent, again."""
    cut = [(["##" * (i > 0) + c for i, c in enumerate(word)], count) for word, count in counted.items()]
    ids = {text: token for token, text in enumerate(alphabet)}
    for _ in range(merges):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in cut:
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], ids[pair[0]], ids[pair[1]]), default=None)
        if best is None or pairs[best] < 2:
            break
        joined = best[0] + best[1].removeprefix("##")
        ids[joined] = len(ids)
        for word, _ in cut:
            position = 0
            while position < len(word) - 1:
                if (word[position], word[position + 1]) == best:
                    word[position : position + 2] = [joined]
                position += 1
    return list(ids)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=8), st.integers(1, 5), max_size=8), st.integers(0, 20)
)
def test_training_follows_the_definition(counted: dict[str, int], merges: int) -> None:
    alphabet = sorted({c for word in counted for c in word})
    alphabet += ["##" + c for c in sorted({c for word in counted for c in word[1:]})]
    ours = wordpiece.train(counted, len(alphabet) + merges, specials=())
    assert ours == plain(counted, alphabet, merges)


def test_every_trained_word_is_known(tokens: list[str]) -> None:
    ours = WordPiece(tokens)
    assert len(tokens) == len(set(tokens)) == 2000
    assert tokens[:5] == list(SPECIALS)
    for word in words():
        ids = ours.encode_word(word)
        assert "".join(tokens[token].removeprefix("##") for token in ids) == word or len(word) > 100


def test_characters_outside_the_alphabet_part_words() -> None:
    trained = wordpiece.train({"aéb": 9, "ab": 5}, 100, specials=("[UNK]",), limit_alphabet=2)
    assert trained == ["[UNK]", "a", "b", "##b", "ab"]
    assert WordPiece(trained).encode_word("aéb") == [0]


def test_bad_vocabularies_are_named() -> None:
    with pytest.raises(ArtifactError, match=r"no token '\[UNK\]'"):
        WordPiece(["a"])
    with pytest.raises(ArtifactError, match="'a' occurs twice"):
        WordPiece(["[UNK]", "a", "a"])
    with pytest.raises(ConfigError, match="6 entries are fewer than the 10"):
        wordpiece.train({"abc": 2}, 6)
