"""Artifacts: folders that know where they came from.

- An artifact is a folder `name@version` with an `artifact.json`, its `Record`: what made it, from which
  parents, under which settings, with which versions, and the hash of every file.
- It appears whole or not at all: `publish` fills a hidden folder aside, flushes it to disk and renames it.
- Its address is its name and version; its fingerprint says whether it is still what it was.
- `verify` recomputes everything and returns what no longer matches; an honest run returns nothing.
- The user's own files that an artifact was made from stay where they are; an artifact lists them in
  `inputs.jsonl`, and `verify` looks at them too.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingot import device
from ingot.atomic import publish, remove, sweep, write_atomic
from ingot.errors import ArtifactError
from ingot.record import (
    RECORD,
    Artifact,
    Record,
    artifacts,
    content_hash,
    file_hash,
    files_of,
    fingerprint_of,
    folders,
    latest,
    read,
    seal_of,
    versions,
)

__all__ = [
    "INPUTS",
    "RECORD",
    "Artifact",
    "Mismatch",
    "Record",
    "artifacts",
    "content_hash",
    "file_hash",
    "latest",
    "prune",
    "publish",
    "read",
    "remove",
    "republish",
    "sweep",
    "verify",
    "versions",
    "write_atomic",
    "write_record",
]

INPUTS = "inputs.jsonl"
"""The file in which an artifact lists the files outside the run folder that it was made from."""


def write_record(
    folder: Path,
    *,
    kind: str,
    name: str,
    version: int = 1,
    stage: str = "",
    key: str = "",
    parents: Mapping[str, Artifact] | None = None,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
    identity: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    seconds: float = 0.0,
    left_out: str | None = None,
    notes: Sequence[str] = (),
) -> Record:
    """Hashes every file of a finished folder and writes its `artifact.json`.

    Args:
        folder: the folder that `publish` gave, complete but for the record.
        parents: what it was made from, by stage name.
        config: the resolved settings, as plain data.
        seconds: wall time of the work.
        (the others as in `Record`)

    Returns:
        The record written.
    """
    files = {path: file_hash(folder / path) for path in files_of(folder)}
    settings = _plain(config or {})
    origins = {stage_name: parent.as_parent() for stage_name, parent in (parents or {}).items()}
    record = Record(
        kind=kind,
        name=name,
        version=version,
        key=key,
        parents=origins,
        config=settings,
        code=code(),
        environment=environment(),
        metrics=_plain(metrics or {}),
        files=files,
        fingerprint=fingerprint_of(kind, files, origins, settings),
        created=_now(),
        seconds=round(seconds, 3),
        left_out=left_out,
        notes=list(notes),
        stage=stage or name,
        seed=seed,
        identity=_plain(identity or {}),
    )
    return _write(folder, record)


def _write(folder: Path, record: Record) -> Record:
    sealed = dataclasses.replace(record, seal=seal_of(record))
    text = json.dumps(dataclasses.asdict(sealed), indent=2, ensure_ascii=False) + "\n"
    write_atomic(folder / RECORD, text)
    return sealed


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they come back from JSON: NumPy and torch scalars as numbers, the rest as text."""
    restored: dict[str, Any] = json.loads(
        json.dumps(values, default=lambda value: value.item() if hasattr(value, "item") else str(value))
    )
    return restored


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@functools.cache
def code() -> dict[str, Any]:
    """Returns which code is running: the version, and the git revision where it runs from a clone."""
    root = Path(__file__).parents[2]
    found: dict[str, Any] = {"ingot": device.version_of("ingot")}
    if (root / ".git").exists():
        try:
            git = ["git", "-C", str(root)]
            revision = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
            changes = subprocess.run([*git, "diff", "HEAD", "--quiet"], capture_output=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return found
        if revision.returncode == 0:
            found |= {"revision": revision.stdout.strip(), "changed": changes.returncode != 0}
    return found


def environment() -> dict[str, Any]:
    """Returns what the same code may still give other numbers on."""
    return {
        "python": platform.python_version(),
        "torch": device.version_of("torch"),
        "platform": platform.platform(),
        "cpu": device.cpu_model(),
        "threads": device.threads(),
    }


def republish(old: Artifact, version: int) -> Artifact:
    """Makes an older version the newest again, sharing its files on disk where the system can."""
    final = old.path.with_name(f"{old.name}@{version}")
    with publish(final) as folder:
        shutil.copytree(old.path, folder, copy_function=_link_or_copy, dirs_exist_ok=True)
        (folder / RECORD).unlink()
        note = f"the same files as {old.address}, whose settings and inputs came back"
        notes = [*old.record.notes, note]
        _write(folder, dataclasses.replace(old.record, version=version, notes=notes, created=_now()))
    return read(final)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@dataclass(frozen=True)
class Mismatch:
    """One thing that is not as a record says: `what` is wrong with `path`, made by `stage`."""

    address: str
    stage: str
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.stage}: {self.address}: {self.path}: {self.what}"


