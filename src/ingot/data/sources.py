"""Sources: find what a corpus is made of, and read documents from it.

    place  -> open_place -> Found(sources, others, skipped)
    folder, glob or file -> find -> the same
    Source -> read -> Document, Document, Dropped, ...

Nothing here parses anything: each kind of file has its reader in `readers/`, chosen by the table `FORMATS`.
What cannot be read comes back as `Dropped`, with the rule's name; only what the system or the user must
mend (no permission, a package that is missing) is an error.
"""

from __future__ import annotations

import functools
import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ingot.data.document import Document, Dropped
from ingot.data.readers import (
    databases,
    epub,
    hub,
    mail,
    markup,
    office,
    pdf,
    plain,
    rows,
    tables,
    warc,
    wiki,
)
from ingot.data.readers.languages import LANGUAGES, NAMES, PROSE, VENDORED
from ingot.data.readers.licences import is_licence, licence_of
from ingot.data.readers.reading import DEFAULT, Reading
from ingot.data.readers.source import Found, Refused, Source
from ingot.data.readers.unpacked import PACKED
from ingot.data.stories import open_stories, read_stories
from ingot.errors import DataError
from ingot.progress import Progress

__all__ = ["FORMATS", "PLAIN", "Format", "Found", "Reading", "Source", "find", "open_place", "read"]

Reader = Callable[[Source, Reading], Iterator[Document | Dropped]]


@dataclass(frozen=True)
class Format:
    """How files of one kind are read.

    Args:
        read: gives the documents of a file.
        whole: a file is one document, so that one that changes while it is read is dropped.
        packed: the file may also be compressed (.gz, .zst, .bz2, .xz).
        foreign: a library of somebody else parses it, which hostile content may keep busy for ever.
    """

    read: Reader
    whole: bool = False
    packed: bool = True
    foreign: bool = False


PLAIN = PROSE | LANGUAGES
"""Suffixes of files that are one document as they are, and its kind."""


def _plain(kind: str) -> Format:
    return Format(functools.partial(plain.read_plain, kind=kind), whole=True)


FORMATS: dict[str, Format] = {
    **{suffix: _plain(kind) for suffix, kind in PLAIN.items()},
    **dict.fromkeys((".html", ".htm", ".xhtml"), Format(markup.read_html, whole=True, foreign=True)),
    ".pdf": Format(pdf.read_pdf, whole=True, foreign=True),
    ".docx": Format(office.read_docx, whole=True, packed=False, foreign=True),
    ".epub": Format(epub.read_epub, whole=True, packed=False, foreign=True),
    ".jsonl": Format(rows.read_lines),
    ".ndjson": Format(rows.read_lines),
    ".json": Format(rows.read_array),
    ".parquet": Format(tables.read_parquet, packed=False),
    ".csv": Format(functools.partial(tables.read_csv, delimiter=",")),
    ".tsv": Format(functools.partial(tables.read_csv, delimiter="\t")),
    ".warc": Format(warc.read_warc, foreign=True),
    ".wet": Format(warc.read_warc, foreign=True),
    ".xml": Format(wiki.read_wiki),
    ".mbox": Format(mail.read_mbox, foreign=True),
    ".eml": Format(mail.read_message, whole=True, foreign=True),
    **dict.fromkeys((".sqlite", ".sqlite3", ".db"), Format(databases.read_database, packed=False)),
}
"""Suffix in lower case -> how such files are read."""

_BY_NAME = {name: _plain(kind) for name, kind in NAMES.items()}
_KINDS = "text, code, html, pdf, docx, epub, jsonl, json, parquet, csv, WARC, wiki XML, mbox or SQLite"


def format_of(name: str) -> Format | None:
    """Returns how a file of this name is read; None where it is not.

    Example:
        >>> format_of("a/b.jsonl.gz") is FORMATS[".jsonl"], format_of("archive.gz")
        (True, None)
    """
    lowered = os.path.basename(name).lower()
    if lowered in _BY_NAME:
        return _BY_NAME[lowered]
    stem, suffix = os.path.splitext(lowered)
    if suffix not in PACKED:
        return FORMATS.get(suffix)
    inner = FORMATS.get(os.path.splitext(stem)[1])
    return inner if inner is not None and inner.packed else None


def is_foreign(name: str) -> bool:
    """Tells whether a library of somebody else parses files of this name."""
    format = format_of(name)
    return format is not None and format.foreign


def open_place(place: str, cache: Path | None = None, progress: Progress | None = None) -> Found:
    """Finds what can be read at a place, wherever it is.

    Args:
        place: a folder, a file or a glob; an http(s) URL, which is downloaded first (`#sha256=...` at its end
            is checked); `hf://owner/name?split=train&text=text`; a database (`sqlite:///f.db?table=posts`);
            or a name of the catalogue with an '@' at its end (`tinyshakespeare@`).
        cache: where downloads are kept; None is `ingot` in the user's cache folder.
        progress: is told of downloads.

    Raises:
        DataError: no such place, or nothing readable there.
        ResourceError: the network or a package is missing.
    """
    from ingot.data.catalogue import look_up
    from ingot.data.download import download

    if place.endswith("@"):
        entry = look_up(place[:-1])
        found = open_place(entry.place_to_open(), cache, progress)
        named = [
            source if source.licence else Source(source.path, source.name, entry.licence, source.url)
            for source in found.sources
        ]
        return Found(named, found.others, found.skipped)
    scheme = place.partition("://")[0].lower() if "://" in place else ""
    if scheme in ("http", "https"):
        return find(download(place, cache, progress))
    if scheme == "hf":
        return Found([hub.open_hub(place)], Counter())
    if scheme == "stories":
        return Found([open_stories(place)], Counter())
    if scheme:
        return Found([databases.open_database(place)], Counter())
    return find(Path(place).expanduser())


