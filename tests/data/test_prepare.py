"""The stages prepare and tokenizer, run as the pipeline runs them."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingot.data.corpus import read_counts, read_documents, read_ledger
from ingot.data.shards import Tokens
from ingot.errors import ConfigError, DataError
from ingot.pipeline import Context
from ingot.progress import Progress
from ingot.stages.prepare import Prepare, PrepareConfig
from ingot.stages.tokenizer import TrainTokenizer, TrainTokenizerConfig
from ingot.tokenizer import Tokenizer

TEXT = "the a river runs under old stone bridge where light falls on green water and birds sing in rain"


def prose(seed: int, words: int = 400) -> str:
    source = random.Random(seed)
    known = TEXT.split()
    vocabulary = known + [f"{source.choice(known)}{source.choice(known)}" for _ in range(200)]
    return "\n".join(" ".join(source.choices(vocabulary, k=10)) + "." for _ in range(words // 10)) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty-one texts, and one of each kind of trouble."""
    data = tmp_path / "data"
    (data / "more").mkdir(parents=True)
    for index in range(20):
        (data / "more" / f"{index}.txt").write_text(prose(index))
    (data / "module.py").write_text(prose(20))
    (data / "copy.md").write_text(prose(1).replace("\n", "\r\n"), newline="")
    (data / "nearly.rst").write_text(prose(2).replace("river", "stream", 1))
    (data / "binary.txt").write_bytes(b"\0" * 3 + b"x")
    (data / "empty.txt").write_text(" \n")
    (data / "latin.txt").write_bytes("café".encode("latin-1"))
    (data / "short.txt").write_text("few words")
    (data / "picture.png").write_bytes(b"png")
    (data / "rows.jsonl").write_text(json.dumps({"text": prose(30)}) + "\n{broken\n")
    return data


def run(stage: Any, folder: Path, parents: dict[str, Any] | None = None) -> Context:
    work = folder.with_name(f"{folder.name}-work")
    for one in (folder, work):
        one.mkdir(exist_ok=True)
    context = Context(
        folder=folder, work=work, parents=parents or {}, progress=Progress(), seed=1, device="cpu"
    )
    stage.run(context)
    return context


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


def prepare(data: Path | None, **settings: Any) -> Prepare:
    return Prepare(PrepareConfig(data=None if data is None else str(data), **settings))


