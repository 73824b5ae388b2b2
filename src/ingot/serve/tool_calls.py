"""Tools: how a model is made to call one, and how its calls are read (`tokenizer.calls` writes them).

Where a call is forced, the prompt goes on to the opening tag and a grammar holds the answer to the JSON
inside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ingot.inference.choosing.constrain import Grammar
from ingot.tokenizer.calls import CLOSE, OPEN, Message

FORCED = OPEN + "\n"
"""What a prompt ends with where a call has to follow."""

_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"([\w.-]{1,64})"\s*,\s*"arguments"\s*:\s*(?=\S)')
_DEFINITION = re.compile(r"#/(?:\$defs|definitions)/(.+)", re.DOTALL)


def schema(functions: Sequence[Message]) -> Grammar:
    """Returns the grammar of one call to any of some functions.

    Args:
        functions: `name` and `parameters` (a JSON Schema) each.

    Raises:
        ConfigError: the schemas are too large or too deep.
    """
    shared: dict[str, Any] = {}
    calls = []
    for number, function in enumerate(functions):
        arguments = {"type": "object", **_moved(function.get("parameters", {}), f"{number}_")}
        for place in ("$defs", "definitions"):
            inner = arguments.pop(place, {})
            shared |= {f"{number}_{key}": value for key, value in inner.items()}
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": function["name"]}, "arguments": arguments},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    whole = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return Grammar.parse({"kind": "json_schema", "text": json.dumps({**whole, "$defs": shared})})


def _moved(value: Any, prefix: str) -> Any:
    """A schema whose references lead to definitions that have moved to the root under longer names."""
    if isinstance(value, list):
        return [_moved(one, prefix) for one in value]
    if not isinstance(value, dict):
        return value
    moved = {key: _moved(one, prefix) for key, one in value.items()}
    target = value.get("$ref")
    if isinstance(target, str) and (found := _DEFINITION.fullmatch(target)):
        moved["$ref"] = f"#/$defs/{prefix}{found[1]}"
    return moved


class Said(NamedTuple):
    """What a piece of an answer adds.

    Args:
        text: to the content.
        call: number of the call that it adds to; None where it adds to the content.
        name: of the function, where the call begins.
        arguments: more of the call's arguments, JSON in parts.
    """

    text: str = ""
    call: int | None = None
    name: str | None = None
    arguments: str = ""


@dataclass
class Value:
    """Finds the end of one JSON value in a text that comes in parts."""

    depth: int = 0
    quoted: bool = False
    escaped: bool = False
    begun: bool = False

    def end(self, text: str) -> int | None:
        """Returns where in `text` the value is complete; None where it goes on."""
        for index, letter in enumerate(text):
            if self.quoted:
                self.quoted = self.escaped or letter != '"'
                self.escaped = letter == "\\" and not self.escaped
                if not self.quoted and self.depth == 0:
                    return index + 1
            elif letter == '"':
                self.quoted = self.begun = True
            elif letter in "{[":
                self.depth += 1
                self.begun = True
            elif letter in "}],":
                if self.depth == 0:
                    return index  # the end of a number or word
                if letter != ",":
                    self.depth -= 1
                    if self.depth == 0:
                        return index + 1
            else:
                self.begun = self.begun or not letter.isspace()
        return None


@dataclass
class Reader:
    """Reads calls out of an answer that comes in parts.

    The text outside of calls is content. The arguments of a call are passed on as they come; what turns
    out to be no call is given back as content, and so is a call that the answer's end cut off before its
    arguments.

    Args:
        inside: whether the answer begins within a call.

    Example:
        >>> Reader().feed('Yes.<tool_call>{"name": "f", "arguments": {}}</tool_call>')
        [Said(text='Yes.'), Said(call=0, name='f'), Said(call=0, arguments='{}')]
    """

    inside: bool = False
    calls: int = 0
    held: str = ""
    value: Value | None = None  # while arguments are passed on
    done: bool = False  # with the arguments: only the closing tag is due
    said: list[Said] = field(default_factory=list)

    def feed(self, text: str) -> list[Said]:
        """Takes more of the answer. Returns what it adds."""
        self.held += text
        while self._step():
            pass
        said, self.said = self.said, []
        return said

    def finish(self) -> list[Said]:
        """Says that the answer is over. Returns what was held back."""
        held, self.held = self.held, ""
        if self.inside and self.value is None and not self.done and held.strip():
            if not self._whole(held):
                self.said.append(Said(text=held if self.forced else OPEN + held))
        elif not self.inside and held:
            self.said.append(Said(text=held))
        said, self.said = self.said, []
        return said

    def __post_init__(self) -> None:
        self.forced = self.inside

    def _step(self) -> bool:
        """Takes what can be taken of the held text. Returns whether more may follow at once."""
        if not self.inside:
            return self._outside()
        if self.value is not None:
            return self._arguments(self.value)
        end = self.held.find(CLOSE)
        if self.done:
            if end >= 0:
                self.held = self.held[end + len(CLOSE) :].lstrip("\n")
                self.inside = self.done = self.forced = False
            return end >= 0
        if head := _HEAD.match(self.held):
            self._begin(head[1])
            self.held = self.held[head.end() :]
            self.value = Value()
            return True
        if end < 0:
            return False
        body, self.held = self.held[:end], self.held[end + len(CLOSE) :].lstrip("\n")
        if not self._whole(body):
            self.said.append(Said(text=OPEN + body + CLOSE))
        self.inside = self.forced = False
        return True

    def _outside(self) -> bool:
        start = self.held.find(OPEN)
        if start >= 0:
            text, self.held = self.held[:start], self.held[start + len(OPEN) :]
            self.inside = True
            text = text.rstrip("\n")
        else:
            kept = next((n for n in range(len(OPEN) - 1, 0, -1) if self.held.endswith(OPEN[:n])), 0)
            cut = len(self.held) - kept
            cut = len(self.held[:cut].rstrip("\n")) if cut else 0  # line ends before a call belong to it
            text, self.held = self.held[:cut], self.held[cut:]
        if text:
            self.said.append(Said(text=text))
        return start >= 0

    def _arguments(self, value: Value) -> bool:
        end = value.end(self.held)
        text = self.held if end is None else self.held[:end]
        self.held = self.held[len(text) :]
        if text:
            self.said.append(Said(call=self.calls - 1, arguments=text))
        if end is None:
            return False
        self.value, self.done = None, True
        return True

    def _begin(self, name: str) -> None:
        self.said.append(Said(call=self.calls, name=name))
        self.calls += 1

    def _whole(self, body: str) -> bool:
        """Reads a call whose keys come in another order. Returns whether it is one."""
        try:
            call = json.loads(body)
            name, arguments = call["name"], call.get("arguments", call.get("parameters", {}))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return False
        if not isinstance(name, str):
            return False
        said = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        self._begin(name)
        self.said.append(Said(call=self.calls - 1, arguments=said))
        return True
