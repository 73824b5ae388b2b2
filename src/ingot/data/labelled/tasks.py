"""What an example of each task holds, and whether a line is one.

```
classes   text                       label
tags      words                      tags           as many as words
answers   question, context          answer, start  start: where it begins in the context, which may be left
                                                    out; an empty answer: there is none
pairs     first, second                             two texts that belong together
rewrites  source                     target
```

A key may be missing where one of its other usual names is there ("sentence" for `text`); `columns` of a
stage names any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ingot.data.labelled.lines import Line, read_lines
from ingot.data.records.record import RowError
from ingot.errors import ConfigError, DataError, did_you_mean

TaskName = Literal["classes", "tags", "answers", "pairs", "rewrites"]
Values = dict[str, Any]

_SHOWN = 5


class Task(NamedTuple):
    """What an example holds.

    Args:
        keys: each with the other names that it goes by.
        check: turns the values of a line into an example.
        left_out: keys that need not be there; they are None then.
    """

    keys: Mapping[str, tuple[str, ...]]
    check: Callable[[Values], Values]
    left_out: tuple[str, ...] = ()


def read_examples(
    path: Path,
    task: TaskName,
    columns: Mapping[str, str] | None = None,
    wrong: Literal["refuse", "skip"] = "refuse",
) -> tuple[list[Values], list[str]]:
    """Reads the examples of a file.

    Args:
        path: of a kind that `lines` knows.
        task: what they are for.
        columns: key of the task -> name in the file, where the usual names do not say.
        wrong: what to do about lines that are no examples.

    Returns:
        The examples, each with the `line` that it starts on, and what was wrong with lines left out.

    Raises:
        DataError: lines that are no examples (the first few named), or no example at all.
        ConfigError: `columns` names what the task has not.
    """
    known = TASKS[task]
    for key in columns or {}:
        if key not in known.keys:
            fix = did_you_mean(key, known.keys)
            raise ConfigError(f"'{task}' has no key '{key}'", where="examples.columns", fix=fix)
    found: list[Values] = []
    bad: list[str] = []
    for line in read_lines(path):
        try:
            found.append(_example(line, known, columns or {}) | {"line": line.number})
        except RowError as error:
            bad.append(f"line {line.number}: {error}")
    if bad and (wrong == "refuse" or not found):
        more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        what = f"{len(bad)} of {len(bad) + len(found)} lines are no '{task}': {'; '.join(bad[:_SHOWN])}{more}"
        raise DataError(what, where=path, fix="mend them, or set examples.wrong=skip")
    if not found:
        raise DataError("holds no examples", where=path, fix="give one per line")
    return found, bad


def _example(line: Line, task: Task, columns: Mapping[str, str]) -> Values:
    if isinstance(line.value, RowError):
        raise line.value
    values: Values = {}
    for key, others in task.keys.items():
        names = (columns[key],) if key in columns else (key, *others)
        name = next((name for name in names if name in line.value), None)
        if name is None and key in task.left_out:
            values[key] = None
            continue
        if name is None:
            has = ", ".join(f"'{one}'" for one in line.value) or "nothing"
            raise RowError(f"has no '{names[0]}' (it has {has})", f"name it with examples.columns.{key}=NAME")
        values[key] = line.value[name]
    return task.check(values)


def _text(values: Values, key: str) -> str:
    value = values[key]
    if not isinstance(value, str) or not value.strip():
        raise RowError(f"'{key}' is {value!r:.40}, not a text")
    return value.strip()


def _label(value: Any, key: str = "label") -> str:
    if isinstance(value, bool | int | str) and str(value).strip():
        return str(value).strip()
    raise RowError(f"'{key}' is {value!r:.40}, not a name or a whole number")


def _classes(values: Values) -> Values:
    return {"text": _text(values, "text"), "label": _label(values["label"])}


def _tags(values: Values) -> Values:
    words, tags = (one.split() if isinstance(one, str) else one for one in (values["words"], values["tags"]))
    if not isinstance(words, list) or not isinstance(tags, list) or not words:
        raise RowError("'words' and 'tags' are not two lists")
    if len(words) != len(tags):
        raise RowError(f"has {len(words)} words and {len(tags)} tags", "give every word one tag")
    if not all(isinstance(word, str) and word.strip() for word in words):
        raise RowError("a word is empty or no text")
    return {"words": words, "tags": [_label(tag, "tags") for tag in tags]}


def _answers(values: Values) -> Values:
    question, context, answer = _text(values, "question"), str(values["context"]), values["answer"]
    start: Any = values["start"]
    if isinstance(answer, dict):  # as SQuAD has it: {"text": [...], "answer_start": [...]}
        starts, answer = answer.get("answer_start") or [None], answer.get("text")
        start = starts[0] if isinstance(starts, list) else starts
    if isinstance(answer, list):
        answer = answer[0] if answer else ""
    if answer in ("", None):
        return {"question": question, "context": context, "answer": "", "start": -1}
    if not isinstance(answer, str):
        raise RowError(f"'answer' is {answer!r:.40}, not a text")
    start = context.find(answer) if start in (None, "") else int(start) if str(start).isdigit() else start
    if not isinstance(start, int) or start < 0 or context[start : start + len(answer)] != answer:
        raise RowError(f"the context does not hold the answer {answer!r:.40} at {start}", "copy it exactly")
    return {"question": question, "context": context, "answer": answer, "start": start}


def _texts(*keys: str) -> Callable[[Values], Values]:
    return lambda values: {key: _text(values, key) for key in keys}


TASKS: dict[TaskName, Task] = {
    "classes": Task(
        {"text": ("sentence", "review", "content"), "label": ("class", "category", "sentiment")}, _classes
    ),
    "tags": Task({"words": ("tokens",), "tags": ("ner_tags", "labels", "pos_tags")}, _tags),
    "answers": Task(
        {"question": (), "context": ("passage",), "answer": ("answers",), "start": ("answer_start",)},
        _answers,
        left_out=("start",),
    ),
    "pairs": Task(
        {
            "first": ("anchor", "query", "question", "sentence1"),
            "second": ("positive", "answer", "sentence2"),
        },
        _texts("first", "second"),
    ),
    "rewrites": Task(
        {"source": ("input", "src", "text"), "target": ("output", "tgt", "summary")},
        _texts("source", "target"),
    ),
}
