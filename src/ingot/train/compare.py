"""The difference between two runs: settings, origins, code, machine, and where their logs part.

The answer to "why is this one better?" is often in what nobody meant to change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ingot.errors import ArtifactError
from ingot.record import RECORD, read
from ingot.train.log import MetricsLog
from ingot.train.tracking import flat

LOG, PLAN = "metrics.jsonl", "plan.json"
Pairs = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Difference:
    """What is not the same in two runs; each value is a pair, None where one side has no such key.

    `settings` are dotted keys of the configurations (and of the plans made from them), `origins` the
    parents' fingerprints, `code` and `machine` what ran where; `results` are the numbers of the last log
    lines, those that are equal too. `parted` is the first step whose loss differs, None where none does.
    """

    runs: tuple[str, str]
    settings: Pairs
    origins: Pairs
    code: Pairs
    machine: Pairs
    results: Pairs
    parted: int | None

    def plain(self) -> dict[str, Any]:
        """Returns the difference as plain data."""
        return asdict(self)

    def table(self) -> str:
        """Returns the difference as text for people."""
        lines = [f"a  {self.runs[0]}", f"b  {self.runs[1]}"]
        for title in ("settings", "origins", "code", "machine", "results"):
            pairs: Pairs = getattr(self, title)
            lines += ["", f"{title}:" + ("" if pairs else " the same")]
            width = max(map(len, pairs), default=0)
            lines += [f"  {key:<{width}}  {_word(a)} -> {_word(b)}" for key, (a, b) in pairs.items()]
        parted = "never part" if self.parted is None else f"part at step {self.parted:,}"
        return "\n".join([*lines, "", f"losses: they {parted}"]) + "\n"


def difference(run_a: Path | str, run_b: Path | str) -> Difference:
    """Compares two runs.

    Args:
        run_a: a model's folder (`runs/demo/base@1`), or the work folder of a run under way.
        run_b: another.

    Raises:
        ArtifactError: a folder holds no log of a training.

    Example:
        >>> print(difference("runs/demo/base@1", "runs/demo/base@2").table())   # doctest: +SKIP
    """
    a, b = _read(Path(run_a)), _read(Path(run_b))
    last_a, last_b = (side.log[-1] if side.log else {} for side in (a, b))
    return Difference(
        runs=(str(run_a), str(run_b)),
        settings=_changed(a.settings, b.settings),
        origins=_changed(a.origins, b.origins),
        code=_changed(a.code, b.code),
        machine=_changed(a.machine, b.machine),
        results={key: (last_a.get(key), last_b.get(key)) for key in {**last_a, **last_b}},
        parted=_parted(a.log, b.log),
    )


class _Side(NamedTuple):
    """What is known of one run."""

    log: list[dict[str, Any]]
    settings: dict[str, Any]
    origins: dict[str, Any]
    code: dict[str, Any]
    machine: dict[str, Any]


def _read(folder: Path) -> _Side:
    log = MetricsLog(folder / LOG)
    if not log.path.exists():
        fix = "give a trained model's folder, such as runs/demo/base@1"
        raise ArtifactError(f"holds no {LOG}", where=folder, fix=fix)
    plan = folder / PLAN
    settings = {"plan": json.loads(plan.read_text(encoding="utf-8"))} if plan.exists() else {}
    if not (folder / RECORD).exists():
        return _Side(log.read(), flat(settings), {}, {}, {})
    record = read(folder).record
    settings |= {**record.config, "seed": record.seed}
    origins = {name: parent["fingerprint"][:12] for name, parent in record.parents.items()}
    return _Side(log.read(), flat(settings), origins, record.code, record.environment)


def _changed(a: Mapping[str, Any], b: Mapping[str, Any]) -> Pairs:
    keys = {**a, **b}  # in order, those of the first run first
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


def _parted(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> int | None:
    """The first step at which both have a loss and they differ, or one goes on alone."""
    losses_a, losses_b = ({line["step"]: repr(line.get("loss")) for line in log} for log in (a, b))
    apart = [step for step in {**losses_a, **losses_b} if losses_a.get(step) != losses_b.get(step)]
    return min(apart, default=None)


def _word(value: Any) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
