"""A line of stages, each making one artifact; knows nothing of machine learning.

- A stage's key is the hash of its name, settings, seed, identity and its parents' fingerprints: the same
  key means the same work, so it is done once.
- Work under way keeps what it needs in `work/<stage>-<key>`, which outlives a kill and goes when the
  artifact is published. So the same command, started again, goes on where it was. `status.json` there
  says what became of the last start: running (or killed), interrupted, failed.
- Other settings make the next version; the older versions stay. Settings that come back make their old
  version the newest again, without doing the work again.
- A stage that finds nothing to do raises `LeftOut`; that too is remembered as an artifact, with the reason.
- One process at a time writes in a run folder.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from ingot import artifact as artifacts
from ingot.artifact import Artifact
from ingot.config import Config
from ingot.errors import ArtifactError, ConfigError, IngotError, ResourceError, from_system
from ingot.lock import lock
from ingot.progress import Progress

RECIPE = "recipe.yaml"
WORK = "work"
STATUS = "status.json"
TERMINATED = 143
"""Exit code of a process that SIGTERM ended: an `IngotError` that carries it stopped in good order."""
ORDINARY_NEED = 16 * 2**20
"""Bytes of disk that a stage is taken to need when it does not say."""


class LeftOut(Exception):
    """Raised by a stage that has nothing to make; `reason` is a clause for the report."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass
class Context:
    """What a stage works with.

    `folder` takes the artifact's files. `work` outlives a kill. `parents` holds what the needed stages
    made. `notes` takes sentences for the report, `metrics` numbers for the record.
    """

    folder: Path
    work: Path
    parents: dict[str, Artifact]
    progress: Progress
    seed: int
    device: str
    notes: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)


class Stage(Protocol):
    """One step of the line.

    A stage may also have `identity() -> dict`: plain data besides the settings and parents that decides
    whether the work is the same (hashes of the user's files); and `disk_needed() -> int`, in bytes.
    """

    name: str
    artifact: str
    kind: str
    needs: tuple[str, ...]

    @property
    def config(self) -> Config:
        """The resolved settings."""
        ...

    def run(self, context: Context) -> None:
        """Makes the artifact's files in `context.folder`."""


@dataclass(frozen=True)
class Decision:
    """What a run would do about a stage: take `artifact` where it exists, else make it because of `why`."""

    stage: str
    address: str
    artifact: Artifact | None
    why: str


