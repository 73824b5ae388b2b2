"""Reading rows: JSON lines, JSON arrays, parquet, CSV."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data.document import Document, Dropped
from ingot.data.sources import Reading, Source, read

Item = Document | Dropped


def items(path: Path, **settings: Any) -> list[Item]:
    return list(read(Source(path, path.name), Reading(**settings)))


def good(found: list[Item]) -> dict[str, str]:
    return {item.id: item.text for item in found if isinstance(item, Document)}


def bad(found: list[Item]) -> dict[str, str]:
    return {item.path: item.reason for item in found if isinstance(item, Dropped)}


# JSON lines


def test_a_line_over_the_limit_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    long = json.dumps({"text": "x" * 3_000_000})
    path.write_text(f'{{"text": "one"}}\n{long}\n{{"text": "three"}}\n{long}')
    found = items(path, max_document_bytes=1_000_000)
    assert good(found) == {"a.jsonl:1": "one", "a.jsonl:3": "three"}
    assert bad(found) == {"a.jsonl:2": "too large", "a.jsonl:4": "too large"}
    sizes = [item.value for item in found if isinstance(item, Dropped)]
    assert sizes == [len(long) + 1, len(long)]


def test_other_keys_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "no", "body": "yes"}\n{"text": "only"}\n')
    found = items(path, text_keys=("body",))
    assert (good(found), bad(found)) == ({"a.jsonl:1": "yes"}, {"a.jsonl:2": "bad line"})


# JSON arrays

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES | st.fixed_dictionaries({"text": st.text()}), max_size=8), st.sampled_from([None, 1]))
def test_arrays_are_read_as_the_json_module_reads_them(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], indent: int | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    content = json.dumps(rows, indent=indent, ensure_ascii=False)
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        assert [item.reason for item in items(path) if isinstance(item, Dropped)][-1:] == ["encoding"]
        return
    found = items(path)
    assert len(found) == len(rows)
    expected = {
        f"any.json:{number}": row.get("text", row.get("content"))
        for number, row in enumerate(rows, start=1)
        if isinstance(row, dict) and isinstance(row.get("text", row.get("content")), str)
    }
    assert good(found) == expected


def test_a_large_array_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with open(path, "w") as file:
        file.write("[")
        for index in range(120):
            file.write(("," if index else "") + json.dumps({"text": f"{index} " + "é" * 100_000}))
        file.write("]\n")
    tracemalloc.start()
    try:
        count = sum(isinstance(item, Document) for item in read(Source(path, "a.json")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 120
    assert peak < 6e6  # of 24e6 in the file


def test_one_large_value_and_a_packed_array_that_breaks_off(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": "x" * 20_000_000}, {"text": "last"}]))
    assert [len(text) for text in good(items(path)).values()] == [20_000_000, 4]
    packed = tmp_path / "a.json.gz"
    whole = gzip.compress(json.dumps([{"text": f"{index} {index**20}"} for index in range(20_000)]).encode())
    packed.write_bytes(whole[: len(whole) // 2])
    found = items(packed)
    assert len(good(found)) > 8000
    assert bad(found) == {"a.json.gz": "damaged"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'[{"text": "a"}, {"text": ', "damaged"),
        (b'[{"text": "a"}; {"text": "b"}]', "damaged"),
        (b'[{"text": "a"}] more', "damaged"),
        (b'[{"text": "a"}, nonsense]', "damaged"),
        (b'[{"text": "a"}, ' + b"[" * 100_000, "damaged"),
        (b'[{"text": "a"}, ' + b"1" * 5000 + b"]", "damaged"),
        (b'[{"text": "a"}, {"text": "caf\xe9"}]', "encoding"),
        (b'[{"text": "a"}', "damaged"),
    ],
)
def test_broken_arrays_are_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    found = items(path)
    assert bad(found) == {"a.json": reason}
    assert set(good(found)) <= {"a.json:1"}
    path.write_bytes(b"nonsense at the start " + b"x" * 300_000)
    assert bad(items(path, max_document_bytes=1000)) == {"a.json": "damaged"}


def test_other_json_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "package.json"
    path.write_text('{"name": "x"}')
    assert bad(items(path)) == {"package.json": "no text"}
    path.write_text('{"text": "one document"}\n')
    assert good(items(path)) == {"package.json": "one document"}
    path.write_text("")
    assert bad(items(path)) == {"package.json": "damaged"}
    path.write_text('[{"text": "' + "x" * 2_000_000 + '"}]')
    assert bad(items(path, max_document_bytes=1_000_000)) == {"package.json": "too large"}


# Parquet


def test_a_truncated_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": [os.urandom(50).hex() for _ in range(5000)]}), path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert bad(items(path)) == {"a.parquet": "damaged"}
    path.write_bytes(data[: len(data) // 3] + bytes(1000) + data[len(data) // 3 + 1000 :])
    assert list(bad(items(path)).values()) == ["damaged"]


def test_parquet_columns_beside_nested_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"meta": [{"a": 1, "b": [2]}] * 3, "text": ["x", "y", "z"], "n": [1, 2, 3]})
    pyarrow.parquet.write_table(table, path)
    assert list(good(items(path)).values()) == ["x", "y", "z"]


def test_a_parquet_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"text": ["x" * 1_000_000 + str(index) for index in range(40)]})
    pyarrow.parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    assert bad(items(path)) == {"a.parquet": "zip bomb"}
    small = pyarrow.table({"text": ["x" * 100, "y"]})
    pyarrow.parquet.write_table(small, path)
    found = items(path, max_document_bytes=50)
    assert (good(found), bad(found)) == ({"a.parquet:2": "y"}, {"a.parquet:1": "too large"})


def test_a_repeated_value_is_never_a_thousand_times_in_memory(tmp_path: Path) -> None:
    """A dictionary page holds one text; two thousand rows point to it."""
    path = tmp_path / "a.parquet"
    value = os.urandom(2_000_000).hex()
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 400, pyarrow.int32()), [value])
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), path, compression="zstd")
    tracemalloc.start()
    try:
        found = read(Source(path, "a.parquet"), Reading(max_unpacked_bytes=20_000_000))
        count = sum(item.text == value for item in found if isinstance(item, Document))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 400
    assert peak < 100e6  # of 1600e6
    assert pyarrow.default_memory_pool().max_memory() < 400e6


# CSV


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30), max_size=6
    )
)
def test_tables_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tsv"
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter="\t", quoting=csv.QUOTE_ALL)
    writer.writerows([["n", "text"], *([number, text] for number, text in enumerate(texts))])
    path.write_bytes(sink.getvalue().encode("utf-8"))
    assert list(good(items(path)).values()) == texts


def test_bad_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [
        "\ufeffid,text",
        "1,one",
        "2",
        "",
        '3,"a ""quoted"" line\nand more"',
        "4,x,y",
        '5,"odd"quote',
        "6,six",
    ]
    path.write_text("\n".join(rows), encoding="utf-8")
    found = items(path)
    assert good(found) == {"a.csv:1": "one", "a.csv:3": 'a "quoted" line\nand more', "a.csv:6": "six"}
    assert bad(found) == {"a.csv:2": "bad line", "a.csv:4": "bad line", "a.csv:5": "bad line"}
    path.write_bytes(b"id,text\n1,caf\xe9\n2,two\n")
    found = items(path)
    assert (good(found), bad(found)) == ({"a.csv:2": "two"}, {"a.csv:1": "encoding"})
    assert good(items(path, encoding="latin-1")) == {"a.csv:1": "café", "a.csv:2": "two"}
    path.write_text('id,text\n1,"never closed\n2,two\n3,three\n')
    assert bad(items(path)) == {"a.csv:1": "bad line"}
    path.write_text("a,b\n1,2\n")
    assert bad(items(path)) == {"a.csv": "no text"}
    path.write_text("review\nfine\n")
    assert good(items(path)) == {"a.csv:1": "fine"}
    path.write_bytes("text\nx".encode("utf-16"))
    assert bad(items(path)) == {"a.csv": "encoding"}
    path.write_text("")
    assert items(path) == []
