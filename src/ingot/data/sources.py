"""Sources: find the files of a corpus and read documents from them.

    folder or file -> find -> [Source, ...] in order of their relative paths
    Source         -> read -> Document, Document, Dropped, ...

Plain files are one document each; `.jsonl` gives one per line, `.parquet` one per row. Text must be UTF-8
unless the file itself declares something else: a Python coding cookie or a byte order mark. Nothing is
guessed, since a wrong guess trains on garbage; what cannot be read comes back as `Dropped`, with a reason.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import tokenize
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ingot.data.document import Document, Dropped
from ingot.errors import DataError

PLAIN = {".txt": "text", ".md": "markdown", ".rst": "rst", ".py": "python"}
"""Suffixes of files that are one document, and its kind."""

SUFFIXES = (*PLAIN, ".jsonl", ".jsonl.gz", ".parquet")
TEXT_KEYS = ("text", "content")
"""Where a line or row keeps its text: the first of these that it has."""


@dataclass(frozen=True)
class Source:
    """A file to read: where it lies, and its path relative to the corpus folder, with '/'."""

    path: Path
    name: str


@dataclass(frozen=True)
class Found:
    """What a folder holds: files to read in order of their names, and how many others by suffix."""

    sources: list[Source]
    others: Counter[str]


def find(place: Path) -> Found:
    """Finds the readable files of a folder, or the one file given.

    Hidden files and folders are left alone, links to folders are not followed.

    Raises:
        DataError: no such path, no permission, or nothing readable there.
    """
    fix = f"give a folder or file of {' '.join(SUFFIXES)}"
    if not os.path.lexists(place):
        raise DataError("no such file or folder", where=place, fix="check the path")
    if place.is_file():
        if suffix_of(place) not in SUFFIXES:
            raise DataError(f"'{place.suffix}' files are not read", where=place, fix=fix)
        return Found([Source(place, place.name)], Counter())
    sources: list[Source] = []
    others: Counter[str] = Counter()
    for folder, inner, names in os.walk(place, onerror=_refuse):
        inner[:] = [name for name in inner if not name.startswith(".") and name != "__pycache__"]
        for name in names:
            path = Path(folder, name)
            if name.startswith(".") or not path.is_file():
                continue
            if suffix_of(path) in SUFFIXES:
                sources.append(Source(path, path.relative_to(place).as_posix()))
            else:
                others[path.suffix.lower() or "no suffix"] += 1
    if not sources:
        others_text = f"; it holds {sum(others.values())} others" if others else ""
        raise DataError(f"no file of a kind that is read{others_text}", where=place, fix=fix)
    return Found(sorted(sources, key=lambda source: source.name), others)


def suffix_of(path: Path) -> str:
    """Returns a file's suffix in lower case; `.jsonl.gz` counts as one."""
    name = path.name.lower()
    return ".jsonl.gz" if name.endswith(".jsonl.gz") else path.suffix.lower()


def read(source: Source) -> Iterator[Document | Dropped]:
    """Reads the documents of one file.

    Yields:
        A document, or what was dropped and why: file, line or row.

    Raises:
        DataError: the file cannot be opened.
    """
    suffix = suffix_of(source.path)
    try:
        if suffix in PLAIN:
            yield _read_plain(source, PLAIN[suffix])
        elif suffix == ".parquet":
            yield from _read_parquet(source)
        elif suffix == ".jsonl.gz":
            with gzip.open(source.path, "rb") as file:
                yield from _read_lines(source, file)  # type: ignore[arg-type]
        else:
            with open(source.path, "rb") as file:
                yield from _read_lines(source, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield Dropped(source.name, "damaged", f"broken off or not gzip ({error})")
    except OSError as error:
        raise _refusal(error, source.path) from None


def _refuse(error: OSError) -> None:
    raise _refusal(error, error.filename)


def _refusal(error: OSError, path: object) -> DataError:
    what = f"cannot be read ({error.strerror or error})"
    return DataError(what, where=path, fix="give read permission or move it away")


def _read_plain(source: Source, kind: str) -> Document | Dropped:
    data = source.path.read_bytes()
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in data.rstrip(b"\0") and not utf16:
        position = data.index(b"\0")
        return Dropped(source.name, "binary", f"NUL byte at {position}")
    encoding = "utf-16" if utf16 else "utf-8"
    try:
        if kind == "python" and not utf16:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except (UnicodeDecodeError, LookupError, SyntaxError) as error:
        return Dropped(source.name, "encoding", f"not {encoding} and declares nothing else ({error})")
    return Document(source.name, source.name, text, kind)


def _read_lines(source: Source, file: BinaryIO) -> Iterator[Document | Dropped]:
    for number, line in enumerate(file, start=1):
        id = f"{source.name}:{number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except ValueError as error:
            yield Dropped(id, "bad line", f"not JSON in UTF-8 ({error})")
            continue
        except RecursionError:
            yield Dropped(id, "bad line", "nested too deep")
            continue
        text = _text_of(row)
        if text is None:
            yield Dropped(id, "bad line", f"no text under {' or '.join(TEXT_KEYS)}")
        else:
            yield Document(id, source.name, text, "text")


def _text_of(row: object) -> str | None:
    if not isinstance(row, dict):
        return None
    return next((row[key] for key in TEXT_KEYS if isinstance(row.get(key), str)), None)


def _read_parquet(source: Source) -> Iterator[Document | Dropped]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(source.path) as file:
            names = file.schema_arrow.names
            key = next((key for key in TEXT_KEYS if key in names), None)
            if key is None:
                yield Dropped(source.name, "no text", f"its columns are {', '.join(names)}")
                return
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=[key]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    id = f"{source.name}:{number}"
                    if isinstance(text, str):
                        yield Document(id, source.name, text, "text")
                    else:
                        yield Dropped(id, "bad line", f"no text under {key}")
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's error, not the content's
        yield Dropped(source.name, "damaged", str(error).partition("\n")[0])
