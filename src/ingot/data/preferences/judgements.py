"""What annotators said of pairs: one line of JSON each, appended whole, never changed.

{"pair", "annotator", "choice": "a", "b", "tie" or "skip", "first": which answer was shown first, "at"}

Who judges a pair again appends another line, and the last one counts.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from ingot.data.preferences.pairs import Pair
from ingot.data.records.record import Preference
from ingot.errors import DataError

Choice = Literal["a", "b", "tie", "skip"]
CHOICES: tuple[str, ...] = get_args(Choice)


@dataclass(frozen=True)
class Judgement:
    """One annotator's word on one pair.

    Args:
        pair: its id.
        annotator: who judged.
        choice: the better answer, a tie, or "skip" for no opinion.
        first: the answer that was shown first (on the left), "a" or "b"; "" where nobody knows.
        at: when, as ISO 8601 in UTC.
    """

    pair: str
    annotator: str
    choice: Choice
    first: str = ""
    at: str = ""


def now() -> str:
    """Returns the time as judgements have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def append(path: Path, judgement: Judgement) -> None:
    """Adds a line to the file, whole and on disk; several processes may do so at once.

    A line that a power cut left unfinished is ended first, so that it spoils no other.
    """
    line = json.dumps(asdict(judgement), ensure_ascii=True).encode() + b"\n"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(handle, line) != len(line):
            raise OSError(f"{path}: the line was not written whole")
        os.fsync(handle)
    finally:
        os.close(handle)


def read_judgements(path: Path) -> list[Judgement]:
    """Reads the last word of every annotator on every pair, in the order they were first given.

    Raises:
        DataError: a line that is no judgement; an unfinished last line is none, and is passed over.
    """
    latest: dict[tuple[str, str], Judgement] = {}
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            one = _judgement(json.loads(line))
        except ValueError as error:
            if number == len(lines) or _torn(line):
                continue
            what = f"line {number} is no judgement ({error})"
            raise DataError(what, where=path, fix="remove the line") from None
        latest[one.pair, one.annotator] = one
    return list(latest.values())


def preferences(
    pairs: Sequence[Pair], judgements: Iterable[Judgement]
) -> tuple[list[Preference], Counter[str]]:
    """Returns what most annotators preferred.

    Args:
        pairs: that were judged.
        judgements: of any number of annotators.

    Returns:
        The preferences in the order of the pairs, each with `votes` and the annotators among its extras,
        and how many pairs gave none: "nobody judged it", "no majority".
    """
    votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    who: defaultdict[str, list[str]] = defaultdict(list)
    for one in judgements:
        if one.choice != "skip":
            votes[one.pair][one.choice] += 1
            who[one.pair].append(one.annotator)
    found, without = [], Counter[str]()
    for pair in pairs:
        cast = votes[pair.id]
        if not cast:
            without["nobody judged it"] += 1
        elif cast["a"] == cast["b"] or cast["tie"] >= max(cast["a"], cast["b"]):
            without["no majority"] += 1
        else:
            better, worse = (pair.a, pair.b) if cast["a"] > cast["b"] else (pair.b, pair.a)
            counted = {"a": cast["a"], "b": cast["b"], "tie": cast["tie"]}
            extras = {"id": pair.id, "votes": counted, "annotators": sorted(who[pair.id])}
            found.append(Preference(pair.prompt, better, worse, extras=extras))
    return found, without


def _judgement(value: Any) -> Judgement:
    names = {field.name for field in fields(Judgement)}
    if not isinstance(value, dict) or not {"pair", "annotator", "choice"} <= value.keys():
        raise ValueError("misses 'pair', 'annotator' or 'choice'")
    if not all(isinstance(value.get(name, ""), str) for name in names):
        raise ValueError("holds something that is not text")
    if value["choice"] not in CHOICES:
        raise ValueError(f"the choice is '{value['choice']}', not one of {', '.join(CHOICES)}")
    return Judgement(**{name: value[name] for name in names if name in value})


def _torn(line: bytes) -> bool:
    """Whether a power cut took the end of the line: it opens like ours and never closes."""
    return line.startswith(b'{"pair": ') and not line.rstrip().endswith(b"}")
