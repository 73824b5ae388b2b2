"""Records of one kind as records of another, where that has a meaning.

a chat         -> a prompt and its completion (the last answer), a prompt
an answer      -> a chat, a text (where both are plain), a prompt
a preference   -> two judged answers, an answer or a chat (the chosen one), a prompt
a judged answer-> an answer or a chat (where it is good), a prompt
steps          -> an answer or a chat (the steps joined), a judged answer (good where every step is), a prompt

What a record says beyond that is counted as left out, and the caller tells it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TypeVar

from ingot.data.records.record import (
    Answered,
    Chat,
    Judged,
    Plain,
    Preference,
    Prompt,
    Record,
    RowError,
    Steps,
    as_messages,
)

NAMES: dict[type[Record], str] = {
    Plain: "a text",
    Chat: "a chat",
    Prompt: "a prompt",
    Answered: "an answer",
    Preference: "a preference",
    Judged: "a judged answer",
    Steps: "an answer in steps",
}

R = TypeVar("R", bound=Record)


def reshape(record: Record, shape: type[Record], left_out: Counter[str]) -> list[Record]:
    """Returns what a record says in the shape of another kind.

    Args:
        record: any.
        shape: the kind that is wanted.
        left_out: is told what of the record has no place there.

    Returns:
        One record, several, or none (the answer is a bad one, which `left_out` counts).

    Raises:
        RowError: the one kind says nothing that the other could hold.

    Example:
        >>> [(one.completion, one.good) for one in
        ...  reshape(Preference("1+1?", "2", "3"), Judged, Counter())]
        [('2', True), ('3', False)]
    """
    if isinstance(record, shape):
        return [record]
    made = _answers(record, left_out) if shape is not Judged else _judged(record)
    if shape is Answered or shape is Judged:
        found: list[Record] = [*made]
    elif shape is Chat:
        found = [_chat(one) for one in made]
    elif shape is Prompt:
        left_out["answers"] += len(made)
        found = [Prompt(one.prompt) for one in made]
    elif shape is Plain:
        found = [_plain(one) for one in made]
    else:
        raise _refusal(record, shape)
    return [replace(one, extras=record.extras) for one in found]


def _answers(record: Record, left_out: Counter[str]) -> list[Answered]:
    match record:
        case Chat(messages):
            last = max(place for place, one in enumerate(messages) if one["role"] == "user") + 1
            return [Answered(messages[:last], messages[last:])]
        case Answered():
            return [record]
        case Preference(prompt, chosen, _):
            left_out["rejected answers"] += 1
            return [Answered(prompt, chosen)]
        case Judged(prompt, completion, good):
            left_out["bad answers"] += not good
            return [Answered(prompt, completion)] if good else []
        case Steps(prompt, steps, labels):
            left_out["labels of steps"] += len(labels)
            return [Answered(prompt, "\n".join(steps))]
    raise _refusal(record, Answered)


def _judged(record: Record) -> list[Judged]:
    match record:
        case Preference(prompt, chosen, rejected):
            return [Judged(prompt, chosen, True), Judged(prompt, rejected, False)]
        case Steps(prompt, steps, labels):
            return [Judged(prompt, "\n".join(steps), all(labels))]
    raise _refusal(record, Judged)


def _chat(one: Answered | Judged) -> Chat:
    return Chat([*as_messages(one.prompt, "user"), *as_messages(one.completion, "assistant")])


def _plain(one: Answered | Judged) -> Plain:
    if isinstance(one.prompt, str) and isinstance(one.completion, str):
        return Plain(one.prompt + one.completion)
    raise RowError("messages are no text without a chat template", "convert to 'messages'")


def _refusal(record: Record, shape: type[Record]) -> RowError:
    return RowError(f"{NAMES[type(record)]} cannot be told as {NAMES[shape]}", "choose another format")
