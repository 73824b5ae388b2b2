"""Removing sources from the corpus of a run: the next version is the old one without them.

The new version says that it was made with these sources excluded, and so does the run's recipe; so the run,
started again with that recipe, takes it as it is and makes all that follows anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.artifact import (
    Artifact,
    content_hash,
    latest,
    publish,
    read,
    versions,
    write_atomic,
    write_record,
)
from ingot.config import read_yaml, write_yaml
from ingot.data.corpus import read_counts, summary
from ingot.data.lineage import Removed, read_inputs, stale, without
from ingot.data.units import excluded
from ingot.errors import ArtifactError
from ingot.lock import lock
from ingot.pipeline import RECIPE
from ingot.stages.prepare import Prepare, PrepareConfig, identity_of


@dataclass(frozen=True)
class Removal:
    """What was done, and what is left to do.

    Args:
        removed: what the corpus lost.
        made: the new version.
        holding: older versions of the corpus, which still hold the sources.
        stale: what was made from those.
        recipe: the run's recipe, which now excludes the sources; None where the run has none.
    """

    removed: Removed
    made: Artifact
    holding: list[Artifact]
    stale: list[Artifact]
    recipe: Path | None


def remove(run: Path, patterns: Sequence[str]) -> Removal:
    """Writes the next version of a run's corpus, without some sources.

    Args:
        run: the run folder.
        patterns: of sources, as `ingot data inspect` names them: paths, folders of them, or globs.

    Raises:
        ArtifactError: the run has no corpus.
        BusyError: another process works in the folder.
        DataError: no source is one of those named, or nothing would be left.
    """
    old = latest(run, Prepare.artifact)
    if old is None:
        raise ArtifactError("holds no corpus", where=run, fix="give a run folder such as runs/demo")
    with lock(run):
        before = versions(run, Prepare.artifact)
        config = PrepareConfig.parse(old.record.config, where=old.path)
        wanted = tuple(dict.fromkeys([*config.exclude, *patterns]))
        config = config.model_copy(update={"exclude": wanted})
        identity = old.record.identity | {"sources": _identity(old.path, patterns)}
        final = run / f"{Prepare.artifact}@{old.version + 1}"
        with publish(final) as folder:
            removed = without(old.path, folder, patterns, str(read_counts(old.path).get("name", "")))
            write_record(
                folder,
                kind=Prepare.kind,
                name=Prepare.artifact,
                version=old.version + 1,
                stage=Prepare.name,
                key=key_of(config, old.record.seed, identity),
                config=config.plain(),
                seed=old.record.seed,
                identity=identity,
                metrics=summary(read_counts(folder)),
                notes=[*old.record.notes, _note(old, removed)],
            )
        recipe = _exclude(run / RECIPE, wanted)
        return Removal(removed, read(final), before, stale(run, [one.address for one in before]), recipe)


def key_of(config: PrepareConfig, seed: int, identity: dict[str, Any]) -> str:
    """Returns the key by which a pipeline would know a corpus of these settings (see `Pipeline`)."""
    decisive = {name: value for name, value in config.plain().items() if name not in Prepare.indifferent}
    return content_hash([Prepare.name, decisive, seed, identity, {}])


def _identity(corpus: Path, patterns: Sequence[str]) -> str:
    """What the identity of the sources that stay would be."""
    addresses: dict[str, str] = dict(read_counts(corpus).get("addresses", {}))
    inputs: list[tuple[str, str | None, str | None]] = [
        (one.name, one.sha256, addresses.pop(one.name, None)) for one in read_inputs(corpus)
    ]
    inputs += [(name, None, url) for name, url in addresses.items()]
    return identity_of(one for one in sorted(inputs) if not excluded(one[0], patterns))


def _note(old: Artifact, removed: Removed) -> str:
    count = sum(removed.documents.values())
    note = f"{len(removed.sources):,} sources with {count:,} documents were removed from {old.address}."
    if removed.orphans:
        note += f" {removed.orphans:,} documents that had been dropped as their duplicates stay dropped."
    return note


def _exclude(path: Path, patterns: Sequence[str]) -> Path | None:
    """Has a recipe leave sources out."""
    if not path.is_file():
        return None
    values = read_yaml(path)
    stages = values.get("stages") or {}
    prepare = (stages.get(Prepare.name) or {}) | {"exclude": list(patterns)}
    write_atomic(path, write_yaml(values | {"stages": stages | {Prepare.name: prepare}}))
    return path
