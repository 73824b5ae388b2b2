"""SentencePiece's `.model` files against the `sentencepiece` package: read, written, and encoded alike.

SentencePiece adds scores in 32 bits; cuts whose scores differ by less than that are ties, and only there
may the ids differ.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import corpus, strings
from hypothesis import given
from hypothesis import strategies as st

from ingot.errors import ArtifactError
from ingot.tokenizer import Tokenizer, files, protobuf
from ingot.tokenizer.training import TokenizerConfig
from ingot.tokenizer.unigram_model import UnigramModel

Train = Callable[..., tuple[Path, Any]]

IDENTITY = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
BYTES = {"byte_fallback": True, "character_coverage": 0.98}
KINDS: dict[str, dict[str, Any]] = {
    "unigram as T5": {"model_type": "unigram", "vocab_size": 700},
    "unigram with bytes": {"model_type": "unigram", "vocab_size": 900, **BYTES},
    "unigram as it comes": {"model_type": "unigram", "vocab_size": 700, **IDENTITY},
    "unigram in lower case": {
        "model_type": "unigram",
        "vocab_size": 700,
        "normalization_rule_name": "nmt_nfkc_cf",
    },
    "bpe": {"model_type": "bpe", "vocab_size": 700},
    "bpe as LLaMA": {"model_type": "bpe", "vocab_size": 900, **IDENTITY, **BYTES},
    "bpe as Gemma": {
        "model_type": "bpe",
        "vocab_size": 900,
        "add_dummy_prefix": False,
        "user_defined_symbols": ["<sep>", "<tool>"],
        **IDENTITY,
        **BYTES,
    },
    "bpe across words": {
        "model_type": "bpe",
        "vocab_size": 900,
        "split_by_whitespace": False,
        "split_by_unicode_script": False,
    },
}

NAMES = ("<s>", "<sep>", "<tool>", "</s>", "<unk>")


def lines() -> list[str]:
    return [line[:2000] for text in corpus() for line in text.split("\n") if line.strip()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Train:
    package = pytest.importorskip("sentencepiece")
    known: dict[str, tuple[Path, Any]] = {}

    def train(name: str) -> tuple[Path, Any]:
        if name not in known:
            writer = io.BytesIO()
            package.SentencePieceTrainer.train(
                sentence_iterator=iter(lines()),
                model_writer=writer,
                minloglevel=2,
                num_threads=1,
                **KINDS[name],
            )
            path = tmp_path_factory.mktemp("sentencepiece") / "own.model"
            path.write_bytes(writer.getvalue())
            known[name] = path, package.SentencePieceProcessor(model_file=str(path))
        return known[name]

    return train


def texts(kind: str) -> list[str]:
    """Ten thousand for the two that published models use most, fewer for the others."""
    count = 10_000 if kind in ("bpe as LLaMA", "unigram with bytes") else 1500
    return [*strings(count, seed=8, names=NAMES), *lines()[:300]]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_texts_equal_the_package(kind: str, trained: Train) -> None:
    path, theirs = trained(kind)
    ours = Tokenizer.load(path)
    assert ours.vocab_size == theirs.get_piece_size()
    assert [ours.role_id(role) for role in ("unk", "bos", "eos")] == [0, 1, 2]
    ties = 0
    cases = texts(kind)
    for text, expected in zip(cases, theirs.encode(cases), strict=True):
        ids = ours.encode(text)
        if ids != expected:
            assert _score(ours, ids) == pytest.approx(_score(ours, expected), rel=1e-5), text
            ties += 1
        elif 0 not in ids:  # unknown characters are written as another sign
            assert ours.decode(ids, skip_special=True) == theirs.decode(ids)
    assert ties <= len(cases) / 500


def _score(tokenizer: Tokenizer, ids: list[int]) -> float:
    model = tokenizer.parts.model
    assert isinstance(model, UnigramModel), "BPE has no ties"
    return sum(model.pieces[token][1] for token in ids)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_gives_the_package_the_same_ids(kind: str, trained: Train, tmp_path: Path) -> None:
    package = pytest.importorskip("sentencepiece")
    path, theirs = trained(kind)
    ours = Tokenizer.load(path)
    files.export(ours.parts, tmp_path / "again.model", "sentencepiece")
    back = package.SentencePieceProcessor(model_file=str(tmp_path / "again.model"))
    cases = texts(kind)[:1000]
    assert back.encode(cases) == theirs.encode(cases)
    for token in range(ours.vocab_size):
        assert back.id_to_piece(token) == theirs.id_to_piece(token)
        assert back.is_control(token) == theirs.is_control(token)
        assert back.is_byte(token) == theirs.is_byte(token)
    ours.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert [again.encode(text) for text in cases] == [ours.encode(text) for text in cases]


@pytest.mark.parametrize("kind", ["characters", "unigram"])
@pytest.mark.parametrize("fallback", [True, False])
def test_what_is_trained_here_encodes_alike_in_the_package(kind: Any, fallback: bool, tmp_path: Path) -> None:
    package = pytest.importorskip("sentencepiece")
    config = TokenizerConfig(kind=kind, byte_fallback=fallback, alphabet=120, workers=1)
    ours = Tokenizer.train(corpus(), 900, config=config)
    path = tmp_path / "ours.model"
    files.export(ours.parts, path, "sentencepiece")
    theirs = package.SentencePieceProcessor(model_file=str(path))
    ties = 0
    for text in texts("any"):
        ids = ours.encode(text)
        if theirs.encode(text) != ids:
            assert _score(ours, ids) == pytest.approx(_score(ours, theirs.encode(text)), rel=1e-5)
            ties += 1
        if fallback and "▁" not in text:
            assert ours.decode(ids) == text
    assert ties <= len(texts("any")) / 100


def test_unigram_samples_are_keyed_and_keep_the_text() -> None:
    config = TokenizerConfig(kind="unigram", workers=1)
    tokenizer = Tokenizer.train(corpus(), 900, config=config)
    text = lines()[40]
    drawn = [tokenizer.sample(text, (0, index), rate=0.2) for index in range(20)]
    assert drawn == [tokenizer.sample(text, (0, index), rate=0.2) for index in range(20)]
    assert len(set(map(tuple, drawn))) > 10
    assert {tokenizer.decode(ids) for ids in drawn} == {text}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "0 pieces"),
        (b"\x0a\xff\xff\xff", "cut off"),
        (b"\x0b\x00", "wire type 3"),
        (b"\xff" * 40, "cut off"),
        (protobuf.message([(1, protobuf.message([(2, 0.5)]))]), "no SentencePiece model"),
        (protobuf.message([(1, protobuf.message([(1, b"\xff")]))]), "no SentencePiece model"),
        (
            protobuf.message([(1, protobuf.message([(1, "a")])), (2, protobuf.message([(3, 3)]))]),
            "model type 3",
        ),
    ],
)
def test_damaged_models_are_refused(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.model"
    path.write_bytes(raw)
    with pytest.raises(ArtifactError, match=message):
        Tokenizer.load(path)


@given(
    st.lists(
        st.tuples(st.integers(1, 2**28), st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=300)),
        max_size=9,
    )
)
def test_protocol_buffers_come_back(values: list[tuple[int, int | bytes]]) -> None:
    found = list(protobuf.fields(protobuf.message(values)))
    assert [(n, protobuf.signed(v) if isinstance(v, int) else v) for n, v in found] == values


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        list(protobuf.fields(data))
