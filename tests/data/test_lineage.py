"""Lineage: every token leads back to its document and source; a removed source is nowhere any more."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from ingot.artifact import read, verify
from ingot.config import read_yaml
from ingot.data.corpus import iterate_documents, iterate_ledger, read_counts, read_documents
from ingot.data.lineage import (
    corpus_of,
    described,
    duplicate_rate,
    find,
    read_inputs,
    stale,
    trace,
    trace_token,
    without,
)
from ingot.data.shards import Tokens
from ingot.data.units import excluded
from ingot.errors import ArtifactError, DataError
from ingot.pipeline import Pipeline
from ingot.progress import Progress
from ingot.recipes import load, run
from ingot.stages.prepare import Prepare, PrepareConfig
from ingot.stages.removal import remove
from ingot.tokenizer import Tokenizer

TEXT = "a river runs under the old bridge while light falls on green water and birds sing of rain and grain"


def prose(seed: int, words: int = 300) -> str:
    source = random.Random(seed)
    known = [*TEXT.split(), *(f"{source.choice('abcdefgh')}{source.randrange(9999)}" for _ in range(100))]
    return "\n".join(" ".join(source.choices(known, k=12)) + "." for _ in range(words // 12)) + "\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, start in (("wiki", 0), ("notes", 100)):
        (folder / name).mkdir()
        for index in range(20):
            (folder / name / f"{index:02d}.md").write_text(prose(start + index))
    (folder / "wiki" / "LICENSE").write_text("SPDX-License-Identifier: MIT\n")
    (folder / "zz-copy.md").write_text(prose(3))  # of wiki/03.md
    (folder / "wiki" / "empty.txt").write_text(" ")
    (folder / "empty.txt").write_text(" ")
    rows = [json.dumps({"text": prose(200 + index)}) for index in range(10)]
    (folder / "rows.jsonl").write_text("\n".join([*rows, "{broken"]) + "\n")
    return folder


@pytest.fixture
def made(data: Path, tmp_path: Path) -> Path:
    """A run folder with a corpus and a tokenizer."""
    recipe = load("pretrain", [f"data={data}", "tokenizer.vocabulary=400"]).up_to("tokenizer")
    run(recipe, tmp_path / "run", Progress())
    return tmp_path / "run"


def test_every_token_leads_to_its_document(made: Path, data: Path) -> None:
    corpus, tokenizer = made / "corpus@1", made / "tokenizer@1"
    tokens, words = Tokens.open(tokenizer), Tokenizer.load(tokenizer)
    documents = read_documents(corpus, "train")
    chance = np.random.default_rng(0)
    for offset in [0, len(tokens) - 1, *chance.integers(0, len(tokens), 50).tolist()]:
        traced = trace_token(corpus, tokenizer, offset)
        assert traced.token is not None
        document = traced.location.document
        assert document == documents[traced.number]
        assert words.decode(tokens.document(traced.number)[1:]) == document.text
        assert int(tokens.tokens[offset]) == int(tokens.document(traced.number)[traced.token])
        if document.source != "rows.jsonl":
            assert (data / document.source).read_text() == document.text
    assert find(made, 5, token=True) == trace_token(corpus, tokenizer, 5)
    assert find(made, 5) == trace(corpus, 5)
    for offset in (-1, len(tokens)):
        with pytest.raises(ArtifactError, match="none at"):
            trace_token(corpus, tokenizer, offset)
    told = described(find(made, 5))
    assert told["source"] == documents[5].source and "text" not in told
    json.dumps(told)


def test_a_removed_source_is_nowhere(made: Path, data: Path) -> None:
    before = {side: read_documents(made / "corpus@1", side) for side in ("train", "heldout")}
    counts = read_counts(made / "corpus@1")
    done = remove(made, ["wiki"])
    new = made / "corpus@2"
    assert done.made.path == new == corpus_of(made)
    for side, documents in before.items():
        left = [one for one in documents if not one.source.startswith("wiki/")]
        assert read_documents(new, side) == left
        assert done.removed.documents[side] == len(documents) - len(left)
    assert not [one for one in iterate_ledger(new) if one.path == "wiki/empty.txt" and one.reason == "empty"]
    assert [one.path for one in iterate_ledger(new) if one.reason == "empty"] == ["empty.txt"]
    assert all(b"wiki" not in one.text.encode() for one in iterate_ledger(new))
    assert {one.name for one in read_inputs(new)} == {
        one.name for one in read_inputs(made / "corpus@1") if not one.name.startswith("wiki/")
    }
    assert done.removed.orphans == 1  # zz-copy.md was dropped as a copy of wiki/03.md, and stays so
    assert len(done.removed.sources) == 21
    assert counts["dropped"]["exact duplicate"] == 1
    assert [one.address for one in done.stale] == ["tokenizer@1"]
    assert [one.address for one in done.holding] == ["corpus@1"]
    assert verify(made) == []
    assert "wiki" not in (new / "README.md").read_text().replace(str(data), "")


def test_a_run_goes_on_with_what_is_left(made: Path, data: Path) -> None:
    done = remove(made, ["wiki/*"])
    config = PrepareConfig.parse(read_yaml(made / "recipe.yaml")["stages"]["prepare"])
    assert config.exclude == ("wiki/*",)
    (decision,) = Pipeline([Prepare(config)], made).plan()
    assert decision.artifact is not None and decision.artifact.address == "corpus@2"
    assert done.recipe is not None
    corpus, tokenizer = run(load(str(done.recipe)), made, Progress())
    assert corpus.address == "corpus@2"
    assert tokenizer.address == "tokenizer@2"
    assert len(Tokens.open(tokenizer.path).offsets) - 1 == len(read_documents(corpus.path, "train"))
    more = remove(made, ["rows.jsonl"])
    assert more.made.address == "corpus@3"
    assert read(made / "corpus@3").record.config["exclude"] == ["wiki/*", "rows.jsonl"]
    assert {one.address for one in more.stale} == {"tokenizer@1", "tokenizer@2"}
    assert [one.address for one in stale(made, ["corpus@2"])] == ["tokenizer@2"]


def test_removing_says_what_it_cannot(made: Path) -> None:
    with pytest.raises(DataError, match="holds no source wikipedia"):
        remove(made, ["wikipedia"])
    with pytest.raises(DataError, match="nothing to train on would be left"):
        remove(made, ["*"])
    assert not (made / "corpus@2").exists()
    with pytest.raises(ArtifactError, match="holds no corpus"):
        remove(made / "corpus@1", ["wiki"])


def test_a_copy_without_a_source_needs_nothing_but_the_corpus(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    target.mkdir()
    done = without(made / "corpus@1", target, ["rows.jsonl"], "mine")
    assert done.sources == ["rows.jsonl"]
    assert sum(done.documents.values()) == 10
    gone = [one for one in iterate_ledger(target) if "rows.jsonl" in one.path]
    assert [(one.path, one.reason) for one in gone] == [("rows.jsonl", "removed")]
    total = sum(len(one.text.encode()) for one in iterate_documents(target, "train"))
    assert read_counts(target)["bytes"]["train"] == total


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("wiki/a.md", "wiki", True),
        ("wiki/a.md", "wiki/", True),
        ("wikis/a.md", "wiki", False),
        ("wiki/a.md", "wiki/a.md", True),
        ("wiki/a.md", "*.md", True),
        ("wiki/A.md", "*/a.md", False),
        ("a[1].md", "a[1].md", True),
    ],
)
def test_sources_are_named_by_path_folder_or_glob(name: str, pattern: str, fits: bool) -> None:
    assert excluded(name, [pattern]) is fits


def test_the_duplicate_rate_counts_what_passed() -> None:
    counts = {
        "documents": {"train": 60, "heldout": 20},
        "dropped": {"exact duplicate": 15, "near duplicate": 5, "short": 900},
    }
    assert duplicate_rate(counts) == 0.2
    assert duplicate_rate({"documents": {"train": 0, "heldout": 0}, "dropped": {}}) == 0
