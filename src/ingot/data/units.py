"""Units: the pieces in which a corpus is prepared, each finished whole or not at all.

Small files are gathered into groups of some megabytes; the documents of a large file make pieces of some
megabytes of text. What belongs to which unit depends on the files alone, not on how many workers there are
or who was killed when. A finished unit is a folder with its number for a name:

```
units/00003/            files 240 to 311, say
units/00004-00000/      the first piece of a large file
  documents.parquet     what was kept (tables.py)
  ledger.parquet        what was dropped, with rule, value and threshold
  unit.json             which files changed while they were read, and what was changed in documents
units/00004.json        the large file is read to its end: how many pieces
units/00003.late.json   sources of the unit that were left out, since their reading took too long
```
"""

from __future__ import annotations

import fnmatch
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ingot.atomic import write_atomic
from ingot.data import tables
from ingot.data.document import Document, Dropped
from ingot.data.sources import Source
from ingot.record import file_hash

DOCUMENTS, LEDGER, UNIT = "documents.parquet", "ledger.parquet", "unit.json"
_LATE = ".late.json"

FEWEST, MOST = 4 * 2**20, 64 * 2**20
"""Bytes of input in a group: a hundredth of the corpus, within these limits."""

FILES = 2000
"""Files in a group, at most."""

LARGE = 32 * 2**20
"""Bytes from which a file is read in pieces."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A source as it was when its content was hashed, in little memory: there may be a million of them.

    Args:
        path, name, licence, url: as in `Source`.
        size: of the file, in bytes.
        modified: its time, in nanoseconds.
        digest: SHA-256 of the content; None is no file, whose content nobody knows before it is read.
    """

    path: str
    name: str
    licence: str | None = None
    url: str | None = None
    size: int = 0
    modified: int = 0
    digest: bytes | None = None

    @property
    def source(self) -> Source:
        """What `read` takes."""
        return Source(Path(self.path), self.name, self.licence, self.url)

    @property
    def sha256(self) -> str | None:
        """The digest in hexadecimal."""
        return None if self.digest is None else self.digest.hex()

    def changed(self) -> bool:
        """Whether the file is no longer what it was; looked at twice only where size or time differ."""
        if self.digest is None:
            return False
        try:
            now = os.stat(self.path)
            if (now.st_size, now.st_mtime_ns) == (self.size, self.modified):
                return False
            return file_hash(self.path) != self.sha256
        except OSError:
            return True


@dataclass(frozen=True)
class Group:
    """Small files, to be read and treated together; those to `avoid` have ended workers before."""

    name: str
    sources: tuple[Seen, ...]
    avoid: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Large:
    """A large file, to be read and treated by one worker, piece by piece."""

    name: str
    seen: Seen


@dataclass(frozen=True)
class Piece:
    """Documents of a large file that another process has read."""

    name: str
    seen: Seen
    items: tuple[Document | Dropped, ...]


Unit = Group | Large | Piece


def plan(sources: Sequence[Seen]) -> list[Group | Large]:
    """Divides the sources of a corpus into groups and large ones, in their order.

    Args:
        sources: in order of their names.
    """
    total = sum(seen.size for seen in sources)
    wanted = min(max(total // 100, FEWEST), MOST)
    units: list[Group | Large] = []
    gathered: list[Seen] = []
    size = 0

    def close() -> None:
        nonlocal gathered, size
        if gathered:
            units.append(Group(f"{len(units):05d}", tuple(gathered)))
            gathered, size = [], 0

    for seen in sources:
        if seen.digest is None or seen.size >= LARGE:
            close()
            units.append(Large(f"{len(units):05d}", seen))
            continue
        if gathered and (size + seen.size > wanted or len(gathered) == FILES):
            close()
        gathered.append(seen)
        size += seen.size
    close()
    return units


def excluded(name: str, patterns: Sequence[str]) -> bool:
    """Whether a source is one of those named: itself, in a folder of that name, or fitting a glob.

    Example:
        >>> excluded("wiki/rivers.md", ["wiki"]), excluded("wiki.md", ["wiki"]), excluded("a.py", ["*.py"])
        (True, False, True)
    """
    return any(
        name == one or name.startswith(f"{one.rstrip('/')}/") or fnmatch.fnmatchcase(name, one)
        for one in patterns
    )


def finished(unit: Group | Large, folder: Path) -> bool:
    """Whether nothing of a unit is left to do."""
    if isinstance(unit, Group):
        return (folder / unit.name).exists()
    ended = _ended(unit, folder)
    return ended is not None and all((folder / name).exists() for name in _names(unit, ended[0]))


class Finished(NamedTuple):
    """What came of all units.

    Args:
        folders: of the units, in order.
        changed: names of sources that changed while they were read.
        changes: how often what was changed in documents.
        late: names of sources whose reading was broken off, and after how many seconds.
    """

    folders: list[Path]
    changed: set[str]
    changes: Counter[str]
    late: dict[str, float]


def gather(units: Iterable[Group | Large], folder: Path) -> Finished:
    """Returns what came of units that are all finished."""
    found = Finished([], set(), Counter(), {})
    for unit in units:
        found.late.update(late(unit.name, folder))
        if isinstance(unit, Group):
            found.folders.append(folder / unit.name)
            continue
        ended = _ended(unit, folder)
        assert ended is not None
        found.folders.extend(folder / name for name in _names(unit, ended[0]))
        if ended[1]:
            found.changed.add(tables.written(unit.seen.name))
    for path in found.folders:
        told = json.loads((path / UNIT).read_text(encoding="utf-8"))
        found.changed.update(told["changed"])
        found.changes.update(told["changes"])
    return found


def late(name: str, folder: Path) -> dict[str, float]:
    """Returns which sources of a unit were left out as they took too long, and after how many seconds."""
    try:
        found: dict[str, float] = json.loads((folder / f"{name}{_LATE}").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def leave_out(unit: Group | Large, folder: Path, source: str, seconds: float) -> Group | None:
    """Leaves a source out that took too long, for good: of a large one, what is not finished yet.

    Returns:
        What is left to do.
    """
    told = late(unit.name, folder) | {source: round(seconds, 1)}
    write_atomic(folder / f"{unit.name}{_LATE}", json.dumps(told) + "\n")
    if isinstance(unit, Group):
        return without_late(unit, folder)
    pieces = 0
    while (folder / _piece(unit, pieces)).exists():
        pieces += 1
    write_atomic(folder / f"{unit.name}.json", json.dumps({"pieces": pieces, "changed": False}) + "\n")
    return None


def without_late(unit: Group, folder: Path) -> Group:
    """Returns a group without the sources that took too long."""
    left = late(unit.name, folder)
    return replace(unit, sources=tuple(seen for seen in unit.sources if seen.name not in left))


def _ended(unit: Large, folder: Path) -> tuple[int, bool] | None:
    try:
        ended = json.loads((folder / f"{unit.name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return ended["pieces"], ended["changed"]


def _names(unit: Large, count: int) -> list[str]:
    return [_piece(unit, number) for number in range(count)]


def _piece(unit: Large, number: int) -> str:
    return f"{unit.name}-{number:05d}"
