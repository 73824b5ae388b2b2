"""ShareGPT: `conversations` of `{"from", "value"}`, with names of their own for who speaks.

human, user -> user; gpt, chatgpt, assistant, model, bing, bard -> assistant; observation, tool -> tool;
system; function_call -> an assistant's tool call, whose value is JSON: {"name": ..., "arguments": {...}}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ingot.data.records.format import Format
from ingot.data.records.messages import check_order, messages, missing, text
from ingot.data.records.record import Chat, Message, RowError
from ingot.errors import did_you_mean

_CALL = "function_call"
_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "assistant", "model", "bing", "bard"), "assistant"),
    **dict.fromkeys(("observation", "tool"), "tool"),
    "system": "system",
}
_NAMES = {
    "user": "human",
    "assistant": "gpt",
    "tool": "observation",
    "system": "system",
    "developer": "system",
}


def _read(row: Mapping[str, Any]) -> Chat:
    said = row["conversations"]
    if not isinstance(said, list) or not said:
        raise RowError(
            "'conversations' is no list of messages", 'write [{"from": "human", "value": ...}, ...]'
        )
    found: list[Message] = []
    if row.get("system"):
        found.append({"role": "system", "content": text(row["system"], "system")})
    found += [_message(one, f"conversations[{place}]") for place, one in enumerate(said, 1)]
    checked = messages(found, "conversations")
    check_order(checked, "conversations", "chat")
    return Chat(checked)


def _message(one: Any, name: str) -> Message:
    if not isinstance(one, dict):
        raise RowError(f"'{name}' is no message", 'write {"from": "human", "value": ...}')
    for key in ("from", "value"):
        if key not in one:
            error = missing(one, key, ("from", "value"))
            raise RowError(f"'{name}' {error.what}", error.fix)
    speaker = text(one["from"], f"{name}.from")
    if speaker == _CALL:
        return {"role": "assistant", "content": "", "tool_calls": _calls(one["value"], name)}
    if speaker not in _ROLES:
        raise RowError(f"'{name}.from' is '{speaker}'", did_you_mean(speaker, [*_ROLES, _CALL]))
    role = _ROLES[speaker]
    return {"role": role, "content": text(one["value"], f"{name}.value", empty=role == "tool")}


def _calls(value: Any, name: str) -> list[dict[str, Any]]:
    try:
        called = json.loads(text(value, f"{name}.value"))
    except ValueError:
        called = None
    found = called if isinstance(called, list) else [called]
    if not found or not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in found):
        raise RowError(f"'{name}.value' is no call", 'write the JSON {"name": ..., "arguments": {...}}')
    return [
        {"type": "function", "function": {"name": one["name"], "arguments": one.get("arguments", {})}}
        for one in found
    ]


def _write(record: Chat) -> dict[str, Any]:
    found = []
    for one in record.messages:
        calls = one.get("tool_calls")
        if one.get("content") or not calls:
            found.append({"from": _NAMES[one["role"]], "value": one["content"]})
        if calls:
            functions = [call["function"] for call in calls]
            value = json.dumps(functions if len(functions) > 1 else functions[0], ensure_ascii=False)
            found.append({"from": _CALL, "value": value})
    return {"conversations": found}


SHAREGPT = Format(
    "sharegpt", "conversations of from and value", Chat, ("conversations",), ("system",), _read, _write
)
