"""Alpaca: an instruction, perhaps an input, and the output; with two answers it is a preference.

{"instruction": "Correct this.", "input": "He go.", "output": "He goes."}, and in later variants `system`
and `history` (pairs of earlier questions and answers). The user says instruction and input, one under the
other; written back, both stand in `instruction`, as nothing tells them apart any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingot.data.records.format import Format
from ingot.data.records.messages import text
from ingot.data.records.record import Chat, Message, Preference, RowError, as_messages


def _read(row: Mapping[str, Any]) -> Chat:
    answer = {"role": "assistant", "content": text(row["output"], "output")}
    return Chat([*_asked(row), answer])


def _read_preference(row: Mapping[str, Any]) -> Preference:
    asked = _asked(row)
    plain = len(asked) == 1
    return Preference(
        asked[0]["content"] if plain else asked,
        text(row["chosen"], "chosen"),
        text(row["rejected"], "rejected"),
    )


def _asked(row: Mapping[str, Any]) -> list[Message]:
    found: list[Message] = []
    if row.get("system"):
        found.append({"role": "system", "content": text(row["system"], "system")})
    for place, pair in enumerate(row.get("history") or [], 1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowError(f"'history[{place}]' is no pair", "write [question, answer]")
        for role, said in zip(("user", "assistant"), pair, strict=True):
            found.append({"role": role, "content": text(said, f"history[{place}]")})
    asked = text(row["instruction"], "instruction")
    more = text(row["input"] if row.get("input") is not None else "", "input", empty=True)
    return [*found, {"role": "user", "content": f"{asked}\n{more}" if more.strip() else asked}]


def _write(record: Chat) -> dict[str, Any]:
    system, pairs = _pairs(record.messages)
    (asked, answer), earlier = pairs[-1], pairs[:-1]
    row: dict[str, Any] = {"instruction": asked, "input": "", "output": answer}
    if system:
        row["system"] = system
    if earlier:
        row["history"] = [list(pair) for pair in earlier]
    return row


def _write_preference(record: Preference) -> dict[str, Any]:
    row = _write(Chat([*as_messages(record.prompt, "user"), {"role": "assistant", "content": "."}]))
    del row["output"]
    return row | {"chosen": _only(record.chosen), "rejected": _only(record.rejected)}


def _only(turns: Any) -> str:
    (answer, *more) = as_messages(turns, "assistant")
    if more:
        raise RowError("an answer of several messages has no place in Alpaca's format", "use 'preference'")
    return str(answer["content"])


def _pairs(messages: list[Message]) -> tuple[str, list[tuple[str, str]]]:
    system = ""
    if messages[0]["role"] in ("system", "developer"):
        system, messages = messages[0]["content"], messages[1:]
    said = []
    for one in messages:
        if one["role"] not in ("user", "assistant") or one.get("tool_calls"):
            raise RowError("tool calls have no place in Alpaca's format", "use 'messages'")
        said.append(one["content"])
    return system, list(zip(said[::2], said[1::2], strict=True))


ALPACA = Format(
    "alpaca",
    "instruction, input, output",
    Chat,
    ("instruction", "output"),
    ("input", "system", "history"),
    _read,
    _write,
)

ALPACA_PREFERENCE = Format(
    "alpaca-preference",
    "instruction, input, and two answers",
    Preference,
    ("instruction", "chosen", "rejected"),
    ("input", "system", "history"),
    _read_preference,
    _write_preference,
    fits=lambda row: isinstance(row["chosen"], str),
)
