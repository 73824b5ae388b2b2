"""Token shards: all documents of the training split as one long row of ids on disk.

tokens/train.bin           ids, little-endian, two bytes each where the vocabulary allows, else four;
                           documents one after another, each beginning with BOS
tokens/train-00001.bin     goes on where a file would become too large
tokens/train.offsets.bin   int64: where in the row each document begins, and last the number of tokens
tokens/train.mask.bin      where there are loss masks: one byte for each token, 1 for those to be learnt
tokens/train.parquet       for each document: id, source, kind, licence, language, hash of its text
tokens/index.json          format, dtype, tokens, documents, shards (tokens and documents of each file)

The files stay where they are (`stored.py`): a corpus larger than memory trains as well. Folders of the first
format have one file of ids and no table; they are read like all others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ingot.data.origins import Origins
from ingot.data.stored import Stored
from ingot.errors import ArtifactError

TOKENS, IDS, OFFSETS, INDEX = "tokens", "train.bin", "train.offsets.bin", "index.json"
FORMAT = 2

_FIX = "run the tokenizer stage again"
_WIDTHS: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}


@dataclass(frozen=True)
class Tokens:
    """The token shards of a training split.

    Args:
        tokens: [n] uint16 or uint32, an array, or `Stored` on disk, which is cut like one.
        offsets: [documents + 1] int64; document i is `tokens[offsets[i] : offsets[i + 1]]`.
        taught: [n] uint8, 1 for tokens that are to be learnt; None means all.
        origins: of each document, where they are known.
    """

    tokens: NDArray[Any] | Stored
    offsets: NDArray[np.int64]
    taught: NDArray[Any] | Stored | None = None
    origins: Origins | None = None

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Opens the shards of a tokenizer artifact.

        Raises:
            ArtifactError: a file is missing, not as long as the index says, or of a later format.
        """
        target = Path(folder) / TOKENS
        try:
            index = json.loads((target / INDEX).read_text(encoding="utf-8"))
            written, wanted, documents = int(index.get("format", 1)), index["tokens"], index["documents"]
            dtype: np.dtype[Any] = _WIDTHS[index["dtype"]]
            shards = index.get("shards", [{"tokens": wanted, "documents": documents}])
            counts = [(int(one["tokens"]), int(one["documents"])) for one in shards]
            masked = bool(index.get("masks", False))
        except OSError as error:
            what = f"cannot be read ({error.strerror})"
            raise ArtifactError(what, where=error.filename, fix=_FIX) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ArtifactError("is damaged", where=target / INDEX, fix=_FIX) from None
        if written > FORMAT:
            what = f"is of format {written}; this version reads formats up to {FORMAT}"
            raise ArtifactError(what, where=target / INDEX, fix="update ingot, or " + _FIX)
        stems = [stem(number) for number in range(len(shards))]
        ids = _stored(target, [f"{one}.bin" for one in stems], dtype, [one for one, _ in counts])
        taught = None
        if masked:
            names = [f"{one}.mask.bin" for one in stems]
            taught = _stored(target, names, np.dtype("u1"), [one for one, _ in counts])
        origins = None
        if written > 1:
            origins = Origins([target / f"{one}.parquet" for one in stems], [one for _, one in counts])
        return cls(ids, _offsets(target / OFFSETS, documents, wanted), taught, origins)

    def __len__(self) -> int:
        return len(self.tokens)

    def document(self, index: int) -> NDArray[Any]:
        """Returns the ids of one document, BOS first."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def at(self, token: int) -> int:
        """Returns the document that a token belongs to.

        Raises:
            IndexError: there is no such token.
        """
        token = range(len(self))[token]
        return int(np.searchsorted(self.offsets, token, side="right")) - 1


def stem(shard: int) -> str:
    """Returns what the names of a shard's files begin with."""
    return "train" if shard == 0 else f"train-{shard:05d}"


def _stored(folder: Path, names: list[str], dtype: np.dtype[Any], counts: list[int]) -> Stored:
    paths = [folder / name for name in names]
    for path, count in zip(paths, counts, strict=True):
        size = _size(path)
        if size != count * dtype.itemsize:
            what = f"holds {size:,} bytes where {count * dtype.itemsize:,} belong"
            raise ArtifactError(what, where=path, fix=_FIX)
    return Stored(paths, dtype)


def _offsets(path: Path, documents: int, tokens: int) -> NDArray[np.int64]:
    size = _size(path)
    if size != 8 * (documents + 1):
        raise ArtifactError("does not fit the tokens", where=path, fix=_FIX)
    offsets: NDArray[np.int64] = np.memmap(path, dtype="<i8", mode="r").view(np.ndarray)
    if offsets[0] != 0 or offsets[-1] != tokens:
        raise ArtifactError("does not fit the tokens", where=path, fix=_FIX)
    return offsets


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise ArtifactError(f"cannot be read ({error.strerror})", where=path, fix=_FIX) from None
