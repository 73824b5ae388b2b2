"""What recipes may write for the prepare stage, and what becomes of it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ingot import recipes
from ingot.data.evaluations import read_items
from ingot.data.workers import cores
from ingot.errors import ConfigError, DataError
from ingot.pipeline import Pipeline
from ingot.progress import Progress, Task
from ingot.stages.prepare import Prepare, PrepareConfig, located


def settings(changes: list[str], recipe: str = "own_corpus") -> dict[str, Any]:
    return recipes.load(recipe, changes).settings("prepare")


def test_data_has_two_spellings(tmp_path: Path) -> None:
    place = str(tmp_path / "my = texts")
    assert settings([f"data.path={place}"]) == settings([f"data={place}"])
    assert settings([f"data={place}"])["data"] == place
    assert settings(["data=~/x"])["data"] == str(Path("~/x").expanduser())


@pytest.mark.parametrize(
    "place",
    [
        "https://example.org/a.txt#sha256=00",
        "hf://owner/name?split=train",
        "tinyshakespeare@",
        "sqlite:///a.db?table=t",
    ],
)
def test_what_is_no_path_is_left_as_it_is(place: str) -> None:
    assert settings([f"data={place}"])["data"] == place == located(place)


def test_the_recipe_is_found_by_the_path_that_people_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert recipes.find("recipes/own_corpus.yaml") == recipes.find("own_corpus")
    own = tmp_path / "recipes" / "own_corpus.yaml"
    own.parent.mkdir()
    own.write_text("name: mine\nstages: {prepare: }\n")
    assert recipes.load("recipes/own_corpus.yaml").name == "mine"
    with pytest.raises(ConfigError, match="no such file"):
        recipes.load("recipes/nothing.yaml")


def test_own_corpus_is_a_whole_recipe() -> None:
    for quick in (False, True):
        built = recipes.build(recipes.load("own_corpus", quick=quick))
        road = [*recipes.STAGES][: [*recipes.STAGES].index("examples")]  # what follows is of other recipes
        assert [stage.name for stage in built] == road
        assert built[0].config.cleaning.repetition is not None
        assert built[0].config.cleaning.c4 is None
    assert "pip install" in recipes.load("own_corpus").about


def test_presets_and_their_overrides() -> None:
    own = PrepareConfig.parse({"cleaning": "own"})
    assert own.cleaning.preset == "own"
    assert PrepareConfig.parse(own.plain()) == own
    changed = PrepareConfig.parse({"cleaning": {"preset": "own", "repetition": None}})
    assert changed.cleaning.repetition is None and changed.cleaning.quality == own.cleaning.quality
    assert PrepareConfig.parse({"cleaning": None}) == PrepareConfig()
    with pytest.raises(ConfigError, match=r"cleaning\.preset"):
        PrepareConfig.parse({"cleaning": "wbe"})
    with pytest.raises(ConfigError, match="did you mean 'quality'"):
        PrepareConfig.parse({"cleaning": {"qualty": {}}})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"data": "a", "sources": {"b": "c"}}, "data and sources are both given"),
        ({"sources": {"a/b": "c"}}, "'a/b'"),
        ({"sources": {"a": {"path": "x", "weight": 0}}}, "sources.a.weight"),
        ({"sources": {"a": {"path": "x", "wieght": 2}}}, "unknown key 'wieght'"),
        ({"workers": 0}, "workers"),
        ({"paragraphs": 0}, "paragraphs"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PrepareConfig.parse(wrong)
    assert said in str(caught.value)


def test_workers_make_no_other_corpus(tmp_path: Path) -> None:
    for index in range(30):
        (tmp_path / f"{index}.txt").write_text(f"text number {index} " * 100)
    run = tmp_path / "run"
    base = {"data": str(tmp_path / "*.txt"), "near_duplicates": None}
    Pipeline([Prepare(PrepareConfig.parse({**base, "workers": 1}))], run).run(Progress())
    (same,) = Pipeline([Prepare(PrepareConfig.parse({**base, "workers": 7}))], run).plan()
    assert same.artifact is not None
    (other,) = Pipeline([Prepare(PrepareConfig.parse({**base, "exclude": ["7.txt"]}))], run).plan()
    assert other.artifact is None
    assert cores() >= 1


def test_excluding_everything_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    stage = Prepare(PrepareConfig.parse({"data": str(tmp_path), "exclude": ["*"]}))
    with pytest.raises(DataError, match="every source is excluded"):
        stage.identity()


class Watched(Progress):
    """Keeps what tasks were opened, and how far they came."""

    def __init__(self) -> None:
        self.tasks: dict[str, list[float]] = {}

    def task(self, what: str, total: float | None = None, unit: str = "") -> Any:
        import contextlib

        amounts = self.tasks.setdefault(what, [total or 0.0, 0.0])

        class Counted(Task):
            def advance(self, amount: float = 1, numbers: str = "") -> None:
                amounts[1] += amount

            def at(self, done: float, numbers: str = "") -> None:
                amounts[1] = done

        return contextlib.nullcontext(Counted())


def test_long_work_shows_how_far_it_is(tmp_path: Path) -> None:
    for index in range(30):
        (tmp_path / f"{index}.txt").write_text(f"text number {index} " * 100)
    progress = Watched()
    Pipeline([Prepare(PrepareConfig(data=str(tmp_path / "*.txt"), paragraphs=1000))], tmp_path / "run").run(
        progress
    )
    assert set(progress.tasks) == {
        "reading and cleaning",
        "making signatures",
        "finding near-duplicates",
        "finding repeated paragraphs",
        "writing the ledger",
        "writing the corpus",
    }
    for total, done in progress.tasks.values():
        assert total == pytest.approx(done)


def test_evaluation_items_are_read_by_the_usual_names(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    rows = [
        {"question": "How many?", "answers": ["four", 4]},
        {"prompt": "def f():", "canonical_solution": "    return 1"},
        {"text": "only a text"},
        {"question": "none", "answer": None},
    ]
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    assert [tuple(one) for one in read_items(path)] == [
        ("How many?", "four"),
        ("How many?", "4"),
        ("def f():", "    return 1"),
        ("only a text", ""),
        ("none", ""),
    ]
    for line, said in (("{", "items.jsonl:1"), ("[1]", "not an object"), ('{"q": 1}', "has no prompt")):
        path.write_text(line + "\n")
        with pytest.raises(DataError, match=said):
            read_items(path)
    path.write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_items(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_items(tmp_path / "nothing.jsonl")


def test_hostile_files_in_a_folder_are_named_and_the_rest_is_used(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for index in range(30):
        (data / f"{index:02d}.txt").write_text(f"text number {index} says little " * 60)
    (data / "truncated.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00garbage")
    (data / "table.parquet").write_bytes(b"PAR1 but not much more")
    (data / "rows.jsonl").write_text('{"text": "' + "good " * 40 + '"}\n{"text": 7}\nnot json\n')
    (data / "page.pdf").write_bytes(b"%PDF-1.4\n%%EOF")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w"):
        pass
    (data / "book.epub").write_bytes(buffer.getvalue())
    with open(data / "line.jsonl", "wb") as file:
        file.truncate(2**28)  # one line, longer than documents may be; the disk holds nothing of it
    Pipeline([Prepare(PrepareConfig(data=str(data)))], tmp_path / "run").run(Progress())
    from ingot.data.corpus import iterate_ledger, read_counts

    corpus = tmp_path / "run" / "corpus@1"
    named = {one.path.partition(":")[0] for one in iterate_ledger(corpus)}
    assert named == {
        "truncated.jsonl.gz",
        "table.parquet",
        "rows.jsonl",
        "page.pdf",
        "book.epub",
        "line.jsonl",
    }
    assert sum(read_counts(corpus)["documents"].values()) == 31
