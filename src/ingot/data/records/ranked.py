"""Formats in which public preference sets come: UltraFeedback's scored answers, and HH's dialogues.

They are read, not written: what they hold beyond a preference is theirs alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ingot.data.records.format import Format
from ingot.data.records.messages import check_order, text
from ingot.data.records.record import Answered, Message, Preference, RowError
from ingot.data.records.trl import split_prompt

_SCORES = ("overall_score", "score", "fine-grained_score", "rating")
_TURN = re.compile(r"\n\n(Human|Assistant): ?")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}


def _read_scored(row: Mapping[str, Any]) -> Preference:
    """The best answer against the worst; who scored alike is told apart by nothing."""
    answers = row["completions"]
    if not isinstance(answers, list) or len(answers) < 2:
        raise RowError("'completions' holds fewer than two answers", "leave it out")
    scored = [_scored(one, f"completions[{place}]") for place, one in enumerate(answers, 1)]
    (best, chosen), (worst, rejected) = max(scored, key=lambda s: s[0]), min(scored, key=lambda s: s[0])
    if best == worst:
        raise RowError(f"all answers score {best:g}", "leave it out: nothing was preferred")
    return Preference(text(row["instruction"], "instruction"), chosen, rejected)


def _scored(one: Any, name: str) -> tuple[float, str]:
    if not isinstance(one, dict) or "response" not in one:
        raise RowError(f"'{name}' holds no 'response'", "add it")
    for key in _SCORES:
        value = one.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
            return float(value), text(one["response"], f"{name}.response")
    raise RowError(f"'{name}' has no score", "add one of " + ", ".join(_SCORES))


def _looks_like_dialogues(row: Mapping[str, Any]) -> bool:
    return all(isinstance(row[key], str) and _TURN.match(row[key]) for key in ("chosen", "rejected"))


def _read_dialogues(row: Mapping[str, Any]) -> Preference:
    chosen, rejected = (_messages(text(row[key], key), key) for key in ("chosen", "rejected"))
    prompt, better, worse = split_prompt(chosen, rejected)
    if isinstance(prompt, str) or isinstance(better, str) or isinstance(worse, str):
        raise RowError("the answers are no dialogues", "use 'preference-implicit'")
    check_order(prompt, "prompt", "prompt")
    for name, answer in (("chosen", better), ("rejected", worse)):
        check_order(answer, name, "completion")
    return Preference(prompt, better, worse)


def _messages(dialogue: str, name: str) -> list[Message]:
    _, *parts = _TURN.split(dialogue)
    if not parts:
        raise RowError(f"'{name}' holds no '\\n\\nHuman:'", "use 'preference-implicit'")
    return [
        {"role": _SPEAKERS[speaker], "content": text(said.strip(), f"{name}[{place}]")}
        for place, (speaker, said) in enumerate(zip(parts[::2], parts[1::2], strict=True), 1)
    ]


def _read_question(row: Mapping[str, Any]) -> Answered:
    return Answered(text(row["question"], "question"), text(row["answer"], "answer"))


ULTRAFEEDBACK = Format(
    "ultrafeedback",
    "an instruction and scored completions",
    Preference,
    ("instruction", "completions"),
    (),
    _read_scored,
    None,
)
HH = Format(
    "hh",
    "two dialogues of Human and Assistant",
    Preference,
    ("chosen", "rejected"),
    (),
    _read_dialogues,
    None,
    fits=_looks_like_dialogues,
)
QUESTION_ANSWER = Format(
    "question-answer",
    "a question and its answer",
    Answered,
    ("question", "answer"),
    (),
    _read_question,
    lambda record: {"question": record.prompt, "answer": record.completion},
)
