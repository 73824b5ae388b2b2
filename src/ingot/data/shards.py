"""Writing token shards: encoding on all cores, a little text in memory, and no finished shard made twice.

```
documents --read ahead a little--> encoded side by side --in their order--> parts/00000, parts/00001, ...
                                                          each published whole: what a kill leaves is kept
all parts --renamed--> train.bin, train-00001.bin, ...    --> index.json, which says that all is there
```

What the files hold says `tokens.py`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ingot import device
from ingot.atomic import publish, sweep, write_atomic
from ingot.data.document import Document
from ingot.data.origins import GROUP, Origin, Origins, as_batch, schema
from ingot.data.tokens import FORMAT, INDEX, OFFSETS, TOKENS, Tokens, stem
from ingot.errors import ArtifactError, DataError
from ingot.progress import Progress, Task

__all__ = ["TOKENS", "Encoded", "Tokens", "write_encoded", "write_shards"]

SHARD_TOKENS = 1 << 28
"""Tokens of a file, about: a shard ends with the document that reaches this number."""

SHARD_DOCUMENTS = 1 << 20
"""Documents of a file at most: what is known of each is in memory until its shard is written."""

_PARTS, _ABOUT = "parts", "about.json"
_BATCH_CHARACTERS, _BATCH_DOCUMENTS = 1 << 19, 512  # of what one worker encodes at a time
_FIX = "delete that folder to begin anew"


class Encodes(Protocol):
    """What is asked of a tokenizer; `compiled = False` says that threads cannot share its work."""

    vocab_size: int

    @property
    def bos_id(self) -> int:
        """Id of the token that begins every document."""
        ...

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without BOS."""
        ...


class Encoded(NamedTuple):
    """A document as tokens.

    Args:
        ids: [n] unsigned integers, BOS first.
        origin: of the document.
        taught: [n] bool, which tokens are to be learnt; None means all.
    """

    ids: NDArray[Any]
    origin: Origin
    taught: NDArray[np.bool_] | None = None


_Work = Callable[[list[Document]], list[Encoded]]
_work: _Work | None = None  # of a process that encodes


def write_shards(
    folder: Path,
    documents: Iterable[Document],
    tokenizer: Encodes,
    progress: Progress | None = None,
    *,
    made_by: str | None = None,
    workers: int | None = None,
    total: int | None = None,
) -> Tokens:
    """Encodes documents and writes their shards.

    Args:
        folder: the artifact's folder; the files go to `tokens/` in it.
        documents: in the order in which they are to lie on disk; read a few at a time.
        tokenizer: encodes them.
        progress: shows how far it is.
        made_by: names tokenizer and corpus, by a hash of them. Shards that an earlier call finished under
            the same name are kept, and their documents skipped; None begins anew.
        workers: that encode; None is one for each core.
        total: documents, for the progress, where only the caller knows.

    Returns:
        The tokens, opened.

    Raises:
        ArtifactError: the documents are not those that the finished shards were made of.
    """
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")
    total = len(documents) if isinstance(documents, Sequence) else total
    with (progress or Progress()).task("encoding", total=total, unit="documents") as task:
        parts = _Parts(folder / TOKENS, dtype, made_by)
        rest = parts.skip(documents, task)
        _write(parts, _encode(rest, tokenizer, dtype, workers), task)
    return Tokens.open(folder)


def write_encoded(
    folder: Path, encoded: Iterable[Encoded], vocabulary: int, progress: Progress | None = None
) -> Tokens:
    """Writes shards of documents that are tokens already, with or without loss masks.

    Args:
        folder: the artifact's folder; the files go to `tokens/` in it.
        encoded: in order; either all of them have a mask or none has.
        vocabulary: ids are below it.
        progress: shows how far it is.

    Raises:
        DataError: some have a mask and others have none, or a mask is not as long as its tokens.
    """
    dtype = np.dtype("<u2" if vocabulary <= 2**16 else "<u4")
    with (progress or Progress()).task("writing tokens", unit="documents") as task:
        _write(_Parts(folder / TOKENS, dtype, None), iter(encoded), task)
    return Tokens.open(folder)


