"""Stage prepare: files in, a clean corpus out; the work itself is in `data/prepare.py`."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, field_validator, model_validator

from ingot.artifact import content_hash, file_hash
from ingot.config import Config
from ingot.data.cleaning import Cleaning
from ingot.data.conversations import code_of, mine_code
from ingot.data.corpus import summary
from ingot.data.decontaminate import Contamination, Item
from ingot.data.document import Document
from ingot.data.evaluations import read_items
from ingot.data.library import library_name, standard_library
from ingot.data.prepare import Order, prepare
from ingot.data.readers.reading import Reading
from ingot.data.sources import Found, Source, open_place
from ingot.data.treatment import Treatment
from ingot.data.units import Seen, excluded
from ingot.data.verdicts import Deduplication
from ingot.data.workers import cores
from ingot.errors import DataError
from ingot.pipeline import Context
from ingot.progress import Progress

PACKED = (".gz", ".zst", ".bz2", ".xz", ".parquet", ".docx", ".epub")
"""Suffixes of files whose text is several times as large as they are."""

_UNPACKED = 4
_SPARE = 2**20


class SourceConfig(Config):
    """One named source of a corpus.

    Args:
        path: a folder, glob, file, URL, database, hub data set or the name of a public corpus.
        weight: how often it is drawn from when a model is trained, relative to the other sources.
        licence: of everything in it; None is what its files say.
    """

    path: str
    weight: float = Field(default=1.0, gt=0)
    licence: str | None = None


class PrepareConfig(Config):
    """What to make the corpus from, and how.

    Args:
        data: a folder, glob, file, URL, database, hub data set or the name of a public corpus (see
            docs/data.md); None is the running Python's standard library, unless there are `sources`.
        sources: named sources in place of `data`: name -> path, or path, weight and licence. Documents'
            sources begin with the name.
        exclude: sources to leave out: paths as the corpus names them, folders of them, or globs.
        cleaning: what is done to each document and by which rules it is judged (docs/data.md): "web",
            "own", or settings of one's own; by default, line ends are made uniform and no more.
        heldout: share of the files that is kept for evaluation.
        near_duplicates: drop a document whose word 5-grams overlap with an earlier one's by this Jaccard
            similarity or more; None drops exact copies only.
        paragraphs: take out paragraphs of so many characters or more that came before; None leaves them.
        substrings: take out runs of so many characters or more that came before; None leaves them.
        decontaminate: JSON lines of evaluation items (prompt and answer) whose texts must not be trained
            on, beside what `ingot evaluate` asks of the held-out files; None looks for none at all.
        max_documents: use a sample of this many documents, the same ones each time; None is all.
        per_source: stop reading a source (a file, a data set) after so many documents, for data sets that
            are too large to be read whole; None reads all.
        min_bytes: drop shorter documents.
        reading: how files are read, and the limits that hostile ones run into.
        workers: processes that read and clean; None is one for each core. Does not change the result.
    """

    data: str | None = None
    sources: dict[str, SourceConfig] = Field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    cleaning: Cleaning = Cleaning()
    heldout: float = Field(default=0.1, gt=0, le=0.5)
    near_duplicates: float | None = Field(default=0.8, gt=0, le=1)
    paragraphs: int | None = Field(default=None, ge=1)
    substrings: int | None = Field(default=None, ge=1)
    decontaminate: tuple[str, ...] | None = ()
    max_documents: int | None = Field(default=None, ge=1)
    per_source: int | None = Field(default=None, ge=1)
    min_bytes: int = Field(default=32, ge=1)
    reading: Reading = Reading()
    workers: int | None = Field(default=None, ge=1)

    @field_validator("sources", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """Lets a recipe write `notes: ~/notes` where only the path matters."""
        if isinstance(value, dict):
            return {name: {"path": one} if isinstance(one, str) else one for name, one in value.items()}
        return value

    @field_validator("cleaning", mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        """Lets a recipe write `cleaning: own`, or nothing at all."""
        if value is None:
            return {}
        return {"preset": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_place(self) -> PrepareConfig:
        if self.data is not None and self.sources:
            raise ValueError("data and sources are both given; name the data as one of the sources")
        for name in self.sources:
            if not name or "/" in name:
                raise ValueError(f"the source name {name!r} is empty or has a '/'")
        return self


class _Found(NamedTuple):
    """What a place holds, its files hashed."""

    seen: list[Seen]
    others: Counter[str]
    skipped: Counter[str]


class Prepare:
    """Makes the corpus artifact; its files are described in `data/corpus.py`."""

    name = "prepare"
    artifact = "corpus"
    kind = "corpus"
    needs: tuple[str, ...] = ()
    indifferent = ("workers",)

    def __init__(self, config: PrepareConfig) -> None:
        self.config = config
        self._progress = Progress()

    def watch(self, progress: Progress) -> None:
        """Has downloads and hashing, which come before the stage runs, shown."""
        self._progress = progress

    def identity(self) -> dict[str, Any]:
        """The content of all files that would be read: another byte is another corpus.

        What is no file (a hub data set, a table of a database server) is known by its address alone.

        Raises:
            DataError: there is nothing to read.
        """
        inputs = ((one.name, one.sha256, one.url) for one in self._seen)
        found = {"sources": identity_of(inputs)}
        if self._sets:
            found["evaluation_sets"] = content_hash({name: list(items) for name, items in self._sets.items()})
        return found

    def disk_needed(self) -> int:
        """Bytes that the artifact and the work take at most, about: twice the text, compressed."""
        return sum(one.size * _growth(one.path) for one in self._seen) + _SPARE

    def run(self, context: Context) -> None:
        """Writes the corpus to `context.folder`.

        Raises:
            DataError: nothing to read, or too little to train on.
        """
        config = self.config
        licences = {name: one.licence for name, one in config.sources.items() if one.licence is not None}
        contamination = Contamination.of(self._sets) if self._sets else None
        least = max(config.min_bytes, config.cleaning.min_bytes)
        cleaner = config.cleaning.model_copy(update={"min_bytes": least}).build()
        treatment = Treatment(
            context.work, cleaner, contamination, licences, config.reading, config.per_source
        )
        repeats = Deduplication(
            config.near_duplicates, config.paragraphs, config.substrings, config.min_bytes
        )
        order = Order(
            name=self._name,
            sources=self._seen,
            others=self._found.others,
            treatment=treatment,
            deduplication=repeats,
            heldout=config.heldout,
            max_documents=config.max_documents,
            workers=config.workers or cores(),
            seed=context.seed,
            examiner=None if config.decontaminate is None else asked_of,
            more={
                "name": self._name,
                "addresses": {one.name: one.url for one in self._seen if one.url is not None},
                "named_sources": {name: one.plain() for name, one in config.sources.items()},
                "evaluation_sets": {name: len(items) for name, items in self._sets.items()},
                "skipped": dict(self._found.skipped),
            },
        )
        made = prepare(order, context.folder, context.work, context.progress)
        context.notes += made.notes
        context.metrics |= summary(made.counts)

    @property
    def _name(self) -> str:
        """What to call the corpus."""
        if self.config.sources:
            return ", ".join(self.config.sources)
        return library_name() if self.config.data is None else located(self.config.data)

    @functools.cached_property
    def _found(self) -> _Found:
        config = self.config
        if config.sources:
            found = _together({name: self._open(one.path) for name, one in config.sources.items()})
        else:
            found = standard_library() if config.data is None else self._open(config.data)
        sources = found.sources
        sources.reverse()
        seen = []
        with self._progress.task("looking at the files", len(sources), "files") as task:
            while sources:  # which gives their memory back one by one
                source = sources.pop()
                if not excluded(source.name, config.exclude):
                    seen.append(_seen(source))
                task.advance()
        if not seen:
            raise DataError("every source is excluded", where=self._name, fix="exclude less")
        return _Found(seen, found.others, found.skipped)

    def _open(self, place: str) -> Found:
        return open_place(located(place), progress=self._progress)

    @property
    def _seen(self) -> list[Seen]:
        return self._found.seen

    @functools.cached_property
    def _sets(self) -> dict[str, list[Item]]:
        if self.config.decontaminate is None:
            return {}
        return {path: read_items(Path(path).expanduser()) for path in self.config.decontaminate}


def asked_of(heldout: Iterable[Document]) -> list[Item]:
    """Returns what `ingot evaluate` asks of held-out documents: their functions, as question and answer.

    It knows no other sets today: bits per byte are of the held-out files themselves, which are not trained
    on, nor near copies of them. A fixed set, once there is one, belongs among those of `decontaminate`.
    """
    return [Item(one.prompt, code_of(one)) for one in mine_code(heldout)]


def identity_of(inputs: Iterable[tuple[str, str | None, str | None]]) -> str:
    """Returns the hash that stands for sources: of the name, the content's hash and the address of each."""
    return content_hash([[name, " ".join(filter(None, (digest, url)))] for name, digest, url in inputs])


