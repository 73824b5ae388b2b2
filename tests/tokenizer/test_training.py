"""Training by configuration: every kind, the same files in the library, and settings that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tokenizers
from fuzzing import corpus, strings

from ingot.errors import ConfigError
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.split import PATTERNS
from ingot.tokenizer.training import TokenizerConfig

KINDS = ["bpe", "characters", "unigram", "wordpiece"]


def train(size: int = 900, **settings: Any) -> Tokenizer:
    return Tokenizer.train(corpus(), size, config=TokenizerConfig(workers=1, **settings))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_alike_by_the_library(kind: str, tmp_path: Path) -> None:
    ours = train(kind=kind)
    ours.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    theirs.encode_special_tokens = True
    again = Tokenizer.load(tmp_path)
    assert ours.vocab_size == again.vocab_size == theirs.get_vocab_size() <= 900
    assert again.special == ours.special and again.parts.roles == ours.parts.roles
    settled = [text for text in strings(500, seed=12) if all(ord(c) < 0x600 for c in text)]
    lines = "".join(corpus()[:3]).split("\n")
    for text in [*settled, *lines]:
        ids = ours.encode(text)
        assert again.encode(text) == ids
        if kind != "unigram":  # whose cuts can be ties
            assert theirs.encode(text, add_special_tokens=False).ids == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("kind", ["bpe", "characters", "unigram"])
def test_texts_come_back(kind: str) -> None:
    tokenizer = train(kind=kind)
    for text in [*strings(300, seed=13, names=tuple(tokenizer.special)), *corpus()]:
        marked = kind != "bpe" and "▁" in text
        assert tokenizer.decode(tokenizer.encode(text)) == (text.replace("▁", " ") if marked else text)


def test_the_default_is_what_it_always_was() -> None:
    assert train(700).merges == Tokenizer.train(corpus(), 700).merges
    assert train(700).special == Tokenizer.train(corpus(), 700).special


@pytest.mark.parametrize("split", PATTERNS)
def test_the_split_is_obeyed(split: str) -> None:
    tokenizer = train(700, split=split)
    assert tokenizer.pieces("It's 2025!") is not None
    longest = max(len(tokenizer.token_bytes(token)) for token in tokenizer.encode("12345 67890"))
    assert longest <= {"qwen2": 1, "gpt2": 6, "lines": 12}.get(split, 3)


def test_digits_are_limited_as_asked() -> None:
    text = ["the numbers 1234567 and 12345 " * 50]
    for digits, most in (("1", 1), ("1-2", 2), ("1-3", 3), ("free", 7)):
        config = TokenizerConfig(split="llama3", digits=digits, workers=1)
        tokenizer = Tokenizer.train(text, 330, config=config)
        tokens = map(tokenizer.token_bytes, tokenizer.encode("1234567"))
        assert max(map(len, tokens)) == most


def test_a_normaliser_is_part_of_the_tokenizer(tmp_path: Path) -> None:
    tokenizer = train(normaliser="nfkc")
    assert tokenizer.encode("ﬁne ①") == tokenizer.encode("fine 1")
    tokenizer.save(tmp_path)
    assert Tokenizer.load(tmp_path).encode("ﬁne") == tokenizer.encode("fine")


def test_control_tokens_of_any_name_play_their_parts(tmp_path: Path) -> None:
    names = ("<s>", "</s>", "<pad>", "<mask>", "<think>")
    roles = {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "mask": "<mask>"}
    for settings in ({"specials": names}, {"specials": names, "roles": roles}):
        tokenizer = train(600, **settings)
        tokenizer.save(tmp_path)
        again = Tokenizer.load(tmp_path)
        for one in (tokenizer, again):
            assert [one.role_id(role) for role in roles] == [one.special[name] for name in roles.values()]
        assert list(tokenizer.special) == list(names)
        assert tokenizer.encode("<think>", specials="parse") == [tokenizer.special["<think>"]]
        assert len(tokenizer.encode("<think>")) > 1


def test_longest_and_rarest_are_limited() -> None:
    short = train(700, max_token_length=4)
    ordinary = range(256, short.vocab_size - 4)
    assert max(len(short.token_bytes(token)) for token in ordinary) == 4
    assert train(5000, min_frequency=40).vocab_size < train(5000).vocab_size


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"specials": ["<a>", "<a>"]}, "comes twice"),
        ({"specials": ["<a>"], "roles": {"bos": "<b>"}}, "no control token"),
        ({"kind": "bpee"}, "kind"),
        ({"split": "gpt5"}, "did you mean"),
        ({"split": "(["}, "no regular expression"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TokenizerConfig.parse(settings)


def test_a_vocabulary_without_room_is_refused() -> None:
    with pytest.raises(ConfigError, match="260 entries are too few"):
        train(260)
    with pytest.raises(ConfigError, match=r"too few|fewer than"):
        train(100, kind="wordpiece", alphabet=200)
    with pytest.raises(ConfigError, match="unknown words"):
        train(900, kind="wordpiece", specials=("[PAD]",))
