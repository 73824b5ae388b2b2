"""Reading databases and the hub: SQLite, what SQLAlchemy reaches, and streamed data sets."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingot.data.document import Document, Dropped
from ingot.data.readers import hub
from ingot.data.sources import Reading, Source, find, open_place, read
from ingot.errors import DataError, ResourceError

Item = Document | Dropped


def items(path: Path, **settings: Any) -> list[Item]:
    return list(read(Source(path, path.name), Reading(**settings)))


def good(found: list[Item]) -> dict[str, str]:
    return {item.id: item.text for item in found if isinstance(item, Document)}


def bad(found: list[Item]) -> dict[str, str]:
    return {item.path: item.reason for item in found if isinstance(item, Dropped)}


# SQLite


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "forum.db"
    with sqlite3.connect(path) as base:
        base.execute('CREATE TABLE posts (id INTEGER PRIMARY KEY, body TEXT, "odd ""name" TEXT)')
        base.execute("CREATE TABLE notes (text)")
        base.execute("CREATE TABLE numbers (a, b)")
        rows = [(3, "three", "c"), (1, "one", "a"), (2, None, "b"), (4, b"\xff", "d")]
        base.executemany("INSERT INTO posts VALUES (?, ?, ?)", rows)
        base.execute("INSERT INTO posts VALUES (5, CAST(x'63616681' AS TEXT), 'e')")
        base.execute("CREATE INDEX by_body ON posts (body DESC)")
        base.execute("INSERT INTO notes VALUES ('a note')")
    return path


def place(url: str) -> list[Item]:
    return [item for source in open_place(url).sources for item in read(source)]


def test_a_table_of_sqlite_gives_its_rows(base: Path) -> None:
    found = place(f"sqlite:///{base}?table=posts&text=body")
    assert good(found) == {"forum.db:posts:1": "one", "forum.db:posts:3": "three"}
    assert bad(found) == {
        "forum.db:posts:2": "bad line",
        "forum.db:posts:4": "bad line",
        "forum.db:posts:5": "encoding",
    }
    odd = place(f"sqlite:///{base}?table=posts&text=odd+%22name")
    assert list(good(odd).values()) == ["a", "b", "c", "d", "e"]


def test_a_query_gives_its_first_column(base: Path) -> None:
    found = place(
        f"sqlite:///{base}?query=SELECT+upper(body),id+FROM+posts+WHERE+id+IN+(1,3)+ORDER+BY+id+DESC"
    )
    assert good(found) == {"forum.db:query:1": "THREE", "forum.db:query:2": "ONE"}
    with pytest.raises(DataError, match="query fails"):
        place(f"sqlite:///{base}?query=SELEKT")
    with pytest.raises(DataError, match="query fails"):
        place(f"sqlite:///{base}?query=DELETE+FROM+posts")
    assert len(place(f"sqlite:///{base}?table=posts")) > 0


def test_a_database_in_a_folder_gives_all_its_tables(base: Path) -> None:
    found = [item for source in find(base.parent).sources for item in read(source)]
    assert good(found) == {"forum.db:notes:1": "a note"}
    assert bad(found) == {"forum.db:numbers": "no text", "forum.db:posts": "no text"}
    (base.parent / "forum.db").write_bytes(b"SQLite format 3\0" + bytes(5000))
    assert list(bad(items(base)).values()) == ["damaged"]
    (base.parent / "forum.db").write_bytes(b"no database at all")
    assert bad(items(base)) == {"forum.db": "damaged"}


def test_names_that_are_not_there_are_refused(base: Path) -> None:
    with pytest.raises(DataError, match="no table 'nowhere'"):
        place(f"sqlite:///{base}?table=nowhere")
    with pytest.raises(DataError, match="no column 'nowhere'"):
        place(f"sqlite:///{base}?table=posts&text=nowhere")
    with pytest.raises(DataError, match="no such file"):
        place("sqlite:///nowhere.db?table=posts")
    with pytest.raises(DataError, match="a table and a query"):
        place(f"sqlite:///{base}?table=posts&query=SELECT+1")


# Other databases


def test_other_databases_are_read_through_sqlalchemy(base: Path) -> None:
    pytest.importorskip("sqlalchemy")
    url = f"sqlite+pysqlite:///{base}"
    with sqlite3.connect(base) as connection:
        connection.execute("DELETE FROM posts WHERE id > 2")
    found = place(f"{url}?table=posts&text=body")
    assert good(found) == {"forum.db:posts:posts:1": "one"}
    assert list(bad(found).values()) == ["bad line"]
    assert list(good(place(f"{url}?query=SELECT+text+FROM+notes")).values()) == ["a note"]
    with pytest.raises(DataError, match="no table"):
        place(f"{url}?table=nowhere")
    with pytest.raises(DataError, match="the database refuses"):
        place(f"{url}?query=SELEKT")


def test_passwords_stay_out_of_messages_and_ids() -> None:
    pytest.importorskip("sqlalchemy")
    url = "postgresql://reader:hush@127.0.0.1:1/forum?table=posts&text=body"
    (source,) = open_place(url).sources
    assert "hush" not in f"{source.name} {source.path}"
    with pytest.raises((DataError, ResourceError)) as caught:
        list(read(source))
    assert "hush" not in str(caught.value)


# The hub


@pytest.fixture
def made_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A hub of one data set; its rows come through the real library, from a file."""
    import huggingface_hub

    datasets = pytest.importorskip("datasets")

    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "one", "body": "eins"}\n{"text": "two", "body": null}\n')
    asked: list[dict[str, Any]] = []
    load = datasets.load_dataset

    def load_dataset(name: str, config: str | None, **options: Any) -> Any:
        asked.append({"name": name, "config": config, **options})
        return load("json", data_files=str(path), split="train", streaming=options["streaming"])

    info = SimpleNamespace(sha="abc123", card_data=SimpleNamespace(license="mit"))
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name, revision=None: info)
    return asked


def test_a_data_set_of_the_hub_is_streamed_and_pinned(made_hub: list[dict[str, Any]]) -> None:
    (source,) = open_place("hf://owner/name?config=en&split=test&text=body").sources
    assert source.name == "owner/name:en:test"
    assert source.licence == "mit"
    assert "revision=abc123" in (source.url or "")
    found = list(read(source))
    assert found == [
        Document("owner/name:en:test:1", source.name, "eins", "text", "mit"),
        Dropped("owner/name:en:test:2", "bad line", "no text under body"),
    ]
    assert made_hub == [
        {"name": "owner/name", "config": "en", "split": "test", "revision": "abc123", "streaming": True}
    ]
    assert [item.text for item in place("hf://owner/name") if isinstance(item, Document)] == ["one", "two"]
    with pytest.raises(DataError, match="no column 'nowhere'"):
        place("hf://owner/name?text=nowhere")


def test_a_hub_that_cannot_be_reached_is_one_line() -> None:
    with pytest.raises(DataError, match="did you mean 'split'"):
        open_place("hf://owner/name?splt=train")
    with pytest.raises(DataError, match="no data set's name"):
        open_place("hf://a/b/c")
    with pytest.raises(ResourceError, match="the hub does not give it") as caught:  # tests are offline
        hub.open_hub("hf://owner/name")
    assert "\n" not in str(caught.value)