class Pipeline:
    """Runs stages in order, skipping what is done, in one run folder.

    Args:
        stages: in an order in which every stage comes after those it needs.
        folder: the run folder; made where it does not exist.

    Raises:
        ConfigError: a stage needs one that is not there or comes later.
    """

    def __init__(self, stages: Sequence[Stage], folder: Path) -> None:
        self.stages = list(stages)
        self.folder = Path(folder)
        self._identities: dict[str, dict[str, Any]] = {}
        known: list[str] = []
        for stage in self.stages:
            missing = [name for name in stage.needs if name not in known]
            if missing:
                fix = f"put '{missing[0]}' before it"
                raise ConfigError(f"needs '{missing[0]}'", where=f"stage '{stage.name}'", fix=fix)
            known.append(stage.name)

    def run(self, progress: Progress, seed: int = 0, device: str = "cpu", recipe: str = "") -> list[Artifact]:
        """Makes what is not there yet and returns every stage's artifact, in order.

        Args:
            progress: told about every stage.
            seed: base of all random numbers; a part of every key.
            device: where to compute; not a part of the keys.
            recipe: the text that these stages were made from, kept as `recipe.yaml`.

        Raises:
            BusyError: another process works in the folder.
            ResourceError: no room on the disk, or no permission.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with lock(self.folder):
                artifacts.sweep(self.folder)
                self._check_space(seed)
                if recipe:
                    artifacts.write_atomic(self.folder / RECIPE, recipe)
                made: dict[str, Artifact] = {}
                for stage in self.stages:
                    made[stage.name] = self._take_or_make(stage, made, progress, seed, device)
                return list(made.values())
        except Exception as error:
            refusal = from_system(error, self.folder)
            if refusal is None or isinstance(error, FileNotFoundError):
                raise
            raise refusal from error

    def plan(self, seed: int = 0) -> list[Decision]:
        """Returns what `run` would do, without doing it."""
        made: dict[str, Artifact] = {}
        decisions = []
        for stage in self.stages:
            older = artifacts.versions(self.folder, stage.artifact)
            waiting = [name for name in stage.needs if name not in made]
            found = None if waiting else _with_key(older, self._key(stage, made, seed))
            if found is not None:
                made[stage.name] = found
                why = ""
            elif waiting:
                why = "after " + " and ".join(waiting)
            else:
                why = self._changes(stage, older[-1], made, seed) if older else "not made yet"
            address = found.address if found else f"{stage.artifact}@{_next_version(older)}"
            decisions.append(Decision(stage.name, address, found, why))
        return decisions

    def _check_space(self, seed: int) -> None:
        stages = {stage.name: stage for stage in self.stages}
        missing = [stages[decision.stage] for decision in self.plan(seed) if decision.artifact is None]
        needed = sum(_disk_needed(stage) for stage in missing)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            what = f"about {needed / 1e6:.0f} MB of disk are needed, {free / 1e6:.0f} MB are free"
            raise ResourceError(what, where=self.folder, fix="free some space, or work in another folder")

    def _take_or_make(
        self, stage: Stage, made: Mapping[str, Artifact], progress: Progress, seed: int, device: str
    ) -> Artifact:
        key = self._key(stage, made, seed)
        work = self.folder / WORK / f"{stage.name}-{key[:12]}"
        older = artifacts.versions(self.folder, stage.artifact)
        found = _with_key(older, key)
        if found is None:
            if older:
                changes = self._changes(stage, older[-1], made, seed)
                address = f"{stage.artifact}@{_next_version(older)}"
                stays = f"making {address}, {older[-1].address} stays"
                progress.say(f"{stage.name}: settings or inputs changed: {stays} ({changes})")
            return self._make(stage, key, work, _next_version(older), made, progress, seed, device)
        _check_files(found)
        _clear(work)
        if found.version != older[-1].version:
            again = artifacts.republish(found, _next_version(older))
            progress.say(f"{stage.name}: {found.address} was made with these settings: now {again.address}")
            return again
        progress.say(f"{stage.name}: {found.address} is up to date")
        return found

    def _make(
        self,
        stage: Stage,
        key: str,
        work: Path,
        version: int,
        made: Mapping[str, Artifact],
        progress: Progress,
        seed: int,
        device: str,
    ) -> Artifact:
        interruptions = _begin(work)
        parents = {name: made[name] for name in stage.needs}
        final = self.folder / f"{stage.artifact}@{version}"
        start = time.monotonic()
        left_out = None
        with artifacts.publish(final) as folder:
            context = Context(folder, work, parents, progress, seed, device)
            if interruptions:
                progress.say(f"{stage.name}: going on where it was interrupted")
                often = "once" if interruptions == 1 else f"{interruptions} times"
                note = f"It was interrupted {often} and went on; its seconds count from the last start."
                context.notes.append(note)
            try:
                stage.run(context)
            except LeftOut as reason:
                left_out = reason.reason
                _empty(folder)
            except BaseException as error:
                _end(work, error, interruptions)
                raise
            seconds = time.monotonic() - start
            artifacts.write_record(
                folder,
                kind=stage.kind,
                name=stage.artifact,
                version=version,
                stage=stage.name,
                key=key,
                parents=parents,
                config=stage.config.plain(),
                seed=seed,
                identity=self._identity(stage),
                metrics=context.metrics,
                seconds=seconds,
                left_out=left_out,
                notes=context.notes,
            )
        _clear(work)
        result = f"left out: {left_out}" if left_out else f"made {stage.artifact}@{version}"
        progress.say(f"{stage.name}: {result} ({_words(seconds)})")
        return artifacts.read(final)

    def _identity(self, stage: Stage) -> dict[str, Any]:
        if stage.name not in self._identities:
            identity = getattr(stage, "identity", None)
            self._identities[stage.name] = {} if identity is None else dict(identity())
        return self._identities[stage.name]

    def _key(self, stage: Stage, made: Mapping[str, Artifact], seed: int) -> str:
        parents = {name: made[name].record.fingerprint for name in stage.needs}
        return artifacts.content_hash(
            [stage.name, stage.config.plain(), seed, self._identity(stage), parents]
        )

    def _changes(self, stage: Stage, old: Artifact, made: Mapping[str, Artifact], seed: int) -> str:
        """What differs from the last version, for a person."""
        before, after = _flat(old.record.config), _flat(stage.config.plain())
        keys = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
        changes = [f"{key} {before.get(key)} -> {after.get(key)}" for key in keys]
        if old.record.seed != seed:
            changes.append(f"seed {old.record.seed} -> {seed}")
        for name in stage.needs:
            origin = old.record.parents.get(name, {})
            if origin.get("fingerprint") != made[name].record.fingerprint:
                changes.append(f"{made[name].address} is new")
        if old.record.identity != self._identity(stage):
            changes.append("other source files")
        return ", ".join(changes) or "the stage itself"


def unfinished(run: Path | str) -> dict[str, dict[str, Any]]:
    """Returns what became of the work under way in a run folder.

    Returns:
        By the name of the work folder (`pretrain-3f2a...`): `status` (running, which a killed start says
        too; interrupted; failed), `at` (time, ISO 8601), `interruptions` before that start, and where
        they are known `step` (the last one saved) and `why`.
    """
    folders = sorted(path for path in Path(run, WORK).glob("*") if path.is_dir())
    return {path.name: found for path in folders if (found := _status(path))}


def _begin(work: Path) -> int:
    """Notes a start of the work; returns how often it was interrupted before."""
    work.mkdir(parents=True, exist_ok=True)
    went_on = any(path.name != STATUS and not path.name.startswith(".") for path in work.iterdir())
    before = _status(work).get("interruptions", 0)
    interruptions = before + 1 if went_on and isinstance(before, int) else 0
    _note(work, {"status": "running", "interruptions": interruptions})
    return interruptions


def _end(work: Path, error: BaseException, interruptions: int) -> None:
    """Notes how a start ended without its artifact."""
    asked = isinstance(error, KeyboardInterrupt | SystemExit) or (
        isinstance(error, IngotError) and error.exit_code == TERMINATED
    )
    status = {"status": "interrupted" if asked else "failed", "interruptions": interruptions}
    step = getattr(error, "step", None)
    told = {"step": step, "why": str(error) if isinstance(error, IngotError) else type(error).__name__}
    with contextlib.suppress(OSError):  # a full disk must not hide the error itself
        _note(work, status | {key: value for key, value in told.items() if value is not None})


def _note(work: Path, status: Mapping[str, Any]) -> None:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    artifacts.write_atomic(work / STATUS, json.dumps({**status, "at": at}, indent=2) + "\n")


def _status(work: Path) -> dict[str, Any]:
    try:
        found = json.loads((work / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _with_key(versions: Sequence[Artifact], key: str) -> Artifact | None:
    return next((one for one in reversed(versions) if one.record.key == key), None)


def _next_version(older: Sequence[Artifact]) -> int:
    return older[-1].version + 1 if older else 1


def _check_files(found: Artifact) -> None:
    """A quick look, before work is built on it; `ingot artifacts verify` looks at every byte."""
    for path in found.record.files:
        if not (found.path / path).is_file():
            fix = f"delete {found.path} to have it made again"
            raise ArtifactError("a file of the artifact is missing", where=found.path / path, fix=fix)


def _disk_needed(stage: Stage) -> int:
    needed = getattr(stage, "disk_needed", None)
    return ORDINARY_NEED if needed is None else int(needed())


def _clear(work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    if work.parent.is_dir() and not any(work.parent.iterdir()):
        work.parent.rmdir()


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _words(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
