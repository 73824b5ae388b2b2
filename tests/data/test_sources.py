"""Finding and reading files, among them many that are not what they should be."""

from __future__ import annotations

import ast
import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from ingot.data import sources
from ingot.data.document import Document, Dropped
from ingot.data.library import library_name, standard_library
from ingot.data.sources import Source, find, read
from ingot.errors import DataError


def items(path: Path) -> list[Document | Dropped]:
    return list(read(Source(path, path.name)))


def one(path: Path, content: bytes) -> Document | Dropped:
    path.write_bytes(content)
    (item,) = items(path)
    return item


def test_files_are_found_in_order_of_their_relative_paths(tmp_path: Path) -> None:
    names = ["b.txt", "a/z.md", "a/b/c.PY", "a.rst", "x.jsonl.gz", "y.jsonl", "z.parquet"]
    others = ["a/image.png", "README", ".hidden.txt", ".git/config.py", "__pycache__/x.py", "archive.gz"]
    for name in names + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nowhere")
    found = find(tmp_path)
    assert [source.name for source in found.sources] == sorted(names)
    assert found.others == {".png": 1, "no suffix": 1, ".gz": 1}
    assert find(tmp_path / "b.txt").sources == [Source(tmp_path / "b.txt", "b.txt")]


def test_places_with_nothing_to_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        find(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no file of a kind that is read"):
        find(tmp_path)
    (tmp_path / "a.png").write_text("x")
    with pytest.raises(DataError, match="it holds 1 other"):
        find(tmp_path)
    with pytest.raises(DataError, match=r"'\.png' files are not read"):
        find(tmp_path / "a.png")


def test_a_folder_or_file_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("x")

    def refuse(path: object, *rest: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("os.scandir", refuse)
        with pytest.raises(DataError, match="Permission denied") as caught:
            find(tmp_path)
    assert str(tmp_path) in str(caught.value)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match="Permission denied") as caught:
        items(tmp_path / "a.txt")
    assert "a.txt" in str(caught.value)


@pytest.mark.parametrize(("name", "kind"), sources.PLAIN.items())
def test_plain_files_are_one_document(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / f"naïve{name}"
    assert one(path, "é\r\n日本".encode()) == Document(path.name, path.name, "é\r\n日本", kind)


def test_declared_encodings_are_read_and_others_are_not(tmp_path: Path) -> None:
    cookie = b"# -*- coding: latin-1 -*-\nname = 'caf\xe9'\n"
    read_cookie = one(tmp_path / "a.py", cookie)
    assert isinstance(read_cookie, Document)
    assert "café" in read_cookie.text
    utf16 = one(tmp_path / "a.txt", "naïve".encode("utf-16"))
    assert isinstance(utf16, Document)
    assert utf16.text == "naïve"
    for name, content in [
        ("b.txt", cookie),
        ("b.py", b"name = 'caf\xe9'"),
        ("c.py", b"# coding: nonsense\n"),
        ("d.py", b"# coding: utf-8\n'caf\xe9'"),
        ("e.md", b"\xff\xfeodd"),
    ]:
        dropped = one(tmp_path / name, content)
        assert isinstance(dropped, Dropped), name
        assert (dropped.path, dropped.reason) == (name, "encoding")


def test_binary_files_are_dropped(tmp_path: Path) -> None:
    assert one(tmp_path / "a.txt", b"ab\0cd") == Dropped("a.txt", "binary", "NUL byte at 2")
    assert isinstance(one(tmp_path / "b.txt", b"padded\0\0\0"), Document)


LINES = [
    b"\xef\xbb\xbf" + json.dumps({"text": "first"}).encode(),
    b'{"content": "second", "text": null}',
    b"",
    b'{"text": "broken',
    b'["text"]',
    b'{"body": "x"}',
    b'{"text": "caf\xe9"}',
    b"[" * 100_000,
    b'{"text": "\\ud800 last"}',
]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_lines_are_documents_and_bad_ones_are_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    content = b"\n".join(LINES)
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    found = items(path)
    good = {item.id: item.text for item in found if isinstance(item, Document)}
    name = path.name
    assert good == {f"{name}:1": "first", f"{name}:2": "second", f"{name}:9": "\ud800 last"}
    bad = {item.path: item.reason for item in found if isinstance(item, Dropped)}
    assert bad == {f"{name}:{line}": "bad line" for line in (4, 5, 6, 7, 8)}
    assert {item.source for item in found if isinstance(item, Document)} == {name}


def test_a_truncated_gzip_gives_what_it_holds_and_says_so(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"text": f"row {index} {index**9}"}) + "\n" for index in range(5000))
    data = gzip.compress(rows.encode())
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(data[: len(data) // 2])
    *documents, last = items(path)
    assert all(isinstance(item, Document) for item in documents)
    assert isinstance(last, Dropped)
    assert last.reason == "damaged"
    assert one(tmp_path / "b.jsonl.gz", b"not gzip").reason == "damaged"  # type: ignore[union-attr]


def test_parquet_rows_are_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"n": range(3), "content": ["one", None, "three"]})
    pyarrow.parquet.write_table(table, path)
    assert items(path) == [
        Document("a.parquet:1", "a.parquet", "one", "text"),
        Dropped("a.parquet:2", "bad line", "no text under content"),
        Document("a.parquet:3", "a.parquet", "three", "text"),
    ]
    pyarrow.parquet.write_table(table.select(["n"]), path)
    assert items(path) == [Dropped("a.parquet", "no text", "its columns are n")]
    assert one(path, b"PAR1 nonsense").reason == "damaged"  # type: ignore[union-attr]
    assert one(path, b"").reason == "damaged"  # type: ignore[union-attr]


def test_the_standard_library_is_itself() -> None:
    found = standard_library()
    names = {source.name for source in found.sources}
    assert {"ast.py", "json/decoder.py", "asyncio/base_events.py"} <= names
    assert not names & {"pydoc_data/topics.py", "token.py", "keyword.py"}
    for name in names:
        parts = set(name.split("/"))
        assert not parts & {"site-packages", "test", "tests", "idle_test", "encodings"}
        assert "_sysconfigdata" not in name
    assert "Python 3." in library_name()
    size = sum(source.path.stat().st_size for source in found.sources)
    assert 5e6 < size < 20e6
    text = next(source for source in found.sources if source.name == "ast.py").path.read_text()
    assert ast.parse(text)
