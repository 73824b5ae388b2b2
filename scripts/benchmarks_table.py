"""Rewrites the table in docs/benchmarks.md from the results in benchmarks/results/*.json.

Run as `python scripts/benchmarks_table.py [--results DIR] [--page FILE]`; `make bench` runs it. Only the
standard library is used. A result that is not as it should be, or one of a smoke run, ends the run with one
line that names it, and exit code 2. Figures are rounded, never in our favour.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results: written by scripts/benchmarks_table.py -->", "<!-- end of results -->"
KEYS = (
    *("name", "ours", "peer", "unit", "ratio", "target", "met"),
    *("spread", "hardware", "versions", "command", "details"),
)
HEADER = ("what", "ours", "peer", "times better", "target", "met")
VERDICTS = {True: "yes", False: "**no**", None: "not judged"}
DIGITS = 4


class UnusableResult(Exception):
    """A result that must not be quoted; the message names it."""


def read(folder: Path) -> list[dict[str, Any]]:
    """Reads all results.

    Args:
        folder: of the JSON files.

    Returns:
        The results, by name.

    Raises:
        UnusableResult: no results, a file that is no result, or one of a smoke run.
    """
    found = [read_one(path) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise UnusableResult(f"{folder}: no results; make bench makes them")
    return found


def read_one(path: Path) -> dict[str, Any]:
    """Reads one result; see `read`."""
    try:
        result: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnusableResult(f"{path}: not JSON ({error})") from None
    missing = [key for key in KEYS if not isinstance(result, dict) or key not in result]
    if missing:
        raise UnusableResult(f"{path}: lacks {', '.join(missing)}")
    if result["details"]["quick"]:
        raise UnusableResult(f"{path}: made with --quick, whose figures mean nothing")
    return dict(result)


def draw(results: list[dict[str, Any]]) -> str:
    """Returns the Markdown of all results: a table of claims for each, and where it was measured."""
    return "\n\n".join(_section(result) for result in results)


def _section(result: dict[str, Any]) -> str:
    lines = [f"### {result['name']}", "", _row(HEADER), _row(["---"] * len(HEADER))]
    lines += [_row(_cells(claim)) for claim in result["details"]["claims"]]
    spread = [
        f"{side} {_figure(ends[0])} to {_figure(ends[1])}" for side, ends in result["spread"].items() if ends
    ]
    if spread:
        lines += ["", f"Least and largest over rounds: {'; '.join(spread)} {result['unit']}."]
    return "\n".join([*lines, "", f"{_machine(result)} `{result['command']}`"])


def _cells(claim: dict[str, Any]) -> list[str]:
    higher = claim["better"] == "higher"
    return [
        claim["what"],
        _with_unit(claim["ours"], claim["unit"], up=not higher),
        _with_unit(claim["peer"], claim["unit"], up=higher),
        "" if claim["ratio"] is None else f"{math.floor(claim['ratio'] * 100) / 100:.2f}",
        "" if claim["target"] == "none" else claim["target"],
        "" if claim["target"] == "none" else VERDICTS[claim["met"]],
    ]


def _machine(result: dict[str, Any]) -> str:
    hardware, versions = result["hardware"], result["versions"]
    where = f"{hardware['gpu']}, " if hardware["gpu"] else ""
    where += f"{hardware['cores']} cores, {hardware['threads']} threads of {hardware['cpu']}"
    useful = [kind for kind in ("amx_bf16", "avx512_bf16") if kind in hardware["instruction_sets"]]
    where += f" ({', '.join(useful)})" if useful else ""
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return f"{where}; {known}."


def _with_unit(value: float | None, unit: str, up: bool) -> str:
    return "n/a" if value is None else f"{_figure(value, up)} {unit}"


def _figure(value: float, up: bool | None = None) -> str:
    """A number with four digits; rounded up, down, or to the nearest."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = DIGITS - 1 - math.floor(math.log10(abs(value)))
    scaled = value * 10**places
    whole = round(scaled) if up is None else math.ceil(scaled) if up else math.floor(scaled)
    return f"{whole / 10**places:,.{max(0, places)}f}"


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def rewrite(page: str, table: str) -> str:
    """Returns the page with the table between its two marks replaced.

    Raises:
        UnusableResult: the page lacks the marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UnusableResult(f"the page lacks '{BEGIN}' and '{END}'")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def main() -> int:
    """Reads results, writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    given = parser.parse_args()
    try:
        page = given.page.read_text(encoding="utf-8")
        given.page.write_text(rewrite(page, draw(read(given.results))), encoding="utf-8")
    except (UnusableResult, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
