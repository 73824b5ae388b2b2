"""The corpus artifact: clean documents in their split, what they came from, and what was dropped.

documents/train-00000.parquet, ...     what is trained on: columns as in `tables.py`, one row per document
documents/heldout-00000.parquet, ...   what is measured on
ledger/00000.parquet, ...              everything that was dropped: rule, value, threshold, text
inputs.jsonl                           path, sha256, bytes and name of every file that was read, so that
                                       `verify` can look again
counts.json                            documents and bytes by split, kind, language, licence; dropped by rule
README.md                              the data card: all this for people
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ingot.artifact import INPUTS
from ingot.atomic import write_atomic
from ingot.data import tables
from ingot.data.dedup import text_hash
from ingot.data.document import Document, Dropped
from ingot.data.holdout import Split
from ingot.data.tables import Table
from ingot.data.tally import SIDES, SplitName, Tally
from ingot.errors import ArtifactError

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "SIDES",
    "CorpusWriter",
    "Document",
    "Dropped",
    "Input",
    "Location",
    "SplitName",
    "document_at",
    "document_shards",
    "finish",
    "iterate_documents",
    "iterate_ledger",
    "read_counts",
    "read_documents",
    "read_ledger",
    "summary",
    "write_corpus",
]

DOCUMENTS, LEDGER, COUNTS = "documents", "ledger", "counts.json"

SHARD = 256 * 2**20
"""Bytes of text after which the next shard begins."""


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """A file that was read: absolute path, hash of its content, bytes, and the name of its documents."""

    path: str
    sha256: str
    bytes: int
    name: str = ""


class _Shards:
    """Tables of one kind, the next one begun when one is full."""

    def __init__(self, stem: str, folder: Path, schema: pyarrow.Schema) -> None:
        self._stem, self._folder, self._schema = stem, folder, schema
        self._table: Table | None = None
        self._number = self._size = 0
        folder.mkdir(exist_ok=True)

    def table(self, size: int) -> Table:
        """The table for rows with so many bytes of text."""
        if self._table is not None and self._size + size > SHARD:
            self.close()
        if self._table is None:
            self._table = Table(self._folder / f"{self._stem}{self._number:05d}.parquet", self._schema)
            self._number, self._size = self._number + 1, 0
        self._size += size
        return self._table

    def begin(self) -> None:
        """Sees to it that there is a file, if only an empty one."""
        if self._number == 0:
            self.table(0)

    def close(self, *error: object) -> None:
        if self._table is not None:
            self._table.__exit__(*(error or (None,)))
            self._table = None


class CorpusWriter:
    """Writes a corpus, document by document or table by table, and counts what it writes.

    The documents of one source come one after another, as they do from `find` and `read`.

    Args:
        folder: where to, already there.

    Example:
        >>> with CorpusWriter(folder) as writer:                                # doctest: +SKIP
        ...     writer.add(document, "train")
        ...     writer.drop(Dropped("b.txt", "empty", "nothing but blanks"))
        >>> counts = writer.finish(inputs, others={})                           # doctest: +SKIP
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        schema = tables.document_schema()
        self._documents = {side: _Shards(f"{side}-", folder / DOCUMENTS, schema) for side in SIDES}
        self._ledger = _Shards("", folder / LEDGER, tables.ledger_schema())
        self._tally = Tally()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for shards in (*self._documents.values(), self._ledger):
            shards.close(*error)

    def add(self, document: Document, side: SplitName) -> None:
        """Adds one document."""
        row = tables.document_row(document, text_hash(document.text))
        self._documents[side].table(self._tally.add_row(row, side)).add(row)

    def add_batch(self, batch: pyarrow.RecordBatch, side: SplitName) -> None:
        """Adds documents that are a table's rows already."""
        if batch.num_rows:
            size = self._tally.add(batch, side)
            self._documents[side].table(size).add_batch(batch, size)

    def drop(self, one: Dropped) -> None:
        """Adds an entry to the ledger."""
        self._ledger.table(self._tally.drop(one)).add(tables.ledger_row(one))

    @property
    def dropped(self) -> Counter[str]:
        """How many entries the ledger has so far, by reason."""
        return self._tally.dropped

    def finish(
        self, inputs: Iterable[Input], others: Mapping[str, int], more: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Writes `inputs.jsonl` and `counts.json`, once all documents are in; see `finish`."""
        for side in SIDES:
            self._documents[side].begin()
        self.__exit__(None)
        return finish(self._folder, self._tally, inputs, others, more)


def finish(
    folder: Path,
    tally: Tally,
    inputs: Iterable[Input],
    others: Mapping[str, int],
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes `inputs.jsonl` and `counts.json` of a corpus whose tables are there.

    Args:
        folder: of the corpus.
        tally: of its tables.
        inputs: the files that were read.
        others: how many files of kinds that are not read, by suffix.
        more: further entries of `counts.json`.

    Returns:
        The counts, as in `counts.json`.
    """
    files = size = 0
    with open(folder / INPUTS, "w", encoding="utf-8") as file:
        for one in inputs:
            file.write(json.dumps(dataclasses.asdict(one)) + "\n")
            files, size = files + 1, size + one.bytes
    counts = {
        "files": files,
        "bytes_read": size,
        **tally.counts(),
        "other_files": dict(sorted(others.items())),
        **(more or {}),
    }
    write_atomic(folder / COUNTS, json.dumps(counts, indent=2, ensure_ascii=False) + "\n")
    return counts


def write_corpus(
    folder: Path, split: Split, inputs: Iterable[Input], ledger: Iterable[Dropped], others: Mapping[str, int]
) -> dict[str, Any]:
    """Writes a corpus that is in memory.

    Args:
        folder: where to, already there.
        split: the documents.
        inputs: the files that were read.
        ledger: what was dropped.
        others: how many files of kinds that are not read, by suffix.

    Returns:
        The counts, as in `counts.json`.
    """
    with CorpusWriter(folder) as writer:
        for document in split.train:
            writer.add(document, "train")
        for document in split.heldout:
            writer.add(document, "heldout")
        for one in ledger:
            writer.drop(one)
    return writer.finish(inputs, others)


def document_shards(corpus: Path | str, split: SplitName) -> list[Path]:
    """Returns the files of one side, in order.

    Raises:
        ArtifactError: there are none.
    """
    folder = Path(corpus) / DOCUMENTS
    found = sorted(folder.glob(f"{split}-*.parquet"))
    if not found:
        raise ArtifactError(
            "no such file", where=folder / f"{split}-00000.parquet", fix="run the prepare stage"
        )
    return found


def iterate_documents(corpus: Path | str, split: SplitName) -> Iterator[Document]:
    """Reads one side of a corpus, in the order of its paths, a few megabytes at a time.

    Args:
        corpus: the artifact's folder.
        split: "train" or "heldout".

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    return tables.documents(document_shards(corpus, split))


def read_documents(corpus: Path | str, split: SplitName) -> list[Document]:
    """Reads one side of a corpus into memory, in the order of its paths.

    Args:
        corpus: the artifact's folder.
        split: "train" or "heldout".

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    return list(iterate_documents(corpus, split))


class Location(NamedTuple):
    """A document and where it lies: `row` of the file `shard`."""

    document: Document
    shard: Path
    row: int


def document_at(corpus: Path | str, split: SplitName, index: int) -> Location:
    """Reads one document of a side by its index, without reading the others.

    Raises:
        ArtifactError: a file is missing or damaged, or there are fewer documents.
    """
    rest = index
    for path in document_shards(corpus, split) if index >= 0 else ():
        with tables.opened(path) as file:
            before = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if rest < rows:
                    with tables.guarded(path):
                        table = file.read_row_group(group, list(tables.DOCUMENT_TEXTS))
                        values = table.slice(rest, 1).to_pylist()[0]
                    return Location(Document(**values), path, before + rest)
                rest, before = rest - rows, before + rows
    fix = "give a smaller index"
    raise ArtifactError(f"has no {split} document {index:,}", where=corpus, fix=fix)


def iterate_ledger(corpus: Path | str) -> Iterator[Dropped]:
    """Reads what was dropped, a few megabytes at a time."""
    return tables.dropped(sorted((Path(corpus) / LEDGER).glob("*.parquet")))


def read_ledger(corpus: Path | str) -> list[Dropped]:
    """Reads what was dropped into memory."""
    return list(iterate_ledger(corpus))


def read_counts(corpus: Path | str) -> dict[str, Any]:
    """Reads `counts.json`.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    path = Path(corpus) / COUNTS
    try:
        counts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            "no such file", where=path, fix="give a corpus, such as runs/demo/corpus@1"
        ) from None
    except ValueError as error:
        raise ArtifactError(f"is damaged ({error})", where=path, fix="run the prepare stage again") from None
    return counts


def summary(counts: Mapping[str, Any]) -> dict[str, int]:
    """Returns the main numbers of `counts.json`, as an artifact's record keeps them."""
    return {
        "files": counts["files"],
        "documents": counts["documents"]["train"],
        "bytes": counts["bytes"]["train"],
        "heldout_documents": counts["documents"]["heldout"],
        "heldout_bytes": counts["bytes"]["heldout"],
        "dropped": sum(counts["dropped"].values()),
    }
