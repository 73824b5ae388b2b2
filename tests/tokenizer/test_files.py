"""Tokenizer files of every format, there and back, and files that nobody should trust."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tokenizers
from fuzzing import corpus, strings
from layouts import LAYOUTS

from ingot.errors import ArtifactError, ConfigError, DataError
from ingot.tokenizer import Tokenizer, files, pretokenise
from ingot.tokenizer.split import PATTERNS
from ingot.tokenizer.training import TokenizerConfig


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    config = TokenizerConfig(split="gpt2", specials=("<|endoftext|>",), workers=1)
    return Tokenizer.train(corpus(), 600, config=config)


def cases() -> list[str]:
    return [*strings(1000, seed=7, names=("<|endoftext|>",)), *corpus()]


def test_gpt2s_two_files_give_the_same_ids_here_and_there(plain: Tokenizer, tmp_path: Path) -> None:
    files.export(plain.parts, tmp_path, "gpt2")
    ours = Tokenizer.load(tmp_path)
    model = tokenizers.models.BPE.from_file(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    theirs = tokenizers.Tokenizer(model)
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert ours.special == plain.special
    for text in cases():
        assert ours.encode(text) == plain.encode(text) == theirs.encode(text).ids
    assert ours.bos_id == plain.special["<|endoftext|>"]


def test_rank_files_give_the_same_ids_here_and_in_tiktoken(plain: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "gpt2.tiktoken"
    files.export(plain.parts, path, "tiktoken")
    ours = Tokenizer(files.load(path, specials=["<|endoftext|>"]))
    ranks = {
        base64.b64decode(token): int(rank) for token, rank in map(str.split, path.read_text().splitlines())
    }
    theirs = tiktoken.Encoding("x", pat_str=PATTERNS["gpt2"], mergeable_ranks=ranks, special_tokens={})
    assert ours.compiled and ours.special == plain.special
    for text in cases():
        assert ours.encode(text) == plain.encode(text) == theirs.encode_ordinary(text)
    ours.save(tmp_path)
    back = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in corpus():
        assert back.encode(text).ids == ours.encode(text)
    assert ours.merges == plain.merges


@pytest.mark.parametrize("seed", range(6))
def test_ranks_of_no_trainer_are_encoded_as_tiktoken_does(seed: int, tmp_path: Path) -> None:
    """Ranks in any order: some tokens come before their parts, some no merge arrives at."""
    source = random.Random(seed)
    longer = {
        "".join(source.choices("abcde ", k=source.randint(2, 6))).encode() for _ in range(60 * seed + 9)
    }
    tokens = [bytes([byte]) for byte in range(256)] + source.sample(sorted(longer), len(longer))
    path = tmp_path / "odd.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(t) + b" %d\n" % rank for rank, t in enumerate(tokens)))
    ranks = {token: rank for rank, token in enumerate(tokens)}
    theirs = tiktoken.Encoding("x", pat_str=PATTERNS["gpt2"], mergeable_ranks=ranks, special_tokens={})
    ours = Tokenizer(files.load(path, split="gpt2"))
    ours.save(tmp_path)
    back = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for _ in range(500):
        text = "".join(source.choices("abcde ", k=source.randint(1, 40)))
        assert ours.encode(text) == theirs.encode_ordinary(text) == back.encode(text).ids


def test_llama3s_model_file_is_a_rank_file(plain: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    files.export(plain.parts, path, "tiktoken")
    parts = files.load(tmp_path, specials=["<|begin_of_text|>"])
    assert Tokenizer(parts).special == {"<|begin_of_text|>": plain.vocab_size - 1}
    assert parts.roles["bos"] == "<|begin_of_text|>"


@pytest.mark.parametrize(
    ("kind", "form"), [("wordpiece", "gpt2"), ("wordpiece", "tiktoken"), ("bpe", "sentencepiece")]
)
def test_what_a_format_cannot_hold_is_said(kind: Any, form: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(corpus(), 700, config=TokenizerConfig(kind=kind, workers=1))
    with pytest.raises(ArtifactError, match=r"tokenizer\.json instead"):
        files.export(tokenizer.parts, tmp_path / "file", form)
    with pytest.raises(ConfigError, match="unknown format 'gguf'"):
        files.export(tokenizer.parts, tmp_path / "file", "gguf")


def test_places_without_a_tokenizer_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        Tokenizer.load(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ArtifactError, match="is no tokenizer file"):
        Tokenizer.load(tmp_path / "notes.txt")
    (tmp_path / "x.tiktoken").write_text("IQ== 0\nnot base64! 1\n")
    with pytest.raises(ArtifactError, match="line 2"):
        Tokenizer.load(tmp_path / "x.tiktoken")
    (tmp_path / "x.tiktoken").write_text("IQ== 0\n")
    with pytest.raises(ArtifactError, match="lacks a token for some byte"):
        Tokenizer.load(tmp_path / "x.tiktoken")


def content() -> dict[str, Any]:
    """A small and valid tokenizer.json."""
    parsed: dict[str, Any] = json.loads(LAYOUTS["gpt2"]().to_str())
    return parsed


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(plain: dict[str, Any]) -> None:
        inner = plain
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to

    return change


HOSTILE: list[tuple[str, Callable[[dict[str, Any]], None], str]] = [
    ("duplicate ids", _set("model", "vocab", "a", to=70), "two tokens have the same id"),
    ("gaps", _set("model", "vocab", "zebra", to=5000), "belongs to no token"),
    ("a huge id", _set("model", "vocab", "zebra", to=10**18), "belongs to no token"),
    ("negative id", _set("model", "vocab", "a", to=-1), "has the id -1"),
    ("id is a text", _set("model", "vocab", "a", to="7"), "has the id '7'"),
    ("id is true", _set("model", "vocab", "a", to=True), "has the id True"),
    (
        "unknown merge",
        _set("model", "merges", 0, to=["zebra", "fish"]),
        "merge 0 needs 'zebra', 'fish', 'zebrafish'",
    ),
    ("merge twice", _set("model", "merges", 1, to=["Ġ", "Ġ"]), "comes twice"),
    ("merge of three", _set("model", "merges", 0, to="a b c"), "no pair of tokens"),
    ("merge of numbers", _set("model", "merges", 0, to=[1, 2]), "no pair of tokens"),
    ("no model", _set("model", to=None), "model: is missing"),
    ("other model", _set("model", "type", to="WordLevel"), "the model 'WordLevel' is not supported"),
    ("dropout", _set("model", "dropout", to=0.1), "random"),
    ("vocab is a list", _set("model", "vocab", to=[]), "is list where an object is needed"),
    ("normalizer", _set("normalizer", to={"type": "Nmt"}), "the normalizer 'Nmt' is not supported"),
    (
        "pre_tokenizer",
        _set("pre_tokenizer", to={"type": "CharDelimiterSplit"}),
        "'CharDelimiterSplit' is not",
    ),
    ("decoder", _set("decoder", to={"type": "CTC"}), "the decoder 'CTC' is not supported"),
    ("post_processor", _set("post_processor", to={"type": "X"}), "the post_processor 'X' is not supported"),
    ("step is a list", _set("normalizer", to=["NFC"]), "is list where an object is needed"),
    (
        "no regex",
        _set("pre_tokenizer", to={"type": "Split", "pattern": {"Regex": "(["}, "behavior": "Isolated"}),
        "is no regular expression",
    ),
    (
        "huge regex",
        _set(
            "pre_tokenizer", to={"type": "Split", "pattern": {"Regex": "a|" * 50_000}, "behavior": "Isolated"}
        ),
        "too long",
    ),
    (
        "added twice",
        _set("added_tokens", to=[{"id": 0, "content": "x"}, {"id": 1, "content": "x"}]),
        "comes twice",
    ),
    ("added empty", _set("added_tokens", to=[{"id": 0, "content": ""}]), "is empty"),
    ("added on a taken id", _set("added_tokens", to=[{"id": 9, "content": "new"}]), "disagree on id 9"),
    ("added without id", _set("added_tokens", to=[{"content": "new"}]), "is missing where int"),
    (
        "template of nothing",
        _set("post_processor", to={"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}),
        "is no token of the vocabulary",
    ),
    (
        "character map",
        _set("normalizer", to={"type": "Precompiled", "precompiled_charsmap": "AAAA////"}),
        "cut off",
    ),
    (
        "unigram",
        _set("model", to={"type": "Unigram", "unk_id": 9, "vocab": [["a", -1.0]]}),
        "belongs to no piece",
    ),
    (
        "unigram nan",
        _set("model", to={"type": "Unigram", "unk_id": 0, "vocab": [["a", None]]}),
        "no piece with its score",
    ),
    ("wordpiece", _set("model", to={"type": "WordPiece", "vocab": {"a": 0}}), "'[UNK]' is no token"),
]


@pytest.mark.parametrize(("name", "change", "message"), HOSTILE, ids=[name for name, _, _ in HOSTILE])
def test_a_hostile_file_is_refused_by_name(
    name: str, change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    plain = content()
    change(plain)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(ArtifactError) as caught:
        Tokenizer.load(tmp_path)
    assert message in str(caught.value)
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "is list where an object is needed"),
        (b"[" * 200_000, "nested too deep"),
        (b'{"a":' * 200_000, "nested too deep"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"model": {"type": "WordPiece"}}', "is missing where an object is needed"),
    ],
)
def test_damaged_files_are_named(raw: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(raw)
    with pytest.raises(ArtifactError, match=message) as caught:
        Tokenizer.load(tmp_path)
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_pattern_that_never_ends_is_stopped(
    compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretokenise, "PATIENCE", 0.2)
    plain = content()
    split = {"type": "Split", "pattern": {"Regex": r"(?:x|xx|x)*(?!x)[yz]|\w+"}, "behavior": "Isolated"}
    last = pretokenise.byte_level(None) if compiled else plain["pre_tokenizer"]
    plain["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, last]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(plain), encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.compiled == compiled
    with pytest.raises(DataError, match="gave up"):
        tokenizer.encode("x" * 60)
