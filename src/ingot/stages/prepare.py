"""Stage prepare: files in, a clean corpus out: read, clean, drop duplicates, split, write, and say why."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from ingot.artifact import content_hash, file_hash
from ingot.config import Config
from ingot.data.clean import clean, objection
from ingot.data.corpus import Input, write_corpus
from ingot.data.dedup import Duplicate, exact_duplicates, near_duplicates
from ingot.data.document import Document, Dropped
from ingot.data.holdout import Split, hold_out, sample
from ingot.data.library import library_name, standard_library
from ingot.data.sources import Found, Source, find, read
from ingot.errors import DataError
from ingot.pipeline import Context
from ingot.progress import Progress

SMALLEST_CORPUS = 20_000
"""Bytes of training text below which there is nothing to learn from."""


class PrepareConfig(Config):
    """What to make the corpus from, and how.

    Args:
        data: a folder or a file; None is the running Python's standard library.
        heldout: share of the files that is kept for evaluation.
        near_duplicates: drop a document whose word 5-grams overlap with an earlier one's by this Jaccard
            similarity or more; None drops exact copies only.
        max_documents: use a sample of this many documents, the same ones each time; None is all.
        min_bytes: drop shorter documents.
    """

    data: str | None = None
    heldout: float = Field(default=0.1, gt=0, le=0.5)
    near_duplicates: float | None = Field(default=0.8, gt=0, le=1)
    max_documents: int | None = Field(default=None, ge=1)
    min_bytes: int = Field(default=32, ge=1)


class Prepare:
    """Makes the corpus artifact; its files are described in `data/corpus.py`."""

    name = "prepare"
    artifact = "corpus"
    kind = "corpus"
    needs: tuple[str, ...] = ()

    def __init__(self, config: PrepareConfig) -> None:
        self.config = config

    def identity(self) -> dict[str, Any]:
        """The content of all files that would be read: another byte is another corpus.

        Raises:
            DataError: there is nothing to read.
        """
        return {"sources": content_hash([(source.name, one.sha256) for source, one in self._inputs])}

    def disk_needed(self) -> int:
        """Bytes that the artifact takes at most, about: the text once, compressed or not."""
        return sum(one.bytes for _, one in self._inputs) + 2**20

    def run(self, context: Context) -> None:
        """Writes the corpus to `context.folder`.

        Raises:
            DataError: nothing to read, or too little to train on.
        """
        ledger: list[Dropped] = []
        documents = self._read(context.progress, ledger)
        if self.config.max_documents is not None and len(documents) > self.config.max_documents:
            total = len(documents)
            documents = sample(documents, self.config.max_documents)
            context.notes.append(f"A sample of {len(documents):,} of {total:,} documents was used.")
        documents = self._without_duplicates(documents, context, ledger)
        split = self._split(documents, ledger)
        inputs = [one for _, one in self._inputs]
        counts = write_corpus(context.folder, split, inputs, ledger, self._found.others)
        context.notes += self._notes(split, ledger)
        context.metrics |= {
            "files": counts["files"],
            "documents": counts["documents"]["train"],
            "bytes": counts["bytes"]["train"],
            "heldout_documents": counts["documents"]["heldout"],
            "heldout_bytes": counts["bytes"]["heldout"],
            "dropped": len(ledger),
        }

    @functools.cached_property
    def _found(self) -> Found:
        return standard_library() if self.config.data is None else find(self._place)

    @property
    def _place(self) -> Path:
        return Path(os.path.abspath(Path(self.config.data or "").expanduser()))

    @functools.cached_property
    def _inputs(self) -> list[tuple[Source, Input]]:
        return [(source, _fingerprint(source)) for source in self._found.sources]

    def _read(self, progress: Progress, ledger: list[Dropped]) -> list[Document]:
        """All clean documents, in order of their paths."""
        documents: list[Document] = []
        total = sum(one.bytes for _, one in self._inputs) / 1e6
        with progress.task("reading", total=total, unit="MB") as task:
            for source, one in self._inputs:
                for item in read(source):
                    kept = self._cleaned(item) if isinstance(item, Document) else item
                    if isinstance(kept, Document):
                        documents.append(kept)
                    else:
                        ledger.append(kept)
                task.advance(one.bytes / 1e6, f"{len(documents):,} documents")
        return documents

    def _cleaned(self, document: Document) -> Document | Dropped:
        text = clean(document.text)
        wrong = objection(text, self.config.min_bytes)
        if wrong is not None:
            return Dropped(document.id, *wrong)
        return Document(document.id, document.source, text, document.kind)

    def _without_duplicates(
        self, documents: list[Document], context: Context, ledger: list[Dropped]
    ) -> list[Document]:
        threshold = self.config.near_duplicates
        exact = exact_duplicates([document.text for document in documents])
        documents = _without(documents, exact, ledger, "exact duplicate", lambda one: "the same as ")
        if threshold is None:
            return documents
        with context.progress.task("finding near-duplicates", len(documents), "documents") as task:
            texts = [document.text for document in documents]
            near = near_duplicates(texts, threshold, context.seed, task)
        return _without(
            documents, near, ledger, "near duplicate", lambda one: f"similarity {one.similarity:.3f} with "
        )

    def _split(self, documents: list[Document], ledger: Sequence[Dropped]) -> Split:
        where = library_name() if self.config.data is None else self._place
        fix = "give more text, or leave the data out to use Python's standard library"
        if not documents:
            raise DataError(f"the corpus is empty{_because(ledger)}", where=where, fix=fix)
        split = hold_out(documents, self.config.heldout)
        size = sum(len(document.text.encode("utf-8")) for document in split.train)
        if size < SMALLEST_CORPUS:
            what = f"{size:,} bytes of training text are too few, {SMALLEST_CORPUS:,} are needed"
            raise DataError(what + _because(ledger), where=where, fix=fix)
        return split

    def _notes(self, split: Split, ledger: Sequence[Dropped]) -> list[str]:
        where = library_name() if self.config.data is None else str(self._place)
        notes = [f"The corpus is {where}."]
        if ledger:
            notes.append(f"Dropped {len(ledger):,}: {_reasons(ledger)}; each is in the ledger.")
        others = self._found.others
        if others:
            listed = ", ".join(f"{count:,} {suffix}" for suffix, count in others.most_common(6))
            notes.append(f"Files that were not read: {listed}.")
        return notes if split.note is None else [*notes, split.note]


def _fingerprint(source: Source) -> Input:
    try:
        return Input(str(source.path), file_hash(source.path), source.path.stat().st_size)
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise DataError(what, where=source.path, fix="give read permission or move it away") from None


def _without(
    documents: Sequence[Document],
    duplicates: Sequence[Duplicate],
    ledger: list[Dropped],
    reason: str,
    detail: Callable[[Duplicate], str],
) -> list[Document]:
    """The documents that repeat no other; the rest go to the ledger."""
    for one in duplicates:
        ledger.append(Dropped(documents[one.index].id, reason, detail(one) + documents[one.of].id))
    gone = {one.index for one in duplicates}
    return [document for index, document in enumerate(documents) if index not in gone]


def _reasons(ledger: Sequence[Dropped]) -> str:
    counts = Counter(one.reason for one in ledger).most_common()
    return ", ".join(f"{count:,} {reason}" for reason, count in counts)


def _because(ledger: Sequence[Dropped]) -> str:
    return f" (dropped: {_reasons(ledger)})" if ledger else ""