def verify(run_or_folder: Path | str) -> list[Mismatch]:
    """Recomputes every hash of a run folder (or of one artifact) and returns what does not match.

    Args:
        run_or_folder: a run folder: parents must be there too; an artifact's folder: it may have been
            copied alone, so absent parents are not held against it.

    Raises:
        ArtifactError: there is no artifact to look at.
    """
    root = Path(run_or_folder)
    if (root / RECORD).exists():
        return _verify_one(root, alone=True)
    found = [path for _, _, path in folders(root)]
    if not found:
        fix = "give a run folder such as runs/demo, or an artifact's folder"
        raise ArtifactError("holds no artifacts", where=root, fix=fix)
    return [mismatch for path in found for mismatch in _verify_one(path, alone=False)]


def _verify_one(folder: Path, alone: bool) -> list[Mismatch]:
    try:
        artifact = read(folder)
    except ArtifactError as error:
        name = folder.name.partition("@")[0]
        return [Mismatch(folder.name, name, RECORD, error.what)]
    record = artifact.record
    wrong: dict[str, str] = {}
    if seal_of(record) != record.seal:
        wrong[RECORD] = "the record was edited"
    elif fingerprint_of(record.kind, record.files, record.parents, record.config) != record.fingerprint:
        wrong[RECORD] = "the fingerprint does not follow from the record"
    for path, digest in record.files.items():
        if not (folder / path).is_file():
            wrong[path] = "missing"
        elif file_hash(folder / path) != digest:
            wrong[path] = "changed since it was made"
    wrong |= {path: "not in the record" for path in files_of(folder) if path not in record.files}
    wrong |= _verify_parents(artifact, alone)
    if INPUTS in record.files and INPUTS not in wrong:
        wrong |= _verify_inputs(folder / INPUTS)
    return [
        Mismatch(artifact.address, record.stage or record.name, path, what) for path, what in wrong.items()
    ]


def _verify_parents(artifact: Artifact, alone: bool) -> dict[str, str]:
    wrong = {}
    for parent in artifact.record.parents.values():
        address = parent["address"]
        try:
            found = read(artifact.path.parent / address).record.fingerprint
        except ArtifactError:
            if not alone:
                wrong[address] = "a parent, is missing"
            continue
        if found != parent["fingerprint"]:
            wrong[address] = "a parent, is not what it was made from"
    return wrong


def _verify_inputs(path: Path) -> dict[str, str]:
    wrong = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        try:
            if file_hash(entry["path"]) != entry["sha256"]:
                wrong[entry["path"]] = "the input changed since it was read"
        except OSError:
            wrong[entry["path"]] = "the input is missing or cannot be read"
    return wrong


def prune(run: Path | str) -> list[Path]:
    """Removes old versions that nothing newest was made from.

    Returns:
        The folders removed.
    """
    found = {one.address: one for one in artifacts(run)}
    keep: set[str] = set()
    waiting = [one.address for name in {one.name for one in found.values()} if (one := latest(run, name))]
    while waiting:
        address = waiting.pop()
        if address in found and address not in keep:
            keep.add(address)
            waiting += [parent["address"] for parent in found[address].record.parents.values()]
    old = [one.path for one in found.values() if one.address not in keep]
    for path in old:
        remove(path)
    return old