def located(place: str) -> str:
    """Returns a place with the full path, where it is one: URLs and names of the catalogue stay.

    Example:
        >>> located("tinyshakespeare@"), located("/data/../texts")
        ('tinyshakespeare@', '/texts')
    """
    if "://" in place or place.endswith("@"):
        return place
    return os.path.abspath(Path(place).expanduser())


def _together(named: dict[str, Found]) -> Found:
    """Several places as one, each source's name behind that of its place."""
    sources: list[Source] = []
    others: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for name, found in named.items():
        sources += [dataclasses.replace(one, name=f"{name}/{one.name}") for one in found.sources]
        others += found.others
        skipped += found.skipped
    return Found(sorted(sources, key=lambda one: one.name), others, skipped)


def _seen(source: Source) -> Seen:
    path = os.fspath(source.path)
    if source.url is not None and not source.path.is_file():
        return Seen(path, source.name, source.licence, source.url)
    try:
        status = os.stat(path)
        digest = bytes.fromhex(file_hash(path)) if status.st_size else hashlib.sha256().digest()
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise DataError(what, where=path, fix="give read permission or move it away") from None
    return Seen(path, source.name, source.licence, source.url, status.st_size, status.st_mtime_ns, digest)


def _growth(path: str) -> int:
    return _UNPACKED if path.lower().endswith(PACKED) else 1