def _write(parts: _Parts, encoded: Iterator[Encoded], task: Task) -> None:
    first = next(encoded, None)
    while first is not None:
        first = parts.write(first, encoded, task)
    parts.finish()


class _Parts:
    """The shards that are finished, each in a folder of its own, and those to come."""

    def __init__(self, target: Path, dtype: np.dtype[Any], made_by: str | None) -> None:
        self.target, self.folder, self.dtype = target, target / _PARTS, dtype
        self.name = f"{dtype.name} {made_by}"
        (target / INDEX).unlink(missing_ok=True)
        self.done: list[dict[str, Any]] = []
        if made_by is not None:
            while (about := self._about(len(self.done))) is not None and about["name"] == self.name:
                self.done.append(about)
        if not self.done:
            shutil.rmtree(target, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        for late in sorted(self.folder.iterdir())[len(self.done) :]:
            shutil.rmtree(late)
        self.tokens = sum(one["tokens"] for one in self.done)

    def skip(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        """Returns the documents that are in no finished shard.

        Raises:
            ArtifactError: those before them are not what the shards were made of.
        """
        rest = iter(documents)
        counts = [one["documents"] for one in self.done]
        known = Origins([self._file(number, "parquet") for number in range(len(counts))], counts)
        for number in range(len(known)):
            document = next(rest, None)
            if document is None or Origin.of(document).hash != known[number].hash:
                what = f"document {number:,} is not the one that these shards were made of"
                raise ArtifactError(what, where=self.target, fix=_FIX)
            task.advance(1, f"{self.tokens / 1e6:.2f} M tokens, made before")
        return rest

    def write(self, first: Encoded, rest: Iterator[Encoded], task: Task) -> Encoded | None:
        """Makes one shard of documents, and returns the first that is left for the next."""
        import pyarrow.parquet

        lengths: list[int] = []
        waiting: list[Origin] = []
        count, current = 0, first
        masked = bool(self.done[0]["masks"]) if self.done else first.taught is not None
        following: Encoded | None = None
        with publish(self.folder / f"{len(self.done):05d}") as aside:
            with (
                open(aside / "bin", "wb", buffering=1 << 20) as ids,
                open(aside / "mask.bin", "wb", buffering=1 << 20) as masks,
                pyarrow.parquet.ParquetWriter(aside / "parquet", schema(), compression="zstd") as table,
            ):
                while True:
                    _check(current, masked)
                    ids.write(current.ids.astype(self.dtype, copy=False).tobytes())
                    if current.taught is not None:
                        masks.write(current.taught.astype("u1").tobytes())
                    lengths.append(len(current.ids))
                    waiting.append(current.origin)
                    count += len(current.ids)
                    task.advance(1, f"{(self.tokens + count) / 1e6:.2f} M tokens")
                    following = next(rest, None)
                    if following is None or count >= SHARD_TOKENS or len(lengths) >= SHARD_DOCUMENTS:
                        break
                    if len(waiting) == GROUP:
                        table.write_batch(as_batch(waiting), row_group_size=GROUP)
                        waiting.clear()
                    current = following
                table.write_batch(as_batch(waiting), row_group_size=GROUP)
            if not masked:
                (aside / "mask.bin").unlink()
            np.asarray(lengths, dtype="<i8").tofile(aside / "lengths.bin")
            about = {"name": self.name, "tokens": count, "documents": len(lengths), "masks": masked}
            (aside / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        self.done.append(about)
        self.tokens += count
        return following

    def finish(self) -> None:
        """Gives all files their final names, and writes what ties them together."""
        at = 0
        with open(self.target / OFFSETS, "wb") as offsets:
            np.zeros(1, "<i8").tofile(offsets)
            for number in range(len(self.done)):
                lengths = np.fromfile(self.folder / f"{number:05d}" / "lengths.bin", dtype="<i8")
                ends = at + np.cumsum(lengths, dtype="<i8")
                ends.tofile(offsets)
                at = int(ends[-1])
            offsets.flush()
            os.fsync(offsets.fileno())
        for number in range(len(self.done)):
            for kind in ("bin", "mask.bin", "parquet"):
                made = self.folder / f"{number:05d}" / kind
                if made.exists():  # not yet renamed by a call that was killed here
                    made.replace(self.target / f"{stem(number)}.{kind}")
        if not self.done:
            self._nothing()
        index = {
            "format": FORMAT,
            "dtype": self.dtype.name,
            "tokens": self.tokens,
            "documents": sum(one["documents"] for one in self.done),
            "masks": any(one["masks"] for one in self.done),
            "shards": [{name: one[name] for name in ("tokens", "documents")} for one in self.done]
            or [{"tokens": 0, "documents": 0}],
        }
        write_atomic(self.target / INDEX, json.dumps(index, indent=2) + "\n")
        shutil.rmtree(self.folder)

    def _nothing(self) -> None:
        """Writes the files of no documents at all."""
        import pyarrow.parquet

        (self.target / f"{stem(0)}.bin").touch()
        pyarrow.parquet.write_table(schema().empty_table(), self.target / f"{stem(0)}.parquet")

    def _file(self, number: int, kind: str) -> Path:
        made = self.folder / f"{number:05d}" / kind
        return made if made.exists() else self.target / f"{stem(number)}.{kind}"

    def _about(self, number: int) -> dict[str, Any] | None:
        try:
            text = (self.folder / f"{number:05d}" / _ABOUT).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        about: dict[str, Any] = json.loads(text)
        return about


def _check(document: Encoded, masked: bool) -> None:
    if (document.taught is not None) != masked:
        fix = "give all documents a mask, or none"
        raise DataError("some documents have loss masks and others none", where=document.origin.id, fix=fix)
    if document.taught is not None and len(document.taught) != len(document.ids):
        what = f"a mask of {len(document.taught)} for {len(document.ids)} tokens"
        raise DataError(what, where=document.origin.id)


def _encode(
    documents: Iterator[Document], tokenizer: Encodes, dtype: np.dtype[Any], workers: int | None
) -> Iterator[Encoded]:
    """The documents as tokens, in order, a few batches being read and encoded ahead of the writer."""
    workers = workers or device.cores()
    if workers == 1:
        for batch in _batches(documents):
            yield from _encoded(tokenizer, dtype, batch)
        return
    with _pool(tokenizer, dtype, workers) as (pool, work):
        ahead: deque[Future[list[Encoded]]] = deque()
        for batch in _batches(documents):
            ahead.append(pool.submit(work, batch))
            if len(ahead) > 2 * workers:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= _BATCH_CHARACTERS or len(batch) == _BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _encoded(tokenizer: Encodes, dtype: np.dtype[Any], batch: list[Document]) -> list[Encoded]:
    return [
        Encoded(np.array([tokenizer.bos_id, *tokenizer.encode(one.text)], dtype=dtype), Origin.of(one))
        for one in batch
    ]


@contextmanager
def _pool(tokenizer: Encodes, dtype: np.dtype[Any], workers: int) -> Iterator[tuple[Executor, _Work]]:
    """Threads for a tokenizer that works outside Python's lock, as tiktoken does, else processes."""
    if getattr(tokenizer, "compiled", True):
        with ThreadPoolExecutor(workers, "encode") as threads:
            yield threads, partial(_encoded, tokenizer, dtype)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _adopt, (tokenizer, dtype)) as processes:
        yield processes, _encoded_there


def _adopt(*tools: Any) -> None:
    global _work
    _work = partial(_encoded, *tools)


def _encoded_there(batch: list[Document]) -> list[Encoded]:
    assert _work is not None
    return _work(batch)
