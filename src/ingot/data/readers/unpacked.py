"""Bounded unpacking: gzip, zstd, bzip2 and xz streams, broken off when they grow past a stated ratio."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from ingot.data.readers.reading import Reading
from ingot.data.readers.source import BrokenOff, Refused, first_line

PACKED = (".gz", ".zst", ".bz2", ".xz")
"""Suffixes of compressed streams."""

_BUFFER = 2**18


class _Bounded(io.RawIOBase):
    """A stream that counts what it gives and stops at a limit."""

    def __init__(self, inner: Any, kind: str, packed: int, most: int) -> None:
        self._inner, self._kind, self._packed, self._most, self._given = inner, kind, packed, most, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._inner.read1(len(buffer))  # what there is, before an error at its end
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system's error, not the content's
            raise BrokenOff(f"broken off or not {self._kind} ({first_line(error)})") from None
        self._given += len(data)
        if self._given > self._most:
            ratio = self._given / max(1, self._packed)
            what = f"unpacks to over {self._given:,} bytes, {ratio:,.0f} times its {self._packed:,}"
            raise Refused("zip bomb", what, ratio, self._most / max(1, self._packed))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def opened(path: Path, reading: Reading) -> Iterator[io.BufferedReader]:
    """Opens a file for streaming; what is compressed is unpacked on the way, within the limits.

    Args:
        path: a file; its suffix says how it is compressed.
        reading: the limits.

    Raises:
        Refused: while reading, where it unpacks to too much, or is broken off (`BrokenOff`).
        OSError: the system cannot open or read it.
    """
    suffix = path.suffix.lower()
    if suffix not in PACKED:
        with open(path, "rb", buffering=_BUFFER) as file:
            yield cast(io.BufferedReader, file)
        return
    packed = os.stat(path).st_size
    with _unpacker(path, suffix) as inner:
        bounded = _Bounded(inner, suffix[1:], packed, reading.most_unpacked(packed))
        yield io.BufferedReader(bounded, _BUFFER)


def _unpacker(path: Path, suffix: str) -> IO[bytes]:
    if suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if suffix == ".bz2":
        return bz2.open(path, "rb")
    if suffix == ".xz":
        return cast(IO[bytes], lzma.open(path, "rb"))
    import pyarrow

    stream: IO[bytes] = pyarrow.input_stream(str(path), compression="zstd", buffer_size=_BUFFER)
    return stream


def whole(path: Path, reading: Reading) -> bytes:
    """Reads a whole file, unpacked where it is compressed.

    Raises:
        Refused: it is larger than a document may be.
    """
    limit = reading.max_document_bytes
    if path.suffix.lower() not in PACKED:
        size = os.stat(path).st_size
        if size > limit:
            raise too_large(size, limit)
        return path.read_bytes()
    with opened(path, reading) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise too_large(len(data), limit)
    return data


def too_large(size: int, limit: int) -> Refused:
    """Returns the refusal of a document that is over `max_document_bytes`."""
    return Refused("too large", f"{size:,} bytes or more, at most {limit:,} are read", size, limit)


def check_zip(path: Path, reading: Reading) -> None:
    """Looks at what a zip container says it holds, before anything is unpacked.

    Members are never read past the size that they declare, so the sum of these is a true limit.

    Raises:
        Refused: it unpacks to too much, or is no zip file.
    """
    size = os.stat(path).st_size
    if size > reading.max_document_bytes:
        raise too_large(size, reading.max_document_bytes)
    try:
        with zipfile.ZipFile(path) as container:
            total = sum(member.file_size for member in container.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise Refused("damaged", f"not a zip container ({error})") from None
    most = min(reading.max_unpacked_bytes, reading.most_unpacked(size))
    if total > most:
        what = f"unpacks to {total:,} bytes, {total / max(1, size):,.0f} times its {size:,}"
        raise Refused("zip bomb", what, total, most)