def test_a_folder_becomes_a_corpus_and_a_tokenizer(folder: Path, tmp_path: Path) -> None:
    context = run(prepare(folder), tmp_path / "corpus")
    train, heldout = (read_documents(tmp_path / "corpus", side) for side in ("train", "heldout"))
    assert {document.source for document in train}.isdisjoint(document.source for document in heldout)
    assert len(train) + len(heldout) == 22
    reasons = {one.path: one.reason for one in read_ledger(tmp_path / "corpus")}
    assert reasons == {
        "binary.txt": "binary",
        "empty.txt": "empty",
        "latin.txt": "encoding",
        "short.txt": "short",
        "rows.jsonl:2": "bad line",
        "more/1.txt": "exact duplicate",
        "nearly.rst": "near duplicate",
    }
    counts = read_counts(tmp_path / "corpus")
    assert counts["other_files"] == {".png": 1}
    assert sum(counts["dropped"].values()) == 7
    assert context.metrics["documents"] == len(train)
    assert any("1 binary" in note for note in context.notes)
    assert any(".png" in note for note in context.notes)
    for line in (tmp_path / "corpus" / "inputs.jsonl").read_text().splitlines():
        entry = json.loads(line)
        content = Path(entry["path"]).read_bytes()
        assert (entry["sha256"], entry["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))

    parents = {"prepare": SimpleNamespace(path=tmp_path / "corpus")}
    stage = TrainTokenizer(TrainTokenizerConfig(vocabulary=400))
    context = run(stage, tmp_path / "tokenizer", parents)
    tokenizer, tokens = Tokenizer.load(tmp_path / "tokenizer"), Tokens.open(tmp_path / "tokenizer")
    assert tokenizer.vocab_size == 400
    assert [tokenizer.decode(tokens.document(i)[1:]) for i in range(len(train))] == [d.text for d in train]
    size = sum(len(document.text.encode()) for document in train)
    assert context.metrics["bytes_per_token"] == pytest.approx(size / (len(tokens) - len(train)), abs=1e-4)


def test_the_tokenizer_never_sees_held_out_text(folder: Path, tmp_path: Path) -> None:
    run(prepare(folder), tmp_path / "corpus")
    parents = {"prepare": SimpleNamespace(path=tmp_path / "corpus")}
    run(TrainTokenizer(TrainTokenizerConfig(vocabulary=400)), tmp_path / "one", parents)
    texts = [document.text for document in read_documents(tmp_path / "corpus", "train")]
    assert Tokenizer.load(tmp_path / "one").merges == Tokenizer.train(texts, 400).merges


def test_the_same_settings_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(prepare(folder), tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_identity_is_the_content_not_the_place(folder: Path, tmp_path: Path) -> None:
    before = prepare(folder).identity()
    assert before == prepare(folder).identity()
    moved = folder.rename(tmp_path / "elsewhere")
    assert before == prepare(moved).identity()
    with open(moved / "module.py", "a") as file:
        file.write("x")
    assert before != prepare(moved).identity()
    (moved / "module.py").write_text(prose(20))
    assert before == prepare(moved).identity()
    (moved / "module.py").rename(moved / "renamed.py")
    assert before != prepare(moved).identity()


def test_settings_do_what_they_say(folder: Path, tmp_path: Path) -> None:
    context = run(prepare(folder, near_duplicates=None, min_bytes=1), tmp_path / "all")
    reasons = set(read_counts(tmp_path / "all")["dropped"])
    assert reasons == {"binary", "empty", "encoding", "bad line", "exact duplicate"}
    context = run(prepare(folder, max_documents=20, heldout=0.2), tmp_path / "some")
    counts = read_counts(tmp_path / "some")["documents"]
    assert counts["train"] + counts["heldout"] <= 20
    assert any("A sample of 20 of" in note for note in context.notes)


def test_a_single_text_is_split_by_its_tail(tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text(prose(1, words=8000))
    context = run(prepare(tmp_path / "novel.txt"), tmp_path / "corpus")
    counts = read_counts(tmp_path / "corpus")
    assert counts["documents"] == {"train": 1, "heldout": 1}
    assert counts["bytes"]["heldout"] == pytest.approx(0.1 * sum(counts["bytes"].values()), rel=0.2)
    assert any("one text, novel.txt" in note for note in context.notes)


def error(data: Path, tmp_path: Path) -> str:
    with pytest.raises(DataError) as caught:
        run(prepare(data), tmp_path / "corpus")
    text = str(caught.value)
    assert str(data) in text
    assert "\n" not in text
    assert caught.value.fix
    return text


def test_bad_corpora_end_with_one_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no such file" in error(tmp_path / "nowhere", tmp_path)
    assert "no file of a kind that is read" in error(empty, tmp_path)
    blank = tmp_path / "blank"
    blank.mkdir()
    (blank / "a.txt").write_text("\n\n")
    (blank / "b.txt").write_bytes(b"\0x")
    text = error(blank, tmp_path)
    assert "the corpus is empty (dropped: 1 binary, 1 empty)" in text


def test_a_corpus_too_small_says_its_size(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word " * 1000)
    assert "4,500 bytes of training text are too few, 20,000 are needed" in error(
        tmp_path / "a.txt", tmp_path
    )


def test_a_file_without_permission_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("ingot.stages.prepare.file_hash", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)") as caught:
        prepare(folder).identity()
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"heldout": 0}, {"heldout": 0.9}, {"near_duplicates": 0}, {"max_documents": 0}, {"dta": "x"}]
)
def test_bad_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PrepareConfig.parse(wrong)


def test_a_vocabulary_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match="300 entries or more"):
        TrainTokenizerConfig.parse({"vocabulary": 200})


def test_the_standard_library_is_the_default(tmp_path: Path) -> None:
    context = run(prepare(None, max_documents=60, heldout=0.1), tmp_path / "corpus")
    counts = read_counts(tmp_path / "corpus")
    assert 50 <= sum(counts["documents"].values()) <= 60
    assert counts["kinds"] == {"python": sum(counts["documents"].values())}
    assert any("standard library of" in note for note in context.notes)


def test_these_stages_need_no_torch() -> None:
    code = "import sys, ingot.stages.prepare, ingot.stages.tokenizer; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
