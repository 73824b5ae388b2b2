"""Treating all units of a corpus, on all cores: what is finished stays so, and nothing can stop the rest.

A worker that dies on a file twice, or is busy with one for too long, loses that file, which is named in the
ledger. Small corpora are read in this process, unless a library of somebody else has to read something.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from ingot.atomic import sweep
from ingot.data import units
from ingot.data.sources import is_foreign
from ingot.data.treatment import Said, Treatment, pieces
from ingot.data.units import Finished, Group, Large, Piece, Seen, Unit
from ingot.data.workers import Death, carry_out
from ingot.errors import ResourceError
from ingot.progress import Progress

WORTH_A_POOL = 16 * 2**20
"""Bytes of input below which one process is done before others would have started."""

UNITS = "units"

_MB = 1e6


def treat_all(
    sources: Sequence[Seen], treatment: Treatment, workers: int, work: Path, progress: Progress
) -> Finished:
    """Reads and treats all sources; units that an earlier start finished are taken up.

    Args:
        sources: in order of their names.
        treatment: of every document; its folder is replaced.
        workers: processes.
        work: where the units go, in a folder of their own.
        progress: is told how far it is.

    Raises:
        ResourceError: workers died more than once on the same input.
    """
    folder = work / UNITS
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    planned = units.plan(sources)
    missing = [
        units.without_late(unit, folder) if isinstance(unit, Group) else unit
        for unit in planned
        if not units.finished(unit, folder)
    ]
    total = sum(seen.size for seen in sources)
    left = sum(_bytes(unit) for unit in missing)
    unknown = any(isinstance(unit, Large) and unit.seen.digest is None for unit in missing)
    workers = workers if left >= WORTH_A_POOL or unknown else 1
    treatment = dataclasses.replace(treatment, folder=folder)
    crew = _Watch(folder)
    limit = treatment.reading.max_seconds
    patience = None if limit is None else partial(_patience, limit=limit)
    if workers == 1 and not any(map(_is_foreign, missing)):
        patience = None  # nothing that could keep this process for ever
    with progress.task("reading and cleaning", total / _MB or None, "MB") as task:
        read = total - left
        task.at(read / _MB)
        kept = 0
        tasks = _tasks(missing, treatment, workers)
        with closing(carry_out(tasks, _Announced(treatment), workers, crew.died, patience)) as messages:
            for unit, said in messages:
                crew.at(unit, said.source)
                kept += said.documents
                read += _done(unit, said.bytes, crew)
                task.at(min(read, total) / _MB, f"{kept:,} documents of {crew.files:,} files")
    return units.gather(planned, folder)


def _tasks(missing: Sequence[Group | Large], treatment: Treatment, workers: int) -> Iterator[Unit]:
    """The units as tasks; large files are read here and shared out where there are too few of them."""
    large = sum(isinstance(unit, Large) for unit in missing)
    for unit in missing:
        if isinstance(unit, Large) and workers > 1 and large < workers and not _is_foreign(unit):
            yield from pieces(unit, treatment)
        else:
            yield unit


def _bytes(unit: Group | Large) -> int:
    return unit.seen.size if isinstance(unit, Large) else sum(seen.size for seen in unit.sources)


@dataclasses.dataclass(frozen=True)
class _Announced:
    """The treatment, which says what it begins before it can be kept busy; travels to the workers."""

    treatment: Treatment

    def __call__(self, unit: Unit) -> Iterator[Said]:
        if isinstance(unit, Large):
            yield Said(0, 0, unit.seen.name)
        yield from self.treatment(unit)


def _is_foreign(unit: Group | Large) -> bool:
    """Whether something in a unit is parsed by a library of somebody else."""
    sources = unit.sources if isinstance(unit, Group) else (unit.seen,)
    return any(seen.digest is not None and is_foreign(seen.path) for seen in sources)


def _patience(unit: Unit, limit: float) -> float | None:
    """How long a worker may be silent; what is read already, or comes over a network, takes its time."""
    if isinstance(unit, Piece) or (isinstance(unit, Large) and unit.seen.digest is None):
        return None
    return limit


class _Watch:
    """Where the workers are: which source each has begun, and how much of large files is done."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files = 0
        self.begun: dict[str, str] = {}
        self.credited: Counter[str] = Counter()
        self.deaths: Counter[tuple[str, str]] = Counter()

    def at(self, unit: Unit, source: str) -> None:
        self.files += self.begun.get(unit.name) != source and not isinstance(unit, Piece)
        self.begun[unit.name] = source

    def died(self, death: Death[Unit]) -> Unit | None:
        """What to do after a worker died: try again; leave a small file out that did it twice.

        One that had to be killed is not given the same file again.
        """
        unit = death.task
        source = self.begun.get(unit.name, "")
        if death.late is not None and not isinstance(unit, Piece):
            return units.leave_out(unit, self._folder, source, death.late)
        self.deaths[unit.name, source] += 1
        if self.deaths[unit.name, source] == 1:
            return unit
        if isinstance(unit, Group) and source:
            return dataclasses.replace(unit, avoid=unit.avoid | {source})
        raise ResourceError(
            f"a worker process ended twice ({death.words()})",
            where=source or unit.name,
            fix="give it fewer workers, so that each has more memory, or leave that file out",
        )


def _done(unit: Unit, size: int, watch: _Watch) -> int:
    """How much of the input is newly done; a large file's text may be longer than the file."""
    if isinstance(unit, Group):
        return size
    name = unit.seen.name
    if unit.seen.digest is None:
        return 0
    size = min(size, unit.seen.size - watch.credited[name])
    watch.credited[name] += size
    return size
