"""Holding out, and the corpus and token files: everything that goes in comes out, once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingot.data import corpus as corpus_files
from ingot.data.corpus import (
    Document,
    Dropped,
    Input,
    document_at,
    document_shards,
    iterate_documents,
    read_counts,
    read_documents,
    read_ledger,
    write_corpus,
)
from ingot.data.holdout import LARGEST_SHARE, Split, hold_out, sample
from ingot.data.shards import Tokens, write_shards
from ingot.errors import ArtifactError
from ingot.tokenizer import Tokenizer


def documents(sizes: dict[str, list[int]]) -> list[Document]:
    """Documents of given sizes by source."""
    return [
        Document(f"{source}:{index}", source, "x" * size, "text")
        for source, all_sizes in sizes.items()
        for index, size in enumerate(all_sizes)
    ]


@given(
    st.dictionaries(st.text("abcdef/.", min_size=1), st.lists(st.integers(1, 500), min_size=1), min_size=2),
    st.floats(0.01, 0.5),
)
def test_no_file_is_on_both_sides(sizes: dict[str, list[int]], fraction: float) -> None:
    everything = documents(sizes)
    split = hold_out(everything, fraction)
    train, heldout = ({d.source for d in side} for side in (split.train, split.heldout))
    assert train
    assert heldout
    assert not train & heldout
    assert sorted([*split.train, *split.heldout], key=lambda d: d.id) == sorted(
        everything, key=lambda d: d.id
    )
    total = sum(len(d.text) for d in everything)
    held = sum(len(d.text) for d in split.heldout)
    assert held <= LARGEST_SHARE * total or len(heldout) == 1
    assert split.note is None


def test_the_fraction_is_exact_and_the_side_of_a_file_lasts() -> None:
    sizes = {f"file{index}": [10] for index in range(200)}
    first = {d.source for d in hold_out(documents(sizes), 0.06).heldout}
    assert len(first) == 12
    more = {d.source for d in hold_out(documents(sizes), 0.12).heldout}
    assert first < more
    sizes |= {f"new{index}": [10] for index in range(200)}
    assert first <= {d.source for d in hold_out(documents(sizes), 0.12).heldout} | first
    changed = {d.source for d in hold_out(documents({name: [20] for name in sizes}), 0.06).heldout}
    assert len(changed & first) >= 1


def test_one_file_of_many_rows_is_split_by_rows() -> None:
    split = hold_out(documents({"rows.jsonl": [10] * 100}), 0.1)
    assert (len(split.train), len(split.heldout)) == (90, 10)
    assert split.note is not None
    assert "rows.jsonl" in split.note


@given(st.text("ab \n", min_size=2, max_size=5000), st.floats(0.01, 0.5))
def test_one_text_is_cut_once_at_its_end(text: str, fraction: float) -> None:
    split = hold_out([Document("novel.txt", "novel.txt", text, "text")], fraction)
    (head,), (tail,) = split.train, split.heldout
    assert head.text + tail.text == text
    assert head.id != tail.id
    assert split.note is not None


def test_one_text_is_cut_between_paragraphs() -> None:
    text = "\n\n".join(f"Paragraph {index}, of some length." for index in range(100))
    split = hold_out([Document("a", "a", text, "text")], 0.1)
    assert split.heldout[0].text.startswith("Paragraph 89")


def test_a_sample_is_the_same_each_time_and_in_order() -> None:
    everything = documents({f"file{index}": [1] for index in range(100)})
    chosen = sample(everything, 10)
    assert chosen == sample(everything, 10)
    assert [d for d in everything if d in chosen] == chosen
    assert set(chosen) <= set(sample(everything, 20))


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture
def split() -> Split:
    texts = ["def f():\n    return '日本 👍'\n", "", "e\u0301\0\u2028", "x" * 3000]
    train = [Document(f"a{i}", "a", text, "python") for i, text in enumerate(texts * 800)]
    return Split(train, [Document("b", "dir/b.md", "# Held out\n", "markdown", "MIT", "en")])


def test_documents_come_back(tmp_path: Path, split: Split) -> None:
    ledger = [
        Dropped("c.txt", "binary", "NUL byte at 2"),
        Dropped("d\ud800.txt", "empty", "é"),
        Dropped("e.txt", "gopher.words", "few", 3.0, 50.0, "three words 日本"),
    ]
    inputs = [Input("/somewhere/a", hashlib.sha256(b"a").hexdigest(), 1, "a")]
    counts = write_corpus(tmp_path, split, inputs, ledger, {".png": 2})
    assert read_documents(tmp_path, "train") == split.train
    assert read_documents(tmp_path, "heldout") == split.heldout
    written_out = dataclasses.replace(ledger[1], path="d\\ud800.txt")  # no file can hold half a character
    assert read_ledger(tmp_path) == [ledger[0], written_out, ledger[2]]
    assert read_counts(tmp_path) == counts
    assert counts["documents"] == {"train": 3200, "heldout": 1}
    assert counts["bytes"]["train"] == sum(len(d.text.encode()) for d in split.train)
    assert counts["dropped"] == {"binary": 1, "empty": 1, "gopher.words": 1}
    assert counts["kinds"] == {"python": 3200, "markdown": 1}
    assert counts["licences"] == {"unknown": 3200, "MIT": 1}
    assert counts["languages"] == {"unknown": 3200, "en": 1}
    rule = {"documents": 1, "bytes": len("three words 日本".encode()), "threshold": 50.0}
    assert counts["rules"]["gopher.words"] == rule
    lines = (tmp_path / "inputs.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [dataclasses.asdict(one) for one in inputs]
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {
        "documents/train-00000.parquet",
        "documents/heldout-00000.parquet",
        "ledger/00000.parquet",
        "inputs.jsonl",
        "counts.json",
    }


def test_a_large_side_is_several_shards(
    tmp_path: Path, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_files, "SHARD", 500_000)
    write_corpus(tmp_path, split, [], [], {})
    shards = document_shards(tmp_path, "train")
    assert len(shards) == 5  # of 2.4 MB of text
    assert [path.name for path in shards] == [f"train-0000{index}.parquet" for index in range(5)]
    assert list(iterate_documents(tmp_path, "train")) == split.train
    for index in (0, 1, 1499, 3199):
        assert document_at(tmp_path, "train", index).document == split.train[index]
    for index in (-1, 3200):
        with pytest.raises(ArtifactError, match=f"no train document {index:,}"):
            document_at(tmp_path, "train", index)


def test_the_same_corpus_is_the_same_bytes(tmp_path: Path, split: Split) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_corpus(tmp_path / name, split, [], [], {})
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file():
            other = tmp_path / "two" / path.relative_to(tmp_path / "one")
            assert path.read_bytes() == other.read_bytes()


def test_a_side_without_documents_is_empty_not_missing(tmp_path: Path) -> None:
    write_corpus(tmp_path, Split([Document("a", "a", "x", "text")], []), [], [], {})
    assert read_documents(tmp_path, "heldout") == []


def test_a_damaged_corpus_is_named(tmp_path: Path, split: Split) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        read_documents(tmp_path, "train")
    write_corpus(tmp_path, split, [], [], {})
    path = tmp_path / "documents" / "train-00000.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ArtifactError, match="damaged") as caught:
        read_documents(tmp_path, "train")
    assert "train-00000.parquet" in str(caught.value)
    path.write_bytes(whole[:4] + b"\0" * 2000 + whole[2004:])  # the index at its end is whole
    with pytest.raises(ArtifactError, match="damaged"):
        read_documents(tmp_path, "train")


def test_shards_hold_every_document_after_a_bos(tmp_path: Path, split: Split) -> None:
    tokenizer = Tokenizer.train([d.text for d in split.train], vocabulary=320)
    written = write_shards(tmp_path, split.train, tokenizer)
    tokens = Tokens.open(tmp_path)
    assert np.array_equal(tokens.tokens, written.tokens)
    assert tokens.tokens.dtype == np.uint16
    assert len(tokens.offsets) == len(split.train) + 1
    for index, document in enumerate(split.train):
        ids = tokens.document(index).tolist()
        assert ids[0] == tokenizer.bos_id
        assert tokenizer.decode_bytes(ids[1:]) == document.text.encode()
    raw = np.fromfile(tmp_path / "tokens" / "train.bin", dtype="<u2")
    assert len(tokens) == len(raw) == json.loads((tmp_path / "tokens" / "index.json").read_text())["tokens"]


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    tokenizer = Tokenizer([])
    tokenizer.vocab_size = 70_000
    document = Document("a", "a", "text", "text")
    tokens = write_shards(tmp_path, iter([document]), tokenizer)
    assert tokens.tokens.dtype == np.uint32
    assert tokens.document(0).tolist() == [tokenizer.bos_id, *tokenizer.encode("text")]


@pytest.mark.parametrize("name", ["train.bin", "train.offsets.bin", "index.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_damaged_shards_are_named(tmp_path: Path, name: str, damage: str) -> None:
    write_shards(tmp_path, [Document("a", "a", "text", "text")], Tokenizer([]))
    path = tmp_path / "tokens" / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        Tokens.open(tmp_path)