def find(place: Path) -> Found:
    """Finds the readable files of a folder, of a glob such as `texts/**/*.md`, or the one file given.

    Hidden files and folders, vendored folders and links to folders are left alone. The nearest licence file
    above a file, not above the place, says its licence.

    Raises:
        DataError: no such path, no permission, or nothing readable there.
    """
    fix = f"give a folder or file of {_KINDS}"
    if not os.path.lexists(place):
        if glob.has_magic(str(place)):
            return _matching(place, fix)
        raise DataError("no such file or folder", where=place, fix="check the path")
    if place.is_file():
        if format_of(place.name) is None:
            raise DataError(f"'{place.suffix}' files are not read", where=place, fix=fix)
        return Found([_source(place, place.parent, _licences(place.parent))], Counter())
    found = _walk(place)
    if not found.sources:
        others_text = f"; it holds {sum(found.others.values())} others" if found.others else ""
        raise DataError(f"no file of a kind that is read{others_text}", where=place, fix=fix)
    return found


def _walk(place: Path) -> Found:
    sources: list[Source] = []
    others: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    licences: dict[str, str | None] = {}
    for folder, inner, names in os.walk(place, onerror=_refuse):
        if "pyvenv.cfg" in names and folder != str(place):
            skipped["vendored folder"] += 1
            inner[:] = []
            continue
        skipped["vendored folder"] += sum(name in VENDORED for name in inner)
        inner[:] = [name for name in inner if not name.startswith(".") and name not in VENDORED]
        skipped["link to a folder"] += sum(os.path.islink(os.path.join(folder, name)) for name in inner)
        own = [Path(folder, name) for name in names if is_licence(name)]
        licence = licence_of(own) if own else licences.get(os.path.dirname(folder))
        licences[folder] = licence
        inside = os.path.relpath(folder, place)  # once for all of its files: there may be a million
        for name in names:
            path = os.path.join(folder, name)
            if name.startswith("."):
                continue
            if not os.path.isfile(path):
                skipped["broken link" if os.path.islink(path) else "no regular file"] += 1
            elif format_of(name) is not None:
                relative = name if inside == os.curdir else os.path.join(inside, name)
                sources.append(Source(Path(path), _shown(relative), licence))
            else:
                others[os.path.splitext(name)[1].lower() or "no suffix"] += 1
    return Found(sorted(sources, key=lambda source: source.name), others, +skipped)


def _matching(pattern: Path, fix: str) -> Found:
    """The files that a glob matches, named by their path below its first part without a wildcard."""
    parts = pattern.parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    files = [Path(path) for path in glob.iglob(str(pattern), recursive=True) if os.path.isfile(path)]
    sources = [
        _source(path, root, _licences(path.parent)) for path in files if format_of(path.name) is not None
    ]
    others = Counter(path.suffix.lower() or "no suffix" for path in files if format_of(path.name) is None)
    if not sources:
        others_text = f"; {others.total()} others match" if others else ""
        raise DataError(f"no file of a kind that is read matches{others_text}", where=pattern, fix=fix)
    return Found(sorted(sources, key=lambda source: source.name), others)


def _source(path: Path, root: Path, licence: str | None) -> Source:
    return Source(path, _shown(os.path.relpath(path, root)), licence)


def _shown(relative: str) -> str:
    """A path as a name that can be written anywhere: bytes that are no UTF-8 are shown as '\\xff'."""
    name = relative.replace(os.sep, "/")
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def _licences(folder: Path) -> str | None:
    try:
        return licence_of([path for path in folder.iterdir() if is_licence(path.name) and path.is_file()])
    except OSError:
        return None  # a file may be readable where its folder is not


def read(source: Source, reading: Reading = DEFAULT) -> Iterator[Document | Dropped]:
    """Reads the documents of one source, in memory for one at a time.

    Args:
        source: what `find` or `open_place` gave.
        reading: encodings, columns and limits.

    Yields:
        A document, or what was dropped and why: file, line, row or record.

    Raises:
        DataError: the file cannot be opened.
        ResourceError: a package that reads this kind of file is not installed.
    """
    if source.url is not None:
        format = Format(_REMOTE.get(urlsplit(source.url).scheme, databases.read_database))
    else:
        known = format_of(source.path.name)
        if known is None:
            what = f"'{source.path.suffix}' files are not read"
            raise DataError(what, where=source.path, fix=f"give {_KINDS}")
        format = known
    try:
        before = _stamp(source)
        if format.whole:
            items = list(format.read(source, reading))
            yield from items if _stamp(source) == before else [_changed(source)]
        else:
            yield from format.read(source, reading)
            if _stamp(source) != before:
                yield _changed(source)
    except Refused as refused:
        yield Dropped(source.name, refused.reason, refused.detail, refused.value, refused.threshold)
    except FileNotFoundError:
        yield Dropped(source.name, "vanished", "gone since it was found")
    except OSError as error:
        raise _refusal(error, source.path) from None


_REMOTE: dict[str, Reader] = {"hf": hub.read_hub, "stories": read_stories}


def _stamp(source: Source) -> tuple[int, int] | None:
    """What changes when a file is written to: its size and its time."""
    if source.url is not None:
        return None
    status = os.stat(source.path)
    return status.st_size, status.st_mtime_ns


def _changed(source: Source) -> Dropped:
    return Dropped(source.name, "changed", "was written to while it was read; run it again")


def _refuse(error: OSError) -> None:
    raise _refusal(error, error.filename)


def _refusal(error: OSError, path: object) -> DataError:
    what = f"cannot be read ({error.strerror or error})"
    return DataError(what, where=path, fix="give read permission or move it away")
