"""What a row of instruction or preference data means, whatever format it was written in.

Prompts and answers are either plain text, which a model goes on with as it stands, or messages, which a
chat template turns into text. Both occur in public data, and a conversion keeps which one it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
"""`{"role": str, "content": str}`, and what tool calls add: `tool_calls`, `tool_call_id`, `name`."""

Turns = str | list[Message]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What every kind of sample has.

    Args:
        extras: keys of the row that belong to no format: ids, scores, `tools`. They are carried along.
    """

    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plain(Record):
    """A text to learn as it stands (language modelling)."""

    text: str


@dataclass(frozen=True)
class Chat(Record):
    """A conversation that ends with what the assistant says."""

    messages: list[Message]


@dataclass(frozen=True)
class Prompt(Record):
    """A question without an answer."""

    prompt: Turns


@dataclass(frozen=True)
class Answered(Record):
    """A question and one answer."""

    prompt: Turns
    completion: Turns


@dataclass(frozen=True)
class Preference(Record):
    """A question, and two answers of which one was liked better."""

    prompt: Turns
    chosen: Turns
    rejected: Turns


@dataclass(frozen=True)
class Judged(Record):
    """A question and an answer that somebody called good or bad (unpaired preference)."""

    prompt: Turns
    completion: Turns
    good: bool


@dataclass(frozen=True)
class Steps(Record):
    """A question and an answer in steps, each called right or wrong."""

    prompt: str
    steps: list[str]
    labels: list[bool]


class RowError(Exception):
    """A row that is not what its format asks for.

    Args:
        what: what is wrong, with the offending value.
        fix: what to do about it.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        self.what, self.fix = what, fix
        super().__init__(f"{what}; {fix}" if fix else what)


def as_messages(turns: Turns, role: str) -> list[Message]:
    """Returns turns as messages; a plain text becomes one message of that role."""
    return [{"role": role, "content": turns}] if isinstance(turns, str) else turns
