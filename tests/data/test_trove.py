"""Our steps under datatrove's local executor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

pytest.importorskip("datatrove")
pytest.importorskip("ftfy")

from datatrove.data import Document as TroveDocument
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter

from ingot.data.cleaning import Cleaning
from ingot.data.document import Document, Dropped
from ingot.data.trove import CleaningStep, DocumentStep, from_trove, to_trove

ROWS: list[dict[str, str | int]] = [
    {"id": "one", "text": "schÃ¶n, write to me@example.com", "source": "a.html", "stars": 3},
    {"id": "two", "text": "spam and ham " * 40, "stars": 2},
    {"id": "three", "text": "x = 'schÃ¶n'", "kind": "python", "licence": "MIT", "stars": 1},
    {"id": "four", "text": "  ", "stars": 0},
]
METADATA = ("source", "kind", "licence", "stars")


def adapt(self: object, row: dict[str, object], path: str, place: int) -> dict[str, object]:
    """A row of parquet as datatrove wants it."""
    return {"id": row["id"], "text": row["text"], "metadata": {key: row[key] for key in METADATA}}


def read(folder: Path) -> dict[str, dict[str, object]]:
    rows = [row for path in sorted(folder.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]
    return {row["id"]: row for row in rows}


def split_in_two(document: Document) -> list[Document | Dropped]:
    """One document in, two out, or one and a reason."""
    first, _, second = document.text.partition(" ")
    rest = Document(document.id + ":2", document.source, second, document.kind)
    return [
        Document(document.id + ":1", document.source, first, document.kind),
        rest if second else Dropped(rest.id, "no blank", "one word"),
    ]


def test_cleaning_runs_under_the_local_executor(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for part in (0, 1):
        table = pyarrow.Table.from_pylist([dict.fromkeys(METADATA, "") | row for row in ROWS[part::2]])
        parquet.write_table(table, tmp_path / "in" / f"{part}.parquet")
    cleaning = Cleaning.parse({"preset": "own"})
    dropped_to, kept_to = (
        ParquetWriter(str(tmp_path / name), "${rank}.parquet") for name in ("dropped", "out")
    )
    executor = LocalPipelineExecutor(
        pipeline=[
            ParquetReader(str(tmp_path / "in"), glob_pattern="*.parquet", adapter=adapt),
            CleaningStep(cleaning, exclusion_writer=dropped_to),
            kept_to,
        ],
        tasks=2,
        workers=1,
        logging_dir=str(tmp_path / "log"),
    )
    stats = executor.run()
    kept, dropped = read(tmp_path / "out"), read(tmp_path / "dropped")
    cleaner = cleaning.build()
    for row in ROWS:
        given = Document(str(row["id"]), "", str(row["text"]), str(row.get("kind", "web")))
        expected = cleaner.clean(given)
        if isinstance(expected, Document):
            assert kept[given.id]["text"] == expected.text
        else:
            metadata = dropped[given.id]["metadata"]
            assert isinstance(metadata, dict)
            assert metadata["filter_reason"] == expected.reason
            value = "" if expected.value is None else f"{expected.value:.6g}"
            assert metadata["filter_value"] == value
    assert sorted(kept) == ["one", "three"] and sorted(dropped) == ["four", "two"]
    metadata = kept["one"]["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["stars"] == 3 and metadata["kind"] == "web" and metadata["source"] == "a.html"
    counted = stats.stats[1].stats
    assert counted["total"].total == 4 and counted["forwarded"].total == 2
    assert counted["dropped_empty"].total == 1


def test_any_function_of_a_document_is_a_step() -> None:
    step = DocumentStep(split_in_two, "split", kind="text")
    given = [
        TroveDocument(text="one two", id="a"),
        TroveDocument(text="one", id="b", metadata={"kind": "wiki"}),
    ]
    made = list(step(iter(given)))
    assert [(one.id, one.text, one.metadata["kind"]) for one in made] == [
        ("a:1", "one", "text"),
        ("a:2", "two", "text"),
        ("b:1", "one", "wiki"),
    ]
    assert step.stats.stats["dropped_no blank"].total == 1
    assert list(step(None)) == []
    assert "split" in repr(step)


def test_a_document_there_and_back() -> None:
    ours = Document("a", "b.txt", "text", "wiki", "CC0-1.0", "de")
    given = TroveDocument(text="", id="", metadata={"more": 1})
    assert from_trove(to_trove(ours, given)) == ours
    assert to_trove(ours, given).metadata["more"] == 1
    assert (
        from_trove(TroveDocument(text="t", id="i", metadata={"url": "https://x.y"})).source == "https://x.y"
    )


def test_without_datatrove_the_import_says_so() -> None:
    program = "import sys; sys.modules['datatrove.data'] = None; import ingot.data.trove"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "ResourceError: ingot.data.trove: the package 'datatrove' is missing; pip install" in done.stderr
