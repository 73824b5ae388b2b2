"""Evaluation items from files: what decontamination looks for in training text.

A file of JSON lines holds one item a line. Its prompt stands under the first of `PROMPTS` that it has, its
answer under the first of `ANSWERS`; an answer that is a list is several right ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ingot.data.decontaminate import Item
from ingot.errors import DataError

PROMPTS = ("prompt", "question", "instruction", "input", "problem", "text", "context")
ANSWERS = (
    "answer",
    "answers",
    "solution",
    "canonical_solution",
    "completion",
    "output",
    "target",
    "response",
)


def read_items(path: Path) -> list[Item]:
    """Reads an evaluation set.

    Args:
        path: a file of JSON lines.

    Raises:
        DataError: it cannot be read, or a line holds no prompt; names the line.

    Example:
        >>> read_items(Path("riddles.jsonl"))                                   # doctest: +SKIP
        [Item(prompt='What has keys but no locks?', answer='A piano.')]
    """
    found: list[Item] = []
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    found += _items(line, f"{path}:{number}")
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise DataError(what, where=path, fix="give a file of JSON lines") from None
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 ({error})", where=path, fix="give a file of JSON lines") from None
    return found


def _items(line: str, where: str) -> Iterator[Item]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"is not JSON ({error})", where=where, fix="mend or remove the line") from None
    if not isinstance(row, dict):
        raise DataError("is not an object", where=where, fix="mend or remove the line")
    prompt = next((row[key] for key in PROMPTS if isinstance(row.get(key), str)), None)
    if prompt is None:
        what = f"has no prompt; its keys are {', '.join(map(str, row)) or 'none'}"
        raise DataError(what, where=where, fix=f"name it one of {', '.join(PROMPTS)}")
    answers: Any = next((row[key] for key in ANSWERS if key in row), "")
    several = answers if isinstance(answers, list) else [answers]
    for answer in several or [""]:
        yield Item(prompt, answer if isinstance(answer, str) else "" if answer is None else str(answer))
