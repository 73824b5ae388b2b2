"""What a pipeline and its stages know of one another: the context of some work, and what a stage is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ingot.artifact import Artifact
from ingot.config import Config
from ingot.progress import Progress

T = TypeVar("T")


class LeftOut(Exception):
    """Raised by a stage that has nothing to make; `reason` is a clause for the report."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Crew(Protocol):
    """The processes that carry out a pipeline together; `ingot.parallel.turns.Crew` is one of several."""

    @property
    def lead(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        ...

    @property
    def world(self) -> int:
        """How many processes there are."""
        ...

    def by_lead(self, work: Callable[[], T]) -> T:
        """Has the lead alone do some work; all get its (JSON-able) result."""
        ...


class Alone:
    """One process by itself."""

    lead, world = True, 1

    def by_lead(self, work: Callable[[], T]) -> T:
        """Does the work."""
        return work()


ALONE = Alone()


@dataclass
class Context:
    """What a stage works with.

    `folder` takes the artifact's files. `work` outlives a kill. `parents` holds what the needed stages
    made. `notes` takes sentences for the report, `metrics` numbers for the record. In a shared stage every
    process of the `crew` has a context, but only the lead's is looked at, and only the lead writes files.
    """

    folder: Path
    work: Path
    parents: dict[str, Artifact]
    progress: Progress
    seed: int
    device: str
    notes: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    crew: Crew = ALONE


@dataclass(frozen=True)
class Outlook:
    """What is known before any work: how many processes, the device, and every stage's settings by name."""

    world: int
    device: str
    settings: Mapping[str, Config]


class Stage(Protocol):
    """One step of the line.

    A stage may also have

    - `identity() -> dict`: plain data besides the settings and parents that decides whether the work is
      the same (hashes of the user's files);
    - `indifferent`: names of settings that do not decide it (how the work is watched);
    - `disk_needed() -> int`, in bytes;
    - `check(outlook: Outlook)`, which refuses what cannot work, before anything is computed;
    - `shared = True`: all processes of a crew run it together.
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
