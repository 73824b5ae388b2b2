"""Token shards: all documents of the training split as one long row of ids on disk.

tokens/train.bin           ids, little-endian, two bytes each where the vocabulary allows, else four;
                           documents one after another, each beginning with BOS
tokens/train.offsets.bin   int64: where each document begins, and last the number of tokens
tokens/index.json          dtype, tokens, documents

The file is mapped into memory, not read: a corpus larger than memory trains as well.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ingot.atomic import write_atomic
from ingot.data.document import Document
from ingot.errors import ArtifactError
from ingot.progress import Progress
from ingot.tokenizer import Tokenizer

TOKENS, IDS, OFFSETS, INDEX = "tokens", "train.bin", "train.offsets.bin", "index.json"
_BATCH = 256
_THREADS = 4


def write_shards(
    folder: Path, documents: Iterable[Document], tokenizer: Tokenizer, progress: Progress | None = None
) -> Tokens:
    """Encodes documents and writes their shards.

    Args:
        folder: the artifact's folder; the files go to `tokens/` in it.
        documents: in the order in which they are to lie on disk.
        tokenizer: encodes them.
        progress: shows how far it is.

    Returns:
        The tokens, opened.
    """
    target = folder / TOKENS
    target.mkdir(parents=True, exist_ok=True)
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")
    offsets = [0]
    total = len(documents) if isinstance(documents, list) else None
    with (
        open(target / IDS, "wb") as file,
        (progress or Progress()).task("encoding", total=total, unit="documents") as task,
    ):
        for ids in _encode(documents, tokenizer, dtype):
            file.write(ids.tobytes())
            offsets.append(offsets[-1] + len(ids))
            task.advance(1, f"{offsets[-1] / 1e6:.2f} M tokens")
    np.asarray(offsets, dtype="<i8").tofile(target / OFFSETS)
    index = {"dtype": dtype.name, "tokens": offsets[-1], "documents": len(offsets) - 1}
    write_atomic(target / INDEX, json.dumps(index, indent=2) + "\n")
    return Tokens.open(folder)


def _encode(
    documents: Iterable[Document], tokenizer: Tokenizer, dtype: np.dtype[Any]
) -> Iterator[NDArray[Any]]:
    """The ids of every document, in order; tiktoken works outside Python's lock, so threads help."""

    def encode(document: Document) -> NDArray[Any]:
        return np.array([tokenizer.bos_id, *tokenizer.encode(document.text)], dtype=dtype)

    rest = iter(documents)
    with ThreadPoolExecutor(_THREADS) as pool:
        while batch := list(itertools.islice(rest, _BATCH)):
            yield from pool.map(encode, batch)


@dataclass(frozen=True)
class Tokens:
    """The token shards of a training split.

    Args:
        tokens: [n] uint16 or uint32, mapped from disk.
        offsets: [documents + 1] int64; document i is `tokens[offsets[i] : offsets[i + 1]]`.
    """

    tokens: NDArray[Any]
    offsets: NDArray[np.int64]

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Opens the shards of a tokenizer artifact.

        Raises:
            ArtifactError: a file is missing, or not as long as the index says.
        """
        target = Path(folder) / TOKENS
        fix = "run the tokenizer stage again"
        try:
            index = json.loads((target / INDEX).read_text(encoding="utf-8"))
            dtype = np.dtype(index["dtype"]).newbyteorder("<")
            offsets = np.fromfile(target / OFFSETS, dtype="<i8")
            size = (target / IDS).stat().st_size
            wanted, documents = index["tokens"], index["documents"]
        except OSError as error:
            what = f"cannot be read ({error.strerror})"
            raise ArtifactError(what, where=error.filename, fix=fix) from None
        except (ValueError, KeyError, TypeError):
            raise ArtifactError("is damaged", where=target / INDEX, fix=fix) from None
        if size != wanted * dtype.itemsize:
            what = f"holds {size:,} bytes where {wanted * dtype.itemsize:,} belong"
            raise ArtifactError(what, where=target / IDS, fix=fix)
        if len(offsets) != documents + 1 or offsets[0] != 0 or offsets[-1] != wanted:
            raise ArtifactError("does not fit the tokens", where=target / OFFSETS, fix=fix)
        if wanted == 0:
            return cls(np.empty(0, dtype=dtype), offsets)
        return cls(np.memmap(target / IDS, dtype=dtype, mode="r"), offsets)

    def __len__(self) -> int:
        return len(self.tokens)

    def document(self, index: int) -> NDArray[Any]:
        """Returns the ids of one document, BOS first."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]
