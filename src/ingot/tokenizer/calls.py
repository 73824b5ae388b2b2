"""Calls of tools as text, for chat templates that know none.

A call is written as `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, the form that the Hermes
models made usual and that many chat templates use.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"

Message = dict[str, Any]


def told(messages: Sequence[Message], tools: Sequence[Message]) -> list[Message]:
    """Returns a conversation for templates that know no tools: all of it is text.

    The tools stand in the system message, calls in the assistant's messages, and results in messages of
    the user.

    Args:
        messages: as a template would take them, `tool_calls` and role `tool` included.
        tools: `{"type": "function", "function": ...}` each; none leaves the system message as it is.
    """
    plain: list[Message] = []
    for message in messages:
        text = message["content"]
        calls = [_written(call["function"]) for call in message.get("tool_calls", ())]
        if calls:
            text = "\n".join([text, *calls] if text else calls)
        if message["role"] != "tool":
            plain.append({"role": message["role"], "content": text})
            continue
        result = f"<tool_response>\n{text}\n</tool_response>"
        if plain and plain[-1].get("results"):  # results of one answer's calls come together
            plain[-1]["content"] += "\n" + result
        else:
            plain.append({"role": "user", "content": result, "results": True})
    for message in plain:
        message.pop("results", None)
    if tools:
        if not plain or plain[0]["role"] != "system":
            plain.insert(0, {"role": "system", "content": ""})
        plain[0]["content"] = "\n\n".join(filter(None, [plain[0]["content"], _introduction(tools)]))
    return plain


def _introduction(tools: Sequence[Message]) -> str:
    signatures = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return (
        "You can call functions to help with the request. These are their signatures:\n"
        f"<tools>\n{signatures}\n</tools>\n"
        "For each call, write a JSON object with the function's name and arguments between these tags:\n"
        f'{OPEN}\n{{"name": <function name>, "arguments": <object of arguments>}}\n{CLOSE}'
    )


def _written(function: Message) -> str:
    arguments = function["arguments"]
    said = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f'{OPEN}\n{{"name": {json.dumps(function["name"])}, "arguments": {said}}}\n{CLOSE}'
