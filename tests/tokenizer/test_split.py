"""Splits against `tokenizers` and tiktoken, which read the same patterns with engines of their own."""

from __future__ import annotations

import pickle
import random

import pytest
import regex
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from ingot.errors import ConfigError
from ingot.tokenizer.split import PATTERN, PATTERNS, WORDS, Splitter, count_pieces, split, with_digits

HARD = " \t\n\r\x00\x0b\x1c\x85\xa0\u200b\u200d\u2028\u3000'sStTlLvVeEdDmMabzABZéÉßſǅ0123９²Ⅷ_.,;:!?/()+$€"
HARD += "\u0301\u20e3日本々〇ぁんァヴー・゛\u3040\u3099한글ไทยहिन्दी👩🏽🇩🇪\U000e0041ﷺ"
CASES = [
    "I'LL don't\n\n\tx = 12\n    # no!\n",
    "  12  日本 語・x\n\n  \n x",
    "a1b22c333d4444 5",
    "x\u3040\u3040あ\x00\x00a",
]
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
]


def theirs(patterns: list[str], text: str) -> list[str]:
    """The pieces that `tokenizers` makes by one cut after another."""
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return [piece for piece, _ in pre_tokenizers.Sequence(cuts).pre_tokenize_str(text)]


def random_texts(number: int) -> list[str]:
    source = random.Random(0)
    return CASES + ["".join(source.choices(HARD, k=source.randint(1, 40))) for _ in range(number)]


@pytest.mark.parametrize("name", [name for name in PATTERNS if name != "deepseek3"])
def test_named_splits_are_those_of_the_reference_library(name: str) -> None:
    for text in random_texts(2_000):
        assert Splitter(name).split(text) == theirs([PATTERNS[name]], text), repr(text)


def test_the_three_cuts_of_deepseek_are_one_pattern() -> None:
    for text in random_texts(6_000):
        assert Splitter("deepseek3").split(text) == theirs(DEEPSEEK, text), repr(text)


@pytest.mark.parametrize(
    ("name", "maker"), [("gpt2", "gpt2"), ("cl100k", "cl100k_base"), ("o200k", "o200k_base")]
)
def test_published_splits_equal_tiktokens_own_patterns(
    monkeypatch: pytest.MonkeyPatch, name: str, maker: str
) -> None:
    public = pytest.importorskip("tiktoken_ext.openai_public")
    for loader in ("load_tiktoken_bpe", "data_gym_to_mergeable_bpe_ranks"):
        monkeypatch.setattr(public, loader, lambda *_, **__: {})
    compiled = regex.compile(getattr(public, maker)()["pat_str"].replace("$", r"\Z"))
    for text in random_texts(2_000):
        assert Splitter(name).split(text) == compiled.findall(text), repr(text)


@pytest.mark.parametrize("name", list(PATTERNS))
def test_tiktoken_cuts_by_our_patterns_as_we_do(name: str) -> None:
    """A vocabulary that holds every piece as one token shows where tiktoken cuts."""
    texts = random_texts(300)
    pieces = {piece.encode() for text in texts for piece in Splitter(name).split(text)}
    ranks = {bytes([byte]): byte for byte in range(256)}
    ranks |= {piece: 256 + index for index, piece in enumerate(sorted(p for p in pieces if len(p) > 1))}
    encoding = tiktoken.Encoding(
        "pieces", pat_str=Splitter(name).pattern, mergeable_ranks=ranks, special_tokens={}
    )
    for text in texts:
        ids = encoding.encode_ordinary(text)
        assert [encoding.decode_single_token_bytes(token).decode() for token in ids] == Splitter(name).split(
            text
        )


@settings(max_examples=200, deadline=None)
@given(st.text(), st.sampled_from([*PATTERNS, "[a-z]+", r"(\w)(\w)", r"\d+(?=x)"]))
def test_pieces_join_to_the_text(text: str, pattern: str) -> None:
    splitter = Splitter(pattern)
    assert "".join(splitter.split(text)) == text
    assert list(splitter.iterate(text)) == splitter.split(text)


@pytest.mark.parametrize("own", ["[a-z]+", r"\d{2}|x(?=y)", r"\p{L}+ ?"])
def test_what_an_own_pattern_leaves_over_is_cut_as_in_the_reference_library(own: str) -> None:
    for text in random_texts(500):
        assert Splitter(own).split(text) == theirs([own], text), repr(text)


@pytest.mark.parametrize("name", ["gpt2", "cl100k", "llama3", "qwen2", "o200k", "deepseek3"])
@pytest.mark.parametrize(("policy", "longest"), [("1", 1), ("1-2", 2), ("1-3", 3), ("free", 7)])
def test_the_policy_says_how_many_digits_a_piece_holds(name: str, policy: str, longest: int) -> None:
    splitter = Splitter(with_digits(name, policy))  # type: ignore[arg-type]
    pieces = splitter.split("in 1234567 or x1234567y")
    assert "".join(pieces) == "in 1234567 or x1234567y"
    runs = [piece for piece in pieces if any(c.isdigit() for c in piece)]
    assert all(piece.isdigit() for piece in runs)
    assert max(map(len, runs)) == longest
    assert [len(piece) for piece in runs[: -(-7 // longest)]] == [longest] * (7 // longest) + [
        7 % longest
    ] * (7 % longest > 0)
    assert splitter.pattern == splitter.source


def test_todays_names_stay() -> None:
    assert Splitter().pattern == PATTERN == PATTERNS["qwen2"]
    assert split("a b1") == ["a", " b", "1"]
    assert count_pieces(["a a", "a"]) == {"a": 2, " a": 1}
    assert count_pieces(["12"], Splitter("cl100k")) == {"12": 1}


def test_berts_words_lose_blanks_only() -> None:
    ours = [Splitter(WORDS).split(text) for text in CASES[:3]]
    reference = pre_tokenizers.BertPreTokenizer()
    assert ours == [[piece for piece, _ in reference.pre_tokenize_str(text)] for text in CASES[:3]]


def test_a_splitter_travels_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(Splitter("o200k"))).split("aB c") == Splitter("o200k").split("aB c")


@pytest.mark.parametrize("wrong", ["(", "[a-z]*", "a|"])
def test_patterns_that_cannot_cut_are_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"regular expression|empty"):
        Splitter(wrong)


def test_unknown_policies_and_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown policy '4'"):
        with_digits("gpt2", "4")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"unknown split 'gpt3'.*gpt2"):
        with_digits("gpt3", "1")
    with pytest.raises(ConfigError, match="does not cut numbers"):
        with_digits("lines", "1")


def test_a_pattern_that_only_looks_whole_with_what_is_added_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no regular expression"):
        Splitter("([")
