"""The types of data that TRL's trainers take, each in plain text or in messages.

text · prompt-only · prompt-completion · preference, its prompt of its own or as the common beginning of both
answers · unpaired-preference · stepwise. (Conversations alone are in `openai`.)

Source: TRL's documentation, "Dataset formats and types".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingot.data.records.format import Format
from ingot.data.records.messages import check_order, text, turns
from ingot.data.records.record import (
    Answered,
    Judged,
    Message,
    Plain,
    Preference,
    Prompt,
    RowError,
    Steps,
    Turns,
)


def split_prompt(chosen: Turns, rejected: Turns) -> tuple[Turns, Turns, Turns]:
    """Takes the common beginning of two answers for their prompt.

    Plain text is cut where a word begins, so that no word is torn in two; the blank before it stays with
    the answer.

    Args:
        chosen: the better answer, behind its prompt.
        rejected: the other one, behind the same prompt; text or messages, like the first.

    Returns:
        prompt, chosen, rejected.

    Raises:
        RowError: nothing in common, or one of the answers is all prompt.

    Example:
        >>> split_prompt("The sky is blue.", "The sky is black.")
        ('The sky is', ' blue.', ' black.')
    """
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise RowError("'chosen' and 'rejected' are not both text or both messages", "write both alike")
    shortest = min(len(chosen), len(rejected))
    same = next((n for n in range(shortest) if chosen[n] != rejected[n]), shortest)
    if isinstance(chosen, str):
        while 0 < same < len(chosen) and not chosen[same].isspace():
            same -= 1
    if same == 0:
        raise RowError("'chosen' and 'rejected' have no common beginning", "add the 'prompt'")
    if same == shortest:
        raise RowError("'chosen' and 'rejected' do not differ in what is answered", "leave it out")
    return chosen[:same], chosen[same:], rejected[same:]


def _read_text(row: Mapping[str, Any]) -> Plain:
    return Plain(text(row["text"], "text"))


def _read_prompt(row: Mapping[str, Any]) -> Prompt:
    return Prompt(_prompt(row["prompt"]))


def _read_answered(row: Mapping[str, Any]) -> Answered:
    return Answered(_prompt(row["prompt"]), _answer(row["completion"], "completion"))


def _read_unpaired(row: Mapping[str, Any]) -> Judged:
    completion = _answer(row["completion"], "completion")
    return Judged(_prompt(row["prompt"]), completion, _label(row["label"], "label"))


def _read_preference(row: Mapping[str, Any]) -> Preference:
    prompt, chosen, rejected = _prompt(row["prompt"]), row["chosen"], row["rejected"]
    return _pair(
        prompt,
        _answer(_behind(prompt, chosen), "chosen"),
        _answer(_behind(prompt, rejected), "rejected"),
    )


def _read_implicit(row: Mapping[str, Any]) -> Preference:
    prompt, chosen, rejected = split_prompt(
        turns(row["chosen"], "chosen"), turns(row["rejected"], "rejected")
    )
    if not isinstance(prompt, str):
        check_order(prompt, "prompt", "prompt")
    return _pair(prompt, _answer(chosen, "chosen"), _answer(rejected, "rejected"))


def _read_steps(row: Mapping[str, Any]) -> Steps:
    steps, labels = row["completions"], row["labels"]
    if not isinstance(steps, list) or not isinstance(labels, list) or not steps:
        raise RowError("'completions' and 'labels' are no lists", 'write ["step", ...] and [true, ...]')
    if len(steps) != len(labels):
        raise RowError(f"{len(steps)} 'completions' but {len(labels)} 'labels'", "label every step")
    return Steps(
        text(row["prompt"], "prompt"),
        [text(step, f"completions[{place}]") for place, step in enumerate(steps, 1)],
        [_label(label, f"labels[{place}]") for place, label in enumerate(labels, 1)],
    )


def _prompt(value: Any) -> Turns:
    prompt = turns(value, "prompt")
    if not isinstance(prompt, str):
        check_order(prompt, "prompt", "prompt")
    return prompt


def _answer(value: Any, name: str) -> Turns:
    answer = turns(value, name)
    if not isinstance(answer, str):
        check_order(answer, name, "completion")
    return answer


def _behind(prompt: Turns, answer: Any) -> Any:
    """Published sets often repeat the prompt's messages in each answer, beside the prompt as text."""
    if not isinstance(answer, list):
        return answer
    asked: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return answer[len(asked) :] if len(answer) > len(asked) and answer[: len(asked)] == asked else answer


def _pair(prompt: Turns, chosen: Turns, rejected: Turns) -> Preference:
    if chosen == rejected:
        raise RowError("'chosen' and 'rejected' are the same", "leave it out: nothing was preferred")
    return Preference(prompt, chosen, rejected)


def _label(value: Any, name: str) -> bool:
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise RowError(f"'{name}' is {value!r}", "write true or false")


TEXT = Format("text", "one text", Plain, ("text",), (), _read_text, lambda record: {"text": record.text})
PROMPT_ONLY = Format(
    "prompt-only",
    "a prompt alone",
    Prompt,
    ("prompt",),
    (),
    _read_prompt,
    lambda record: {"prompt": record.prompt},
)
PROMPT_COMPLETION = Format(
    "prompt-completion",
    "a prompt and its completion",
    Answered,
    ("prompt", "completion"),
    (),
    _read_answered,
    lambda record: {"prompt": record.prompt, "completion": record.completion},
)
PREFERENCE = Format(
    "preference",
    "a prompt, a chosen and a rejected answer",
    Preference,
    ("prompt", "chosen", "rejected"),
    (),
    _read_preference,
    lambda one: {"prompt": one.prompt, "chosen": one.chosen, "rejected": one.rejected},
)
UNPAIRED = Format(
    "unpaired-preference",
    "a prompt, a completion, and whether it is good",
    Judged,
    ("prompt", "completion", "label"),
    (),
    _read_unpaired,
    lambda one: {"prompt": one.prompt, "completion": one.completion, "label": one.good},
)
STEPWISE = Format(
    "stepwise",
    "a prompt, an answer in steps, and which are right",
    Steps,
    ("prompt", "completions", "labels"),
    (),
    _read_steps,
    lambda one: {"prompt": one.prompt, "completions": one.steps, "labels": one.labels},
)


def _write_implicit(record: Preference) -> dict[str, Any]:
    def whole(answer: Turns) -> Turns:
        if isinstance(record.prompt, str) and isinstance(answer, str):
            return record.prompt + answer
        if isinstance(record.prompt, list) and isinstance(answer, list):
            return record.prompt + answer
        raise RowError("prompt and answers are not both text or both messages", "use 'preference'")

    return {"chosen": whole(record.chosen), "rejected": whole(record.rejected)}


PREFERENCE_IMPLICIT = Format(
    "preference-implicit",
    "two answers that begin with the same prompt",
    Preference,
    ("chosen", "rejected"),
    (),
    _read_implicit,
    _write_implicit,
)
