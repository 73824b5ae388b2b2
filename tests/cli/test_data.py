"""`ingot data`: what its verbs print and make, through the command line."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from ingot.cli import main
from ingot.data.corpus import read_counts, read_documents

TEXT = "a river runs under the old bridge while light falls on green water and birds sing of rain and grain"


def prose(seed: int, words: int = 400) -> str:
    source = random.Random(seed)
    known = [*TEXT.split(), *(f"{source.choice('abcdefgh')}{source.choice('aeiou')}ltham" for _ in range(40))]
    return (
        "\n".join(" ".join(source.choices(known, k=12)).capitalize() + "." for _ in range(words // 12)) + "\n"
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "mail").mkdir()
    for index in range(24):
        (folder / f"{index:02d}.md").write_text(prose(index))
        (folder / "mail" / f"{index:02d}.txt").write_text(prose(100 + index))
    (folder / "copy.txt").write_text(prose(5))
    (folder / "same.txt").write_text("the same line again and again\n" * 80)
    (folder / "picture.png").write_bytes(b"png")
    return folder


def ingot(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


@pytest.fixture
def run(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    out = tmp_path / "run"
    status, told, _ = ingot(capsys, "data", "prepare", "own_corpus", f"data.path={data}", "--out", out)
    assert status == 0
    assert "corpus@1 is ready" in told and "ingot data inspect" in told
    return out


def test_prepare_stops_at_the_corpus(run: Path, capsys: pytest.CaptureFixture[str], data: Path) -> None:
    assert {path.name for path in run.iterdir()} - {".lock"} >= {"corpus@1", "recipe.yaml"}
    assert not (run / "tokenizer@1").exists()
    counts = read_counts(run / "corpus@1")
    assert counts["dropped"]["exact duplicate"] == 1
    assert any(name.startswith("gopher") for name in counts["dropped"])
    assert sum(counts["documents"].values()) == 48
    status, told, log = ingot(
        capsys, "data", "prepare", "recipes/own_corpus.yaml", f"data={data}", "--out", run, "--json"
    )
    assert status == 0
    assert json.loads(told)["address"] == "corpus@1"
    assert "up to date" in log


def test_inspect_shows_counts_rules_and_samples(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, told, _ = ingot(capsys, "data", "inspect", run)
    assert status == 0
    for word in (
        "train",
        "heldout",
        "duplicate rate: 2.04%",
        "exact duplicate",
        "copy.txt: the same as 05.md",
    ):
        assert word in told
    assert "gopher.repeated_lines" in told and "the same line again" in told
    assert "1 .png" in told and "no skew beyond chance" in told
    status, told, _ = ingot(capsys, "data", "inspect", run / "corpus@1", "--json")
    found = json.loads(told)
    assert found["spread"]["documents"] == 48
    assert {"language", "source", "kind", "licence", "length", "lengths"} <= found["spread"].keys()
    assert found["duplicate_rate"] == pytest.approx(1 / 49)
    assert found["skews"] == []
    (rule,) = [one for one in found["rules"] if one["name"] == "gopher.repeated_lines"]
    assert rule["samples"][0]["path"] == "same.txt"
    assert rule["samples"][0]["value"] > rule["samples"][0]["threshold"] == rule["threshold"]
    status, told, _ = ingot(capsys, "data", "inspect", run, "--rule", "exact", "--samples", "1")
    assert "copy.txt" in told and "gopher" not in told


def test_inspect_compares_with_another_corpus(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    words = ["data", "prepare", "own_corpus", f"data={data}", "prepare.exclude=[mail]", "--out", other]
    assert ingot(capsys, *words)[0] == 0
    _, told, _ = ingot(capsys, "data", "inspect", run, "--against", other, "--json")
    found = {(one["dimension"], one["name"]) for one in json.loads(told)["skews"]}
    assert ("source", "mail") in found
    assert not any(dimension == "licence" for dimension, _ in found)


def test_trace_names_the_source(run: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = read_documents(run / "corpus@1", "train")[7]
    status, told, _ = ingot(capsys, "data", "trace", run, "7", "--json")
    found = json.loads(told)
    assert (status, found["source"], found["id"]) == (0, document.source, document.id)
    assert (data / found["source"]).is_file()
    _, told, _ = ingot(capsys, "data", "trace", run, "7")
    assert document.source in told
    for wrong, said in (("9999", "has no train document 9,999"), ("seven", "no document and no token")):
        status, _, log = ingot(capsys, "data", "trace", run, wrong)
        assert status == 2 and said in log
    status, _, log = ingot(capsys, "data", "trace", run, "@3")
    assert status == 2 and "holds no tokens" in log


def test_remove_says_what_is_stale(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, told, _ = ingot(capsys, "data", "remove", run, "--source", "mail", "--json")
    found = json.loads(told)
    assert status == 0
    assert found["made"] == "corpus@2" and found["still_holding"] == ["corpus@1"] and found["stale"] == []
    assert len(found["sources"]) == 24
    assert not [one for one in read_documents(run / "corpus@2", "train") if one.source.startswith("mail")]
    status, told, _ = ingot(capsys, "data", "remove", run, "--source", "copy.txt")
    assert "corpus@3: without 1 sources with 0 documents" in told and "ingot artifacts prune" in told
    status, _, log = ingot(capsys, "data", "remove", run, "--source", "nothing")
    assert status == 2 and "holds no source nothing" in log


def test_an_interrupted_preparing_says_that_it_goes_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingot.stages.prepare import Prepare

    def interrupted(self: object, context: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Prepare, "run", interrupted)
    out = tmp_path / "run"
    status, _, log = ingot(capsys, "data", "prepare", "own_corpus", f"data={data}", "--out", out)
    assert status == 130
    assert "goes on from here" in log
    assert not (out / "corpus@1").exists()
    assert [path.name for path in out.iterdir() if path.name.startswith(".corpus")] == []
