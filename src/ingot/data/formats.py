"""Tokens that others have written: nanoGPT's `.bin`, and Megatron's `.bin` with its `.idx`.

```
nanoGPT    name.bin    uint16, nothing else; documents end with a token of the writer's choice
Megatron   name.bin    the ids of all sequences, one after another
           name.idx    "MMIDIDX\\0\\0"   uint64 version (1)   uint8 code of the ids' type
                       uint64 sequences                     uint64 entries of the last table
                       int32 [sequences]   tokens of each
                       int64 [sequences]   where each begins in the .bin, in bytes
                       int64 [entries]     first sequence of each document, and last their number
```

Both stay where they are, and become `Tokens` like our own.

Source: nanoGPT, data/openwebtext/prepare.py; Megatron-LM, megatron/core/datasets/indexed_dataset.py.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ingot.data.stored import Stored
from ingot.data.tokens import Tokens
from ingot.errors import DataError

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1

_HEADER = struct.Struct("<QBQQ")
_TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}
_CODES = {"uint8": 1, "int32": 4, "uint16": 8}
_LLM_C = 20240520  # llm.c and modded-nanogpt begin their files by this number
_CHUNK = 1 << 22  # tokens that are looked through, or copied, at once


def open_nanogpt(path: Path | str, end_id: int | None = None) -> Tokens:
    """Opens a token file as nanoGPT's `prepare.py` writes it.

    Args:
        path: of the `.bin`.
        end_id: the token that ends a document (50256 in GPT-2's vocabulary); it stays its last token. The
            file is looked through once for it. None: the file is one document.

    Raises:
        DataError: the file is missing, or not a row of uint16.

    Example:
        >>> open_nanogpt("train.bin", end_id=50256).document(0)   # doctest: +SKIP
    """
    path = Path(path)
    size = _size(path)
    if size % 2:
        raise DataError(f"holds {size:,} bytes, which no row of uint16 has", where=path, fix="write it again")
    with open(path, "rb") as file:
        first = file.read(8)
    if len(first) == 8 and struct.unpack("<i", first[:4])[0] == _LLM_C:
        version = struct.unpack("<i", first[4:])[0]
        what = f"begins with the header of llm.c (number {_LLM_C}, version {version}), which nanoGPT has not"
        raise DataError(what, where=path, fix="take off its first 1,024 bytes where it is version 1")
    if first.startswith(MAGIC[:8]):
        raise DataError("is an index of Megatron's", where=path, fix="use open_megatron")
    tokens = Stored([path], "<u2")
    return Tokens(tokens, _ends(tokens, end_id))


def _ends(tokens: Stored, end_id: int | None) -> NDArray[np.int64]:
    """Offsets of documents that end with a token."""
    found = [np.zeros(1, np.int64)]
    if end_id is not None:
        for at in range(0, len(tokens), _CHUNK):
            found.append(at + 1 + np.flatnonzero(tokens[at : at + _CHUNK] == end_id))
    offsets = np.concatenate(found)
    return offsets if offsets[-1] == len(tokens) else np.append(offsets, len(tokens))


def write_nanogpt(tokens: Tokens, path: Path | str) -> None:
    """Writes all ids as nanoGPT reads them.

    Raises:
        DataError: the ids need more than two bytes.
    """
    if tokens.tokens.dtype.itemsize > 2:
        what = f"ids of {tokens.tokens.dtype.name} do not fit into nanoGPT's uint16"
        raise DataError(what, where=path, fix="use a vocabulary of 65,536 entries or fewer")
    with open(path, "wb") as file:
        _copy(tokens, np.dtype("<u2"), file)


def open_megatron(path: Path | str) -> Tokens:
    """Opens a data set of Megatron's.

    Args:
        path: of the `.bin`, the `.idx`, or both without their endings.

    Raises:
        DataError: a file is missing, the header is another one, or index and ids do not fit one another.
    """
    ids, index = _pair(path)
    size, room = _size(ids), _size(index)
    begin = len(MAGIC) + _HEADER.size
    with open(index, "rb") as file:
        magic, header = file.read(len(MAGIC)), file.read(_HEADER.size)
        if magic != MAGIC:
            raise DataError(f"begins with {magic!r}, not with {MAGIC!r}", where=index, fix="give an index")
        if len(header) != _HEADER.size:
            raise DataError(f"ends after {room} bytes, in its header", where=index, fix="copy it again")
        version, code, sequences, entries = _HEADER.unpack(header)
        if version != VERSION:
            raise DataError(f"is of version {version}; version {VERSION} is read", where=index)
        if code not in _TYPES:
            known = f"{min(_TYPES)} to {max(_TYPES)}"
            raise DataError(f"has type code {code}; codes {known} are known", where=index)
        dtype = np.dtype(_TYPES[code])
        if dtype.kind not in "iu" or dtype.name in ("int8", "int16"):
            raise DataError(f"has ids of {dtype.name}, which are no token ids", where=index)
        wanted = begin + 12 * sequences + 8 * entries
        if room not in (wanted, wanted + sequences):  # some have a byte for the mode of each sequence
            need = f"{sequences:,} sequences and {entries:,} documents need {wanted:,}"
            raise DataError(f"holds {room:,} bytes where {need}", where=index, fix="copy it again")
        lengths = np.fromfile(file, "<i4", sequences).astype(np.int64)
        pointers = np.fromfile(file, "<i8", sequences)
        documents = np.fromfile(file, "<i8", entries)
    places = np.concatenate([[0], np.cumsum(lengths)])
    if (lengths < 0).any() or not np.array_equal(pointers, places[:-1] * dtype.itemsize):
        raise DataError("its sequences do not lie one after another", where=index, fix="write it again")
    if size != places[-1] * dtype.itemsize:
        what = f"holds {size:,} bytes where its index has {places[-1] * dtype.itemsize:,}"
        raise DataError(what, where=ids, fix="copy it again")
    ascend = len(documents) > 0 and documents[0] == 0 and documents[-1] == sequences
    if not ascend or (np.diff(documents) < 0).any():
        raise DataError("its documents do not go through all sequences in order", where=index)
    return Tokens(Stored([ids], dtype), places[documents])


def write_megatron(tokens: Tokens, path: Path | str) -> None:
    """Writes a data set of Megatron's, each document being one sequence.

    Args:
        tokens: what to write.
        path: of the `.bin` and the `.idx`, with either ending or without.

    Raises:
        DataError: ids beyond int32, or a document that is too long for the index.
    """
    ids, index = _pair(path)
    dtype = np.dtype({1: "u1", 2: "<u2"}.get(tokens.tokens.dtype.itemsize, "<i4"))
    lengths = np.diff(tokens.offsets)
    if len(lengths) and lengths.max() >= 2**31:
        raise DataError(f"a document of {lengths.max():,} tokens is too long for this index", where=ids)
    with open(ids, "wb") as file:
        _copy(tokens, dtype, file)
    with open(index, "wb") as file:
        file.write(MAGIC + _HEADER.pack(VERSION, _CODES[dtype.name], len(lengths), len(lengths) + 1))
        lengths.astype("<i4").tofile(file)
        (tokens.offsets[:-1] * dtype.itemsize).astype("<i8").tofile(file)
        np.arange(len(lengths) + 1, dtype="<i8").tofile(file)


def _copy(tokens: Tokens, dtype: np.dtype[np.generic], file: BinaryIO) -> None:
    for at in range(0, len(tokens), _CHUNK):
        some = tokens.tokens[at : at + _CHUNK]
        if dtype == "<i4" and some.max() >= 2**31:
            raise DataError(f"id {some.max()} does not fit into int32", where=getattr(file, "name", None))
        file.write(some.astype(dtype, copy=False).tobytes())


def _pair(path: Path | str) -> tuple[Path, Path]:
    """The file of ids and its index."""
    text = str(path)
    base = text[:-4] if text.endswith((".bin", ".idx")) else text
    return Path(base + ".bin"), Path(base + ".idx")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=path, fix="check the path") from None
