"""Surgery: what stays, what goes, and that a text still comes back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from fuzzing import corpus, strings
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import LAYOUTS

from ingot.errors import ConfigError
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.surgery import Changed, extend, grow, prune, unite
from ingot.tokenizer.training import TokenizerConfig

ENGLISH = "The quick brown fox jumps over the lazy dog, and then the dog jumps over the fox again. " * 30
RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю, а потом съешь ещё булок. " * 30


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    return Tokenizer.train([ENGLISH, corpus()[1]], 500)


def trained(kind: Any) -> Tokenizer:
    texts = [ENGLISH, *corpus()]
    return Tokenizer.train(texts, 900, config=TokenizerConfig(kind=kind, workers=1))


def kept_ids(old: Tokenizer, changed: Changed) -> None:
    """Every id that was kept names the same token, and the map says which were not."""
    new = changed.tokenizer
    assert len(changed.ids) == old.vocab_size
    for token, moved in enumerate(changed.ids.tolist()):
        if moved >= 0:
            assert new.token(moved) == old.token(token)
    kept = changed.ids[changed.ids >= 0]
    assert len(np.unique(kept)) == len(kept)


def same_elsewhere(tokenizer: Tokenizer, folder: Path) -> None:
    """The library reads the same from the file."""
    tokenizer.save(folder)
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in [ENGLISH[:500], RUSSIAN[:500], *strings(300, seed=9)]:
        if tokenizer.byte_level:
            assert theirs.encode(text, add_special_tokens=False).ids == tokenizer.encode(text)
    assert [theirs.id_to_token(token) for token in range(tokenizer.vocab_size)] == tokenizer.parts.names()


def test_words_become_one_token_and_old_ids_stay(plain: Tokenizer, tmp_path: Path) -> None:
    words = [" zebra", " Größe", "булок", "日本語"]
    changed = extend(plain, words, controls=["<|tool|>", "<|image|>"])
    new = changed.tokenizer
    kept_ids(plain, changed)
    assert (changed.ids == np.arange(plain.vocab_size)).all()
    for word in words:
        assert len(new.encode(word)) == 1 and new.decode(new.encode(word)) == word
        assert new.encode(word)[0] >= plain.vocab_size
    assert new.special["<|image|>"] == new.vocab_size - 1
    assert new.bos_id == plain.bos_id
    assert new.encode("a<|tool|>b") != new.encode("a<|tool|>b", specials="parse")
    assert new.compiled
    assert new.encode(ENGLISH) == plain.encode(ENGLISH)
    same_elsewhere(new, tmp_path)
    assert Tokenizer.load(tmp_path).encode(" zebra Größe") == new.encode(" zebra Größe")


def test_a_word_that_is_there_costs_nothing(plain: Tokenizer) -> None:
    word = max((plain.token_bytes(token) for token in range(plain.vocab_size)), key=len).decode()
    assert extend(plain, [word]).tokenizer.vocab_size == plain.vocab_size


@pytest.mark.parametrize(
    ("words", "controls", "message"),
    [
        (["two words"], [], "is cut into"),
        ([], ["<|pad|>"], "is empty or taken"),
        ([], ["<|a|>", "<|a|>"], "taken"),
    ],
)
def test_what_cannot_be_added_is_said(
    plain: Tokenizer, words: list[str], controls: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        extend(plain, words, controls)


@pytest.mark.parametrize("kind", ["wordpiece", "characters"])
def test_other_kinds_take_words_too(kind: str, tmp_path: Path) -> None:
    old = trained(kind)
    word = {"wordpiece": "zebrafish", "characters": "zebrafish"}[kind]
    changed = extend(old, [word])
    kept_ids(old, changed)
    assert len(changed.tokenizer.encode(word)) == 1
    same_elsewhere(changed.tokenizer, tmp_path)


def test_growing_shortens_another_language_and_keeps_the_first(plain: Tokenizer, tmp_path: Path) -> None:
    changed = grow(plain, [RUSSIAN], entries=120)
    new = changed.tokenizer
    kept_ids(plain, changed)
    assert new.vocab_size == plain.vocab_size + 120 or new.vocab_size > plain.vocab_size
    assert len(new.encode(RUSSIAN)) < len(plain.encode(RUSSIAN)) / 3
    assert new.encode("The quick brown fox") == plain.encode("The quick brown fox")
    assert new.compiled
    same_elsewhere(new, tmp_path)
    with pytest.raises(ConfigError, match="only BPE"):
        grow(trained("wordpiece"), [RUSSIAN], 10)


def test_growing_on_the_same_text_is_training_on(plain: Tokenizer) -> None:
    """Learned in two halves, the merges are those of one training."""
    text = corpus()[1]
    half, whole = Tokenizer.train([text], 300), Tokenizer.train([text], 360)
    changed = grow(half, [text], entries=60).tokenizer
    names = [changed.token_bytes(token) for token in range(half.vocab_size, changed.vocab_size)]
    assert names == [whole.token_bytes(token) for token in range(296, 356)]


@pytest.mark.parametrize("least", [1, 5])
def test_pruning_drops_what_is_rare_and_closes_the_merges(
    plain: Tokenizer, least: int, tmp_path: Path
) -> None:
    changed = prune(plain, [ENGLISH], least)
    new = changed.tokenizer
    kept_ids(plain, changed)
    assert 256 + 4 < new.vocab_size < plain.vocab_size
    if least == 1:
        assert [changed.ids[token] for token in plain.encode(ENGLISH)] == new.encode(ENGLISH)
    used = Counter(plain.encode(ENGLISH))
    parts = {part for left, right in new.merges for part in (left, right)}
    made = set(range(256, new.vocab_size - 4))
    common = {int(changed.ids[token]) for token, count in used.items() if count >= least}
    assert made <= parts | common  # nothing stays that is neither used nor needed
    assert common <= set(range(new.vocab_size))
    assert new.special.keys() == plain.special.keys()
    same_elsewhere(new, tmp_path)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "characters"])
def test_pruning_keeps_what_used_tokens_encode(kind: str, tmp_path: Path) -> None:
    old = trained(kind)
    changed = prune(old, [ENGLISH])
    kept_ids(old, changed)
    new = changed.tokenizer
    assert new.vocab_size < old.vocab_size
    assert [changed.ids[token] for token in old.encode(ENGLISH)] == new.encode(ENGLISH)
    assert new.role_id("unk") == changed.ids[old.role_id("unk")]
    assert new.wrap([]) == [changed.ids[token] for token in old.wrap([])]
    same_elsewhere(new, tmp_path)


def test_pruning_a_published_layout_moves_its_template(tmp_path: Path) -> None:
    LAYOUTS["llama3"]().save(str(tmp_path / "tokenizer.json"))
    old = Tokenizer.load(tmp_path)
    changed = prune(old, [ENGLISH])
    assert changed.tokenizer.wrap([]) == [changed.ids[token] for token in old.wrap([])]
    assert changed.tokenizer.vocab_size < old.vocab_size


def test_two_tokenizers_become_one(plain: Tokenizer, tmp_path: Path) -> None:
    other = Tokenizer.train([RUSSIAN, ENGLISH[:90]], 420)
    merged = unite(plain, other)
    new = merged.tokenizer
    kept_ids(plain, Changed(new, merged.first_ids))
    kept_ids(other, Changed(new, merged.second_ids))
    assert (merged.first_ids == np.arange(plain.vocab_size)).all()
    assert new.vocab_size == len(set(plain.parts.names()) | set(other.parts.names()))
    assert len(new.encode(RUSSIAN)) <= 1.05 * len(other.encode(RUSSIAN))
    assert len(new.encode(ENGLISH)) == len(plain.encode(ENGLISH))
    assert new.special == plain.special
    for name in merged.unreachable:
        assert new.parts.model.encode(name) != [new.parts.model.vocabulary[name]]
    same_elsewhere(new, tmp_path)


def test_conflicts_are_named() -> None:
    first = Tokenizer([(65, 66), (64, 256)])  # bc, a+bc
    second = Tokenizer([(64, 65), (256, 66), (67, 68)])  # ab, ab+c, de
    merged = unite(first, second)
    assert merged.conflicts == ("token 'abc' is made of 'a'+'bc' and 'ab'+'c'",)
    assert merged.tokenizer.encode("abc") == first.encode("abc")
    assert len(merged.tokenizer.encode("de")) == 1
    assert merged.unreachable == ()
    with pytest.raises(ConfigError, match="differ in their"):
        unite(first, trained("wordpiece"))


def test_unigram_models_are_united_with_their_scores() -> None:
    config = TokenizerConfig(kind="unigram", specials=(), workers=1, byte_fallback=False)
    first = Tokenizer.train([ENGLISH], 150, config=config)
    second = Tokenizer.train([RUSSIAN], 150, config=config)
    merged = unite(first, second)
    assert merged.tokenizer.decode(merged.tokenizer.encode(RUSSIAN)) == RUSSIAN
    assert merged.tokenizer.encode(RUSSIAN) == [merged.second_ids[t] for t in second.encode(RUSSIAN)]


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(max_size=40),
    words=st.lists(st.text(max_size=8).filter(lambda word: word.strip() == word != ""), max_size=3),
    data=st.binary(max_size=30),
)
def test_every_byte_comes_back_after_any_surgery(
    plain: Tokenizer, text: str, words: list[str], data: bytes
) -> None:
    single = [word for word in words if len(plain.pieces(word)) == 1]
    for one in (
        extend(plain, single, ["<|x|>"]).tokenizer,
        prune(plain, [text]).tokenizer,
        grow(plain, [text * 3], 5).tokenizer,
        unite(plain, Tokenizer.train([text * 3], 300)).tokenizer,
    ):
        assert one.decode(one.encode(text)) == text
        assert one.decode_bytes(one.encode_bytes(data)) == data
        assert one.decode_bytes(one.encode_bytes(text.encode() + data)) == text.encode() + data
