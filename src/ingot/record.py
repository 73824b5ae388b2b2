"""Records: what an artifact says about itself, and how artifacts are found in a run folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingot.errors import ArtifactError

RECORD = "artifact.json"

_ADDRESS = re.compile(r"(?P<name>[^@/.][^@/]*)@(?P<version>[1-9][0-9]*)")


@dataclass(frozen=True)
class Record:
    """What an artifact says about itself; `artifact.json` holds exactly these fields.

    `key` decides whether the same work was done before (see `pipeline`). `parents` maps a stage name to
    the address and fingerprint of what that stage made. `left_out` is the reason where there was nothing
    to make. `seal` is the hash of all other fields: an edited record shows.
    """

    kind: str
    name: str
    version: int
    key: str
    parents: dict[str, dict[str, str]]
    config: dict[str, Any]
    code: dict[str, Any]
    environment: dict[str, Any]
    metrics: dict[str, Any]
    files: dict[str, str]
    fingerprint: str
    created: str
    seconds: float
    left_out: str | None = None
    notes: list[str] = field(default_factory=list)
    stage: str = ""
    seed: int = 0
    identity: dict[str, Any] = field(default_factory=dict)
    seal: str = ""


@dataclass(frozen=True)
class Artifact:
    """A published folder and its record."""

    path: Path
    record: Record

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def version(self) -> int:
        return self.record.version

    @property
    def address(self) -> str:
        return f"{self.name}@{self.version}"

    def as_parent(self) -> dict[str, str]:
        """Returns what a child's record keeps of this artifact."""
        return {"address": self.address, "fingerprint": self.record.fingerprint}


def read(folder: Path | str) -> Artifact:
    """Reads the record of one artifact folder (its files are not looked at; `verify` does that).

    Raises:
        ArtifactError: there is no record, or it is damaged.
    """
    path = Path(folder)
    try:
        values = json.loads((path / RECORD).read_text(encoding="utf-8"))
        return Artifact(path, Record(**values))
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"holds no {RECORD}", where=path, fix="give an artifact's folder") from None
    except (ValueError, TypeError) as error:
        fix = "delete this folder to have it made again"
        raise ArtifactError(f"damaged record ({error})", where=path / RECORD, fix=fix) from None


def folders(run: Path | str) -> list[tuple[str, int, Path]]:
    """Returns name, version and folder of everything published in a run folder, oldest version first."""
    found = []
    for path in Path(run).iterdir() if Path(run).is_dir() else ():
        match = _ADDRESS.fullmatch(path.name)
        if match and path.is_dir():
            found.append((match["name"], int(match["version"]), path))
    return sorted(found)


def artifacts(run: Path | str) -> list[Artifact]:
    """Returns everything published in a run folder, in the order it was made."""
    return sorted((read(path) for _, _, path in folders(run)), key=lambda one: (one.record.created, one.name))


def versions(run: Path | str, name: str) -> list[Artifact]:
    """Returns all versions of one artifact, oldest first."""
    return [read(path) for found, _, path in folders(run) if found == name]


def latest(run: Path | str, name: str) -> Artifact | None:
    """Returns the newest version of one artifact, or None."""
    paths = [path for found, _, path in folders(run) if found == name]
    return read(paths[-1]) if paths else None


def file_hash(path: Path | str) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(value: Any) -> str:
    """Returns the SHA-256 of plain data, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def fingerprint_of(
    kind: str, files: Mapping[str, str], parents: Mapping[str, Mapping[str, str]], config: Any
) -> str:
    """Returns the hash by which a child recognises its parent: content, origins and settings, no times."""
    origins = {name: parent["fingerprint"] for name, parent in parents.items()}
    return content_hash([kind, sorted(files.items()), origins, config])


def seal_of(record: Record) -> str:
    """Returns the hash of a record's fields, its own seal left out."""
    return content_hash(dataclasses.asdict(dataclasses.replace(record, seal="")))


def files_of(folder: Path) -> list[str]:
    """Returns the relative paths of an artifact's files: all but the record and hidden ones."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    shown = [path for path in found if not any(part.startswith(".") for part in path.parts)]
    return sorted(path.as_posix() for path in shown if path.as_posix() != RECORD)
