"""The corpus artifact: clean documents in their split, what they came from, and what was dropped.

documents.parquet   id, source, split ("train" or "heldout"), text, kind: one row per document
inputs.jsonl        path, sha256 and bytes of every file that was read, so that `verify` can look again
ledger.jsonl        path, reason and detail of everything that was dropped
counts.json         documents and bytes by split and kind, dropped by reason
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ingot.artifact import INPUTS
from ingot.atomic import write_atomic
from ingot.data.document import Document, Dropped
from ingot.data.holdout import Split
from ingot.errors import ArtifactError

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Document", "Input", "SplitName", "read_counts", "read_documents", "read_ledger", "write_corpus"]

DOCUMENTS, LEDGER, COUNTS = "documents.parquet", "ledger.jsonl", "counts.json"
SplitName = Literal["train", "heldout"]

_ROWS = 1024


@dataclasses.dataclass(frozen=True)
class Input:
    """A file that was read: absolute path, hash of its content, bytes."""

    path: str
    sha256: str
    bytes: int


def write_corpus(
    folder: Path, split: Split, inputs: Sequence[Input], ledger: Sequence[Dropped], others: Mapping[str, int]
) -> dict[str, Any]:
    """Writes the four files.

    Args:
        folder: where to, already there.
        split: the documents.
        inputs: the files that were read.
        ledger: what was dropped.
        others: how many files of kinds that are not read, by suffix.

    Returns:
        The counts, as in `counts.json`.
    """
    _write_documents(folder / DOCUMENTS, split)
    write_atomic(folder / INPUTS, _lines(inputs))
    write_atomic(folder / LEDGER, _lines(ledger))
    sides = {"train": split.train, "heldout": split.heldout}
    counts = {
        "files": len(inputs),
        "bytes_read": sum(one.bytes for one in inputs),
        "documents": {name: len(side) for name, side in sides.items()},
        "bytes": {name: sum(len(d.text.encode("utf-8")) for d in side) for name, side in sides.items()},
        "sources": {name: len({d.source for d in side}) for name, side in sides.items()},
        "kinds": dict(Counter(d.kind for side in sides.values() for d in side).most_common()),
        "dropped": dict(Counter(one.reason for one in ledger).most_common()),
        "other_files": dict(sorted(others.items())),
    }
    write_atomic(folder / COUNTS, json.dumps(counts, indent=2) + "\n")
    return counts


def read_documents(corpus: Path | str, split: SplitName) -> list[Document]:
    """Reads one side of a corpus, in the order of its paths.

    Args:
        corpus: the artifact's folder.
        split: "train" or "heldout".

    Raises:
        ArtifactError: `documents.parquet` is missing or damaged.
    """
    import pyarrow
    import pyarrow.parquet

    path = Path(corpus) / DOCUMENTS
    try:
        table = pyarrow.parquet.read_table(path, filters=[("split", "=", split)])
        columns = [table.column(name).to_pylist() for name in ("id", "source", "text", "kind")]
    except FileNotFoundError:
        raise ArtifactError("no such file", where=path, fix="run the prepare stage") from None
    except (OSError, KeyError, pyarrow.ArrowException) as error:
        what = f"is damaged ({str(error).splitlines()[0]})"
        raise ArtifactError(what, where=path, fix="run the prepare stage again") from None
    return [Document(*row) for row in zip(*columns, strict=True)]


def read_ledger(corpus: Path | str) -> list[Dropped]:
    """Reads what was dropped."""
    text = (Path(corpus) / LEDGER).read_text(encoding="utf-8")
    return [Dropped(**json.loads(line)) for line in text.splitlines()]


def read_counts(corpus: Path | str) -> dict[str, Any]:
    """Reads `counts.json`."""
    counts: dict[str, Any] = json.loads((Path(corpus) / COUNTS).read_text(encoding="utf-8"))
    return counts


def _lines(rows: Iterable[Input | Dropped]) -> str:
    return "".join(json.dumps(dataclasses.asdict(row), ensure_ascii=True) + "\n" for row in rows)


def _write_documents(path: Path, split: Split) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, pyarrow.string()) for name in ("id", "source", "split", "text", "kind")])
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(split, schema):
            writer.write_batch(batch)


def _batches(split: Split, schema: pyarrow.Schema) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow

    rows = itertools.chain(
        (dataclasses.asdict(one) | {"split": "train"} for one in split.train),
        (dataclasses.asdict(one) | {"split": "heldout"} for one in split.heldout),
    )
    while batch := list(itertools.islice(rows, _ROWS)):
        yield pyarrow.RecordBatch.from_pylist(batch, schema=schema)
