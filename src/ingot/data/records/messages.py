"""Messages of a conversation: who may speak, in which order, and what counts as text."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from ingot.data.records.record import Message, RowError, Turns
from ingot.errors import did_you_mean

ROLES = ("system", "developer", "user", "assistant", "tool")

_FIRST = ("system", "developer")
_MAY_FOLLOW = {"user": ("assistant",), "assistant": ("user",), "tool": ("tool", "assistant")}


def text(value: Any, name: str, empty: bool = False) -> str:
    """Returns the value if it is text that can be trained on.

    Args:
        value: anything that JSON holds.
        name: what to call it in an error.
        empty: whether text without a visible sign will do.

    Raises:
        RowError: no text, empty, or text that is no valid Unicode (half of a surrogate pair).
    """
    if not isinstance(value, str):
        raise RowError(f"'{name}' is {_kind(value)}, not text", 'write it as "..."')
    if not empty and not value.strip():
        raise RowError(f"'{name}' is empty", "fill it in or leave the row out")
    if not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value):
        raise RowError(f"'{name}' holds half of a surrogate pair, which is no character", "write it as UTF-8")
    return value


def messages(value: Any, name: str) -> list[Message]:
    """Returns a list of messages after a look at each: a known role, and content of text.

    Raises:
        RowError: naming the message by its place, counted from 1.
    """
    if not isinstance(value, list):
        raise RowError(
            f"'{name}' is {_kind(value)}, not a list of messages", 'write [{"role", "content"}, ...]'
        )
    if not value:
        raise RowError(f"'{name}' holds no message", "fill it in or leave the row out")
    return [_message(one, f"{name}[{place}]") for place, one in enumerate(value, 1)]


def turns(value: Any, name: str) -> Turns:
    """Returns plain text or messages, whichever stands there."""
    return messages(value, name) if isinstance(value, list) else text(value, name)


def check_order(found: Sequence[Message], name: str, part: Literal["chat", "prompt", "completion"]) -> None:
    """Sees that the speakers take turns as chat templates expect.

    A system message stands first or nowhere; user and assistant alternate; what a tool says follows an
    assistant that called it.

    Args:
        found: the messages.
        name: what to call them in an error.
        part: a whole "chat" starts with the user and ends with the assistant, a "prompt" ends with the
            user or a tool, a "completion" is what comes after one.

    Raises:
        RowError: naming the first message that is out of turn.
    """
    speaking = [(place, one) for place, one in enumerate(found, 1)]
    while part != "completion" and speaking and speaking[0][1]["role"] in _FIRST:
        speaking.pop(0)
        if speaking and speaking[0][0] > 2:
            raise RowError(f"'{name}' has two system messages", "join them")
    if not speaking:
        raise RowError(f"'{name}' holds nothing but a system message", "add what the user says")
    opening = ("assistant", "tool") if part == "completion" else ("user",)
    if speaking[0][1]["role"] not in opening:
        what = f"'{name}' starts with '{speaking[0][1]['role']}'"
        raise RowError(what, f"let '{opening[0]}' speak first")
    for (_, before), (place, one) in itertools.pairwise(speaking):
        _follows(before, one, f"{name}[{place}]")
    last = speaking[-1][1]["role"]
    if part == "prompt" and last == "assistant":
        raise RowError(
            f"'{name}' ends with 'assistant'", "end it with the question; put the answer beside it"
        )
    if part != "prompt" and last != "assistant":
        raise RowError(f"'{name}' ends with '{last}', and nobody answers", "add the answer or leave it out")


def missing(row: Mapping[str, Any], name: str, known: Iterable[str]) -> RowError:
    """Returns the error of a row without a key, with the key that was perhaps meant.

    Args:
        row: the row.
        name: the key that it lacks.
        known: keys that have a meaning of their own, and so are no misspellings.
    """
    others = [str(key) for key in row if key not in set(known)]
    near = did_you_mean(name, others) if others else ""
    fix = f"is it {near.removeprefix('did you mean ').rstrip('?')}? rename it" if "mean" in near else ""
    has = ", ".join(f"'{key}'" for key in row) or "nothing"
    return RowError(f"misses '{name}' (has {has})", fix or f"add '{name}'")


def _message(value: Any, name: str) -> Message:
    if not isinstance(value, dict):
        raise RowError(f"'{name}' is {_kind(value)}, not a message", 'write {"role": ..., "content": ...}')
    for key in ("role", "content"):
        if key not in value and not (key == "content" and value.get("tool_calls")):
            error = missing(value, key, ("role", "content"))
            raise RowError(f"'{name}' {error.what}", error.fix)
    role = text(value["role"], f"{name}.role")
    if role not in ROLES:
        raise RowError(f"'{name}.role' is '{role}'", did_you_mean(role, ROLES))
    if value.get("content") is not None or not value.get("tool_calls"):
        text(value["content"], f"{name}.content", empty=bool(value.get("tool_calls")) or role == "tool")
    return dict(value)


def _follows(before: Message, one: Message, name: str) -> None:
    first, second = before["role"], one["role"]
    if second in _FIRST:
        raise RowError(f"'{name}' is a system message behind other messages", "put it first")
    if first == "assistant" and before.get("tool_calls"):
        if second != "tool":
            raise RowError(f"'{name}' is from '{second}', but a tool was called", "add what the tool said")
        return
    if second == "tool" and first != "tool":
        raise RowError(f"'{name}' is from a tool that nobody called", "add the 'tool_calls' before it")
    if second not in _MAY_FOLLOW[first]:
        what = (
            f"'{name}' is from '{second}' again"
            if first == second
            else f"'{second}' follows '{first}' at '{name}'"
        )
        raise RowError(what, "let user and assistant take turns: join messages or add the missing one")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else "text"
