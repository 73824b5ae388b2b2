"""A line of stages, each making one artifact; knows nothing of machine learning.

- A stage's key is the hash of its name, settings, seed, identity and its parents' fingerprints: the same
  key means the same work, so it is done once.
- Work under way keeps what it needs in `work/<stage>-<key>`, which outlives a kill and goes when the
  artifact is published. So the same command, started again, goes on where it was. `status.json` there
  says what became of the last start: running (or killed), interrupted, failed.
- Other settings make the next version; the older versions stay. Settings that come back make their old
  version the newest again, without doing the work again.
- A stage that finds nothing to do raises `LeftOut`; that too is remembered as an artifact, with the reason.
- One process at a time writes in a run folder. Where several carry out a pipeline together, that is the
  lead; the others join in the stages that say so (`shared`), and wait in all else.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from ingot import artifact as artifacts
from ingot import status
from ingot.artifact import Artifact
from ingot.errors import ArtifactError, ConfigError, ResourceError, from_system
from ingot.lock import lock
from ingot.progress import Progress
from ingot.stage import ALONE, Context, Crew, LeftOut, Outlook, Stage
from ingot.status import WORK, unfinished

__all__ = ["Context", "Crew", "Decision", "LeftOut", "Outlook", "Pipeline", "Stage", "unfinished"]

RECIPE = "recipe.yaml"
ORDINARY_NEED = 16 * 2**20
"""Bytes of disk that a stage is taken to need when it does not say."""


@dataclass(frozen=True)
class Decision:
    """What a run would do about a stage: take `artifact` where it exists, else make it because of `why`."""

    stage: str
    address: str
    artifact: Artifact | None
    why: str


@dataclass(frozen=True)
class _Order:
    """What `run` was asked for."""

    progress: Progress
    seed: int
    device: str
    crew: Crew


class _Job(NamedTuple):
    """One making of an artifact, as the lead began it."""

    folder: str
    work: str
    key: str
    version: int
    interruptions: int


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

    def run(
        self,
        progress: Progress,
        seed: int = 0,
        device: str = "cpu",
        recipe: str = "",
        crew: Crew = ALONE,
    ) -> list[Artifact]:
        """Makes what is not there yet and returns every stage's artifact, in order.

        Args:
            progress: told about every stage.
            seed: base of all random numbers; a part of every key.
            device: where to compute; not a part of the keys.
            recipe: the text that these stages were made from, kept as `recipe.yaml`.
            crew: the processes that all call this.

        Raises:
            BusyError: another process works in the folder.
            ConfigError: a stage cannot work on this device, or with so many processes.
            ResourceError: no room on the disk, or no permission.
        """
        outlook = Outlook(crew.world, device, {stage.name: stage.config for stage in self.stages})
        for stage in self.stages:
            getattr(stage, "check", _accept)(outlook)
        order = _Order(progress, seed, device, crew)
        try:
            with ExitStack() as held:
                crew.by_lead(lambda: self._open(held, seed, recipe))
                made: dict[str, Artifact] = {}
                for stage in self.stages:
                    made[stage.name] = self._take_or_make(stage, made, order)
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

    def _open(self, held: ExitStack, seed: int, recipe: str) -> None:
        """Takes possession of the run folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        held.enter_context(lock(self.folder))
        artifacts.sweep(self.folder)
        self._check_space(seed)
        if recipe:
            artifacts.write_atomic(self.folder / RECIPE, recipe)

    def _check_space(self, seed: int) -> None:
        stages = {stage.name: stage for stage in self.stages}
        missing = [stages[decision.stage] for decision in self.plan(seed) if decision.artifact is None]
        needed = sum(_disk_needed(stage) for stage in missing)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            what = f"about {needed / 1e6:.0f} MB of disk are needed, {free / 1e6:.0f} MB are free"
            raise ResourceError(what, where=self.folder, fix="free some space, or work in another folder")

    def _take_or_make(self, stage: Stage, made: Mapping[str, Artifact], order: _Order) -> Artifact:
        crew = order.crew
        path = crew.by_lead(lambda: self._take(stage, made, order))
        if path is None and getattr(stage, "shared", False):
            path = self._make(stage, made, order)
        elif path is None:
            path = crew.by_lead(lambda: self._make(stage, made, replace(order, crew=ALONE)))
        return artifacts.read(Path(path))

    def _take(self, stage: Stage, made: Mapping[str, Artifact], order: _Order) -> str | None:
        """The folder of what was made before with the same key, or None; says what is done about it."""
        key = self._key(stage, made, order.seed)
        older = artifacts.versions(self.folder, stage.artifact)
        found = _with_key(older, key)
        if found is None:
            if older:
                changes = self._changes(stage, older[-1], made, order.seed)
                address = f"{stage.artifact}@{_next_version(older)}"
                stays = f"making {address}, {older[-1].address} stays"
                order.progress.say(f"{stage.name}: settings or inputs changed: {stays} ({changes})")
            return None
        _check_files(found)
        _clear(self._work(stage, key))
        if found.version != older[-1].version:
            again = artifacts.republish(found, _next_version(older))
            same = f"{found.address} was made with these settings"
            order.progress.say(f"{stage.name}: {same}: now {again.address}")
            return str(again.path)
        order.progress.say(f"{stage.name}: {found.address} is up to date")
        return str(found.path)

    def _make(self, stage: Stage, made: Mapping[str, Artifact], order: _Order) -> str:
        """Makes a stage's artifact and returns its folder; in a shared stage every process comes here."""
        crew = order.crew
        start = time.monotonic()
        with ExitStack() as publishing:
            job = _Job(*crew.by_lead(lambda: self._begin(publishing, stage, made, order)))
            parents = {name: made[name] for name in stage.needs}
            context = Context(
                Path(job.folder), Path(job.work), parents, order.progress, order.seed, order.device, crew=crew
            )
            if job.interruptions:
                order.progress.say(f"{stage.name}: going on where it was interrupted")
                often = "once" if job.interruptions == 1 else f"{job.interruptions} times"
                note = f"It was interrupted {often} and went on; its seconds count from the last start."
                context.notes.append(note)
            left_out = None
            try:
                stage.run(context)
            except LeftOut as reason:
                left_out = reason.reason
            except BaseException as error:
                if crew.lead:
                    status.end(context.work, error, job.interruptions)
                raise

            def publish() -> str:
                seconds = time.monotonic() - start
                self._record(stage, context, job, left_out, seconds)
                publishing.close()
                _clear(context.work)
                result = f"left out: {left_out}" if left_out else f"made {stage.artifact}@{job.version}"
                order.progress.say(f"{stage.name}: {result} ({_words(seconds)})")
                return str(self.folder / f"{stage.artifact}@{job.version}")

            return crew.by_lead(publish)

    def _begin(
        self, publishing: ExitStack, stage: Stage, made: Mapping[str, Artifact], order: _Order
    ) -> _Job:
        """Opens the hidden folder of what is to be made, and the folder of the work."""
        key = self._key(stage, made, order.seed)
        version = _next_version(artifacts.versions(self.folder, stage.artifact))
        work = self._work(stage, key)
        interruptions = status.begin(work)
        folder = publishing.enter_context(artifacts.publish(self.folder / f"{stage.artifact}@{version}"))
        return _Job(str(folder), str(work), key, version, interruptions)

    def _record(
        self, stage: Stage, context: Context, job: _Job, left_out: str | None, seconds: float
    ) -> None:
        if left_out is not None:
            _empty(context.folder)
        artifacts.write_record(
            context.folder,
            kind=stage.kind,
            name=stage.artifact,
            version=job.version,
            stage=stage.name,
            key=job.key,
            parents=context.parents,
            config=stage.config.plain(),
            seed=context.seed,
            identity=self._identity(stage),
            metrics=context.metrics,
            seconds=seconds,
            left_out=left_out,
            notes=context.notes,
        )

    def _work(self, stage: Stage, key: str) -> Path:
        return self.folder / WORK / f"{stage.name}-{key[:12]}"

    def _identity(self, stage: Stage) -> dict[str, Any]:
        if stage.name not in self._identities:
            identity = getattr(stage, "identity", None)
            self._identities[stage.name] = {} if identity is None else dict(identity())
        return self._identities[stage.name]

    def _key(self, stage: Stage, made: Mapping[str, Artifact], seed: int) -> str:
        parents = {name: made[name].record.fingerprint for name in stage.needs}
        return artifacts.content_hash(
            [stage.name, _decisive(stage, stage.config.plain()), seed, self._identity(stage), parents]
        )

    def _changes(self, stage: Stage, old: Artifact, made: Mapping[str, Artifact], seed: int) -> str:
        """What differs from the last version, for a person."""
        before, after = (_flat(_decisive(stage, one)) for one in (old.record.config, stage.config.plain()))
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


def _accept(outlook: Outlook) -> None:
    """What a stage without a `check` says to everything."""


def _decisive(stage: Stage, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide what is made."""
    indifferent = getattr(stage, "indifferent", ())
    return {name: value for name, value in settings.items() if name not in indifferent}


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
