"""Pairs of answers that somebody is to compare, read from any preference format."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ingot.data.records.record import Message, Preference, Turns, as_messages
from ingot.data.records.validate import Reading
from ingot.errors import DataError


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt.

    Args:
        id: content hash, the same wherever the pair was found, and whichever answer stood first.
        line: where the file has it.
        prompt: text or messages.
        a: one answer.
        b: the other one. Which is `a` follows from their texts and says nothing of their worth.
    """

    id: str
    line: int
    prompt: Turns
    a: Turns
    b: Turns


def make_pair(prompt: Turns, one: Turns, other: Turns, line: int = 0) -> Pair:
    """Makes the pair of two answers, in an order that does not depend on which was named first.

    Example:
        >>> make_pair("1+1?", "2", "3").id == make_pair("1+1?", "3", "2").id
        True
    """
    digests = {name: _hash(turns) for name, turns in (("one", one), ("other", other))}
    a, b = (one, other) if digests["one"] <= digests["other"] else (other, one)
    identity = _hash([_hash(prompt), *sorted(digests.values())])[:16]
    return Pair(identity, line, prompt, a, b)


def read_pairs(path: Path, format: str | None = None) -> list[Pair]:
    """Reads the pairs of a file, each once.

    Args:
        path: JSON lines or a JSON array of a preference format.
        format: its name; None tells it from the first rows.

    Raises:
        DataError: rows that cannot be used, or a format without two answers.
    """
    reading = Reading(path, format)
    if reading.format.shape is not Preference:
        what = f"holds rows of '{reading.format.name}', which are no pairs of answers"
        raise DataError(what, where=path, fix="give rows of prompt, chosen and rejected")
    found: dict[str, Pair] = {}
    for line, record in reading:
        assert isinstance(record, Preference)
        pair = make_pair(record.prompt, record.chosen, record.rejected, line)
        found.setdefault(pair.id, pair)
    if reading.problems.count:
        raise reading.problems.error(path)
    return list(found.values())


def messages_of(turns: Turns, role: str) -> list[Message]:
    """Returns what is to be shown: who speaks, and the words."""
    return [
        {"role": one["role"], "content": one.get("content") or json.dumps(one.get("tool_calls"), indent=2)}
        for one in as_messages(turns, role)
    ]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
