"""What an attack is made of, and what became of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from ingot.bench.attack_cases import Case
from ingot.bench.wire import Answer, Head
from ingot.config import Config

SHOWN = 20
"""Faults of each group that are kept in words."""


class AttackConfig(Config):
    """What is sent, and what counts as a failure.

    Args:
        seed: the same seed sends the same bytes.
        mutants: requests with changed bytes, for each path.
        every: only one of so many cases of the systematic groups is sent.
        megabytes: the size of enormous bodies.
        noise: connections that send no HTTP.
        disconnects: clients that leave in the middle.
        together: requests that come at the same moment.
        held: connections that dribble.
        held_seconds: how long they do.
        deadline: seconds within which everything must be answered.
        clients: requests under way at once.
        rounds: how often all of it is done; more than one makes a soak.
        examples: requests that schemathesis makes up for each operation, besides those at boundaries.
        kills: how often the process is killed under load, where the attack may start it.
        memory_mib: growth that is too much: since the first round where there are more, else since the start.
        strict: whether it is a failure, too, to accept what must be refused, or to refuse it without words.
    """

    seed: int = 0
    mutants: int = Field(default=300, ge=0)
    every: int = Field(default=1, ge=1)
    megabytes: int = Field(default=10, ge=1)
    noise: int = Field(default=100, ge=0)
    disconnects: int = Field(default=1_000, ge=0)
    together: int = Field(default=200, ge=1)
    held: int = Field(default=60, ge=1)
    held_seconds: float = Field(default=40, gt=0)
    deadline: float = Field(default=30, gt=0)
    clients: int = Field(default=8, ge=1)
    rounds: int = Field(default=1, ge=1)
    examples: int = Field(default=100, ge=1)
    kills: int = Field(default=3, ge=0)
    memory_mib: float = Field(default=1_024, gt=0)
    strict: bool = False


@dataclass
class Group:
    """What became of one kind of attack.

    Args:
        name: for people.
        outcomes: how often each came: `2xx`, `4xx` (with lawful refusals of overload), `5xx`, `hung`,
            `dropped`, `waiting` (for the rest of a request that has none), `left`, `cut`; besides,
            `accepted` counts 2xx for what must be refused, `silent` 4xx without OpenAI's error object.
        faults: the first of them, in words.
        remarks: the first of what only a strict attack counts, and of slow clients that were never cut off.
        alive: whether plain requests were answered afterwards.
        memory_mib: of the server's process afterwards; None where it is not known.
        seconds: it took.
    """

    name: str
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    alive: bool = False
    memory_mib: float | None = None
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        """Clients that came."""
        return sum(self.outcomes[name] for name in _OUTCOMES)

    def passed(self, strict: bool) -> bool:
        """Returns whether the server stood this."""
        count = self.outcomes
        sound = self.alive and not (count["5xx"] or count["hung"] or count["dropped"])
        return sound and not (strict and (count["accepted"] or count["silent"]))

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data."""
        counts = {name: self.outcomes[name] for name in (*_OUTCOMES, "accepted", "silent")}
        values = {"name": self.name, "sent": self.sent, **counts, "alive": self.alive}
        figures = {"memory_mib": self.memory_mib, "seconds": round(self.seconds, 2)}
        return {**values, **figures, "faults": self.faults, "remarks": self.remarks}

    def count(self, outcome: str, head: Head | None, words: str, case: Case | None = None) -> None:
        """Counts one client; see `attack_pressure.Told`."""
        if head is None:
            self.outcomes[outcome] += 1
            if outcome in ("hung", "dropped"):
                self._say(self.faults, words)
            elif words and outcome == "left" and words not in self.remarks:
                self._say(self.remarks, words)
            return
        status, is_raw = head.status, case is not None and case.raw is not None
        lawful = (status == 503 and "retry-after" in head.headers) or (is_raw and status in (501, 505))
        if status >= 500 and not lawful:
            self.outcomes["5xx"] += 1
            self._say(self.faults, f"{words}: {status}")
        elif status < 400:
            self.outcomes["2xx"] += 1
            if case is not None and case.refuse:
                self.outcomes["accepted"] += 1
                self._say(self.remarks, f"{words}: {status}")
        else:
            self.outcomes["4xx"] += 1

    def body(self, answer: Answer, words: str) -> None:
        """Looks at what an answer to a case says."""
        try:
            said = answer.json()
        except ValueError:
            said = None
        if answer.status < 300 and said is None:
            self.outcomes["dropped"] += 1
            self.outcomes["2xx"] -= 1
            self._say(self.faults, f"{words}: {answer.status} with a body that is no JSON")
        if answer.status >= 400 and not _names(said):
            self.outcomes["silent"] += 1
            self._say(self.remarks, f"{words}: {answer.status} without an error object")

    def remark(self, words: str) -> None:
        """Keeps something worth knowing that is no failure in itself."""
        self._say(self.remarks, words)

    def _say(self, to: list[str], words: str) -> None:
        if len(to) < SHOWN:
            to.append(words)


_OUTCOMES = ("2xx", "4xx", "5xx", "hung", "dropped", "waiting", "left", "cut")


def _names(said: Any) -> bool:
    error = said.get("error") if isinstance(said, dict) else None
    return isinstance(error, dict) and isinstance(error.get("message"), str) and bool(error["message"])


@dataclass
class Report:
    """What became of an attack.

    Args:
        model: that was asked.
        paths: that were attacked.
        config: what was sent.
        groups: what became of it; the last one where the server stopped answering.
        growth_mib: of the server's memory; None where it is not known.
    """

    model: str
    paths: list[str]
    config: AttackConfig
    groups: list[Group] = field(default_factory=list)
    growth_mib: float | None = None

    def passed(self) -> bool:
        """Returns whether the server stood all of it."""
        grew = self.growth_mib is not None and self.growth_mib > self.config.memory_mib
        return not grew and all(group.passed(self.config.strict) for group in self.groups)

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return {
            "model": self.model,
            "paths": self.paths,
            "config": self.config.plain(),
            "passed": self.passed(),
            "growth_mib": self.growth_mib,
            "groups": [group.plain() for group in self.groups],
        }


_COLUMNS = (*_OUTCOMES, "accepted")
HEADER = ["attack", "sent", *_COLUMNS, "alive", "MiB"]


def rows(report: Report) -> list[list[str]]:
    """Returns a table of an attack: one row for each group, under `HEADER`."""
    table = []
    for group in report.groups:
        count = group.outcomes
        numbers = [group.sent, *(count[name] for name in _COLUMNS)]
        held = "" if group.memory_mib is None else f"{group.memory_mib:,.0f}"
        table.append(
            [group.name, *(f"{number:,}" for number in numbers), "yes" if group.alive else "NO", held]
        )
    return table
