"""What all benchmarks share: sides in processes of their own, in turn, and one JSON object at the end.

A benchmark runs each side as a fresh process that prints its figures as a JSON object on its last line.
Sides take turns, so that a busy minute of a shared machine hurts them alike; medians and the spread of
all rounds are reported.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DATA = "INGOT_BENCH_DATA"  # the environment variable that may name the text
KEYS = (
    *("name", "ours", "peer", "unit", "ratio", "target", "met"),
    *("spread", "hardware", "versions", "command", "details"),
)

Environment = Mapping[str, str]
Command = Sequence[str | Path]


def arguments(about: str) -> argparse.ArgumentParser:
    """Returns a parser with the options that benchmarks share."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: the figures mean nothing")
    parser.add_argument("--peer", type=Path, help="a checkout of nanoGPT; without it its side is null")
    parser.add_argument("--data", type=Path, help=f"tiny Shakespeare's input.txt  [default: ${DATA}]")
    parser.add_argument("--rounds", type=int, default=3, help="how often the sides take turns")
    parser.add_argument("--save", type=Path, help="also write the JSON object to this file")
    return parser


def given(parser: argparse.ArgumentParser, peer: bool = True) -> argparse.Namespace:
    """Reads the command line, and says what is missing for a full measurement.

    Args:
        parser: of the benchmark.
        peer: whether nanoGPT takes part in it.

    Raises:
        SystemExit: a peer or a text was named that is not there.
    """
    found = parser.parse_args()
    if found.data is None and os.environ.get(DATA):
        found.data = Path(os.environ[DATA])
    if found.data is not None and not found.data.is_file():
        parser.error(f"{found.data}: no such file; --data names tiny Shakespeare's input.txt")
    if found.peer is not None and not (found.peer / "model.py").is_file():
        parser.error(f"{found.peer}: holds no model.py; --peer names a checkout of nanoGPT")
    if peer and found.peer is None:
        say("no --peer: nanoGPT's side is null, and only limits of our own side are judged")
    return found


def say(text: str) -> None:
    """One line for whoever watches; standard output is for the result."""
    print(text, file=sys.stderr, flush=True)


def work(
    command: Command, environment: Environment | None = None, folder: Path | None = None
) -> dict[str, Any]:
    """Runs one side once.

    Args:
        command: whose last line of output is a JSON object; one that prints none gives only its time.
        environment: variables beside those of this process.
        folder: to run it in.

    Returns:
        That object, with `process_seconds`: from the start of the process to its end.

    Raises:
        SystemExit: the process failed; its output says why.
    """
    words = [str(word) for word in command]
    start = time.perf_counter()
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        cwd=folder,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"failed: {shlex.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    last = (done.stdout.strip().splitlines() or [""])[-1]
    figures: dict[str, Any] = json.loads(last) if last.startswith("{") else {}
    return figures | {"process_seconds": seconds}


def alternate(
    sides: Mapping[str, Command], rounds: int, environment: Environment | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Runs every side `rounds` times in turn.

    Returns:
        The figures of each side's rounds.
    """
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, command in sides.items():
            found = work(command, environment)
            figures[name].append(found)
            say(f"round {number + 1} of {rounds}: {name}: {json.dumps(found)[:120]}")
    return figures


def median(rounds: Sequence[Mapping[str, Any]], key: str) -> float:
    """Returns the median of one figure over rounds."""
    return statistics.median(float(one[key]) for one in rounds)


def spread(rounds: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """Returns the least and the largest of one figure over rounds."""
    values = [float(one[key]) for one in rounds]
    return [min(values), max(values)]


def hardware() -> dict[str, Any]:
    """Describes the machine: what the figures depend on."""
    from ingot import device

    known = device.describe()
    names = ("cpu", "cores", "threads", "memory", "instruction_sets", "gpu", "os")
    return {name: known[name] for name in names}


def commit(folder: Path) -> str | None:
    """Returns the commit of a checkout, marked where files differ from it; None outside of one."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def versions(*packages: str) -> dict[str, str | None]:
    """Returns the versions of python, torch, ingot, its commit, and further packages."""
    from ingot.device import version_of

    known = {name: version_of(name) for name in ("torch", "ingot", *packages)}
    return {"python": sys.version.split()[0], **known, "commit": commit(HERE)}


def command_line() -> str:
    """Returns how this benchmark was called: without directories, and without where it was saved."""
    words = sys.argv[:]
    if "--save" in words:
        place = words.index("--save")
        del words[place : place + 2]
    return "python benchmarks/" + shlex.join(Path(word).name if "/" in word else word for word in words)


def report(result: Mapping[str, Any], save: Path | None) -> None:
    """Prints the result as the last line of the output, and writes it where asked.

    Args:
        result: with the keys that docs/design.md names.
        save: a file, or None.
    """
    missing = [key for key in KEYS if key not in result]
    assert not missing, f"the result lacks {missing}"
    if save is not None:
        from ingot.atomic import write_atomic

        save.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(save, json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
