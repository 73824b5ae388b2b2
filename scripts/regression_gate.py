"""Compares a fresh benchmark result with the committed one of the same name, and fails where it got slower.

Run as `python scripts/regression_gate.py FRESH.json [--results DIR] [--allow 0.10]` after a benchmark with
`--save FRESH.json`. A claim that was measured beside a peer is judged by its ratio, which means the same on
every machine; one that was not is judged by our own figure, and only on the same processor. Exit code 1
says that a claim is worse by more than what is allowed, 2 that the files cannot be compared.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

import benchmarks_table as table

ALLOWED = 0.10


class Verdict(NamedTuple):
    """What became of one claim: `change` above 0 is better; None could not be judged."""

    what: str
    before: float | None
    now: float | None
    change: float | None


def compare(before: dict[str, Any], now: dict[str, Any]) -> list[Verdict]:
    """Judges every claim that both results make.

    Args:
        before: the committed result.
        now: the fresh one, of the same benchmark.
    """
    same_machine = before["hardware"]["cpu"] == now["hardware"]["cpu"]
    known = {claim["what"]: claim for claim in before["details"]["claims"]}
    verdicts = []
    for claim in now["details"]["claims"]:
        old = known.get(claim["what"])
        if old is None:
            continue
        if old["ratio"] and claim["ratio"]:
            change = claim["ratio"] / old["ratio"] - 1
            verdicts.append(Verdict(claim["what"], old["ratio"], claim["ratio"], change))
        else:
            change = _own(old, claim) if same_machine else None
            verdicts.append(Verdict(claim["what"], old["ours"], claim["ours"], change))
    return verdicts


def _own(old: dict[str, Any], new: dict[str, Any]) -> float | None:
    """By how much our own figure got better; shares of a whole (%) are compared by their difference."""
    if old["ours"] is None or new["ours"] is None:
        return None
    better = 1 if new["better"] == "higher" else -1
    if new["unit"] == "%":
        return better * (new["ours"] - old["ours"]) / 100
    change: float = new["ours"] / old["ours"] - 1
    return change if better > 0 else old["ours"] / new["ours"] - 1


def main() -> int:
    """Compares, prints a line per claim, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fresh", type=Path, help="what a benchmark wrote with --save")
    parser.add_argument("--results", type=Path, default=table.ROOT / "benchmarks" / "results")
    parser.add_argument("--allow", type=float, default=ALLOWED, help="share by which a claim may get worse")
    chosen = parser.parse_args()
    try:
        now = table.read_one(chosen.fresh)
        before = table.read_one(chosen.results / f"{now['name']}.json")
    except (table.UnusableResult, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    verdicts = compare(before, now)
    for one in verdicts:
        change = "not judged" if one.change is None else f"{100 * one.change:+.1f} %"
        print(f"{one.what}: {one.before} -> {one.now} ({change})")
    worse = [one.what for one in verdicts if one.change is not None and one.change < -chosen.allow]
    if worse:
        print(f"worse by more than {100 * chosen.allow:.0f} %: {', '.join(worse)}", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
