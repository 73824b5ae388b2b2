"""Lineage: from a token or training document back to where it came from, and a corpus without some sources.

```
token of the shards -> document of the training split -> source, licence, row of a file
source              -> the corpus without it -> everything made from a corpus that holds it
```
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ingot.artifact import INPUTS, Artifact, artifacts, latest
from ingot.data import card, tables
from ingot.data.corpus import (
    COUNTS,
    SIDES,
    CorpusWriter,
    Input,
    Location,
    SplitName,
    document_at,
    document_shards,
    iterate_ledger,
    read_counts,
)
from ingot.data.document import Dropped
from ingot.data.shards import Tokens
from ingot.data.units import excluded
from ingot.errors import ArtifactError, DataError

DUPLICATES = {"exact duplicate": "the same as ", "near duplicate": " with "}
"""Rules whose detail names another document, after these words."""

_OWN = ("documents", "bytes", "sources", "kinds", "languages", "licences", "dropped", "rules")
_OWN_INPUTS = ("files", "bytes_read")


class Traced(NamedTuple):
    """Where a training document, or a token in it, came from.

    Args:
        number: of the document in the training split, from 0.
        location: the document and where it lies.
        token: the token's place within the document, where one was asked for; BOS is 0.
    """

    number: int
    location: Location
    token: int | None = None


def corpus_of(folder: Path) -> Path:
    """Returns the corpus of a folder: itself, or the newest one of a run.

    Raises:
        ArtifactError: there is none.
    """
    if (folder / COUNTS).is_file():
        return folder
    found = latest(folder, "corpus")
    if found is None:
        raise ArtifactError("holds no corpus", where=folder, fix="give a run folder such as runs/demo")
    return found.path


def find(run: Path, number: int, token: bool = False) -> Traced:
    """Finds where a document or a token of a run came from.

    Args:
        run: the run folder.
        number: of a document of the training split, or of a token in the row of all tokens.
        token: which of the two. Tokens are those of the newest shards, and their corpus is meant.

    Raises:
        ArtifactError: there is no such document or token, or no corpus.
    """
    if not token:
        return trace(corpus_of(run), number)
    tokenizer = latest(run, "tokenizer")
    if tokenizer is None:
        raise ArtifactError("holds no tokens", where=run, fix="run the tokenizer stage")
    corpus = tokenizer.record.parents.get("prepare", {}).get("address", "corpus")
    return trace_token(run / corpus, tokenizer.path, number)


def duplicate_rate(counts: Mapping[str, Any]) -> float:
    """Returns the share of duplicates among the documents that passed all other rules."""
    duplicates = sum(counts["dropped"].get(reason, 0) for reason in DUPLICATES)
    passed = sum(counts["documents"].values()) + duplicates
    return duplicates / passed if passed else 0.0


def trace(corpus: Path, index: int) -> Traced:
    """Finds a document of the training split.

    Raises:
        ArtifactError: there are fewer.
    """
    return Traced(index, document_at(corpus, "train", index))


def trace_token(corpus: Path, tokenizer: Path, offset: int) -> Traced:
    """Finds the document that a token of the shards belongs to.

    Args:
        corpus: that the tokens were made from.
        tokenizer: artifact with the shards.
        offset: of the token in the row of all tokens.

    Raises:
        ArtifactError: there are fewer tokens, or the corpus is not what the tokens were made from.
    """
    tokens = Tokens.open(tokenizer)
    if not 0 <= offset < len(tokens):
        what = f"has {len(tokens):,} tokens and none at {offset:,}"
        raise ArtifactError(what, where=tokenizer, fix="give a smaller offset")
    index = int(np.searchsorted(tokens.offsets, offset, side="right")) - 1
    found = trace(corpus, index)
    return found._replace(token=offset - int(tokens.offsets[index]))


class Removed(NamedTuple):
    """What a corpus lost.

    Args:
        sources: their names, in order.
        documents: by side.
        bytes: by side.
        orphans: documents that were dropped as duplicates of removed ones, and stay dropped.
    """

    sources: list[str]
    documents: dict[SplitName, int]
    bytes: dict[SplitName, int]
    orphans: int


def without(corpus: Path, folder: Path, patterns: Sequence[str], name: str) -> Removed:
    """Writes a corpus again without some of its sources: their documents, ledger entries and inputs.

    All other documents keep their side and order. Nothing is read but the corpus itself.

    Args:
        corpus: the artifact.
        folder: where the new one goes, already there.
        patterns: of sources, as in `excluded`.
        name: of the corpus, for its card.

    Raises:
        DataError: no source is one of those named, or nothing would be left.
    """
    inputs = list(read_inputs(corpus))
    gone = {one.name for one in inputs if excluded(one.name, patterns)}
    documents: dict[SplitName, int] = {}
    sizes: dict[SplitName, int] = {}
    with CorpusWriter(folder) as writer:
        for side in SIDES:
            documents[side], sizes[side] = _copy(corpus, side, patterns, gone, writer)
        if not gone:
            fix = "see: ingot data inspect"
            raise DataError(f"holds no source {' or '.join(patterns)}", where=corpus, fix=fix)
        orphans = 0
        for one in iterate_ledger(corpus):
            if _belongs(one.path, gone) or excluded(one.path, patterns):
                continue
            orphans += _original(one) is not None and _belongs(str(_original(one)), gone)
            writer.drop(one)
        for source in sorted(gone):
            writer.drop(Dropped(source, "removed", "on request"))
    counts = read_counts(corpus)
    more = {key: value for key, value in counts.items() if key not in (*_OWN, *_OWN_INPUTS, "other_files")}
    left = [one for one in inputs if one.name not in gone]
    counts = writer.finish(left, counts["other_files"], more)
    if counts["documents"]["train"] == 0:
        raise DataError("nothing to train on would be left", where=corpus, fix="remove less")
    (folder / card.CARD).write_text(card.card(name, counts), encoding="utf-8")
    return Removed(sorted(gone), documents, sizes, orphans)


def read_inputs(corpus: Path) -> Iterator[Input]:
    """Reads which files a corpus was made from."""
    with open(corpus / INPUTS, encoding="utf-8") as file:
        for line in file:
            yield Input(**json.loads(line))


def stale(run: Path, addresses: Sequence[str]) -> list[Artifact]:
    """Returns everything in a run folder that was made from one of these artifacts, in order of time."""
    found: list[Artifact] = []
    reached = set(addresses)
    for one in artifacts(run):
        if any(parent["address"] in reached for parent in one.record.parents.values()):
            reached.add(one.address)
            found.append(one)
    return found


def described(traced: Traced) -> dict[str, Any]:
    """Returns where a document came from as plain data, its text left out."""
    document, shard, row = traced.location
    known = dataclasses.asdict(document)
    del known["text"]
    found: dict[str, Any] = {"document": traced.number, **known, "file": shard.name, "row": row}
    return found if traced.token is None else {**found, "token": traced.token}


def _copy(
    corpus: Path, side: SplitName, patterns: Sequence[str], gone: set[str], writer: CorpusWriter
) -> tuple[int, int]:
    """Copies the documents of one side that stay; returns how many do not, and their bytes."""
    import pyarrow

    documents = size = 0
    for path in document_shards(corpus, side):
        for batch in tables.batches(path):
            sources = batch.column("source").to_pylist()
            keep = np.array([not (one in gone or excluded(one, patterns)) for one in sources])
            gone.update(one for one, stays in zip(sources, keep, strict=True) if not stays)
            documents += int((~keep).sum())
            size += int(batch.column("bytes").to_numpy()[~keep].sum())
            writer.add_batch(batch.filter(pyarrow.array(keep)), side)
    return documents, size


def _belongs(id: str, sources: set[str]) -> bool:
    """Whether an id is that of a source in the set, or of a document in one: `source:row`, `source#part`."""
    while True:
        if id in sources:
            return True
        cut = max(id.rfind(":"), id.rfind("#"))
        if cut < 0:
            return False
        id = id[:cut]


def _original(one: Dropped) -> str | None:
    """The document that a dropped one repeats, if that is why it was dropped."""
    words = DUPLICATES.get(one.reason)
    return None if words is None else one.detail.partition(words)[2]
