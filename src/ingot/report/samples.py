"""Samples side by side: the same prompts, answered by every model, code told apart from prose."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ingot.report.facts import MODELS, Facts

MOST_CHARACTERS = 1800
_QUOTED = re.compile(r"`([^`\n]+)`")
_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Part:
    """A stretch of an answer: prose, or the inside of a code fence."""

    is_code: bool
    text: str


@dataclass(frozen=True)
class Answer:
    """What one model said; `cut` counts the characters that are not shown."""

    model: str
    parts: list[Part]
    cut: int


@dataclass(frozen=True)
class Sample:
    """One prompt, its inline code told apart, and everybody's answers."""

    prompt: list[Part]
    answers: list[Answer]


def samples(facts: Facts) -> list[Sample]:
    """Returns the samples in the order of the road; models that were not asked are not listed."""
    result = []
    for one in facts.samples:
        given = one["answers"]
        names = [name for name in MODELS if name in given] + [name for name in given if name not in MODELS]
        prompt = inline(visible(str(one.get("prompt", ""))))
        result.append(Sample(prompt, [answer(str(name), given[name]) for name in names]))
    return result


def answer(model: str, text: object) -> Answer:
    """Makes an answer fit for a page: cut to a readable length, control characters made visible."""
    whole = visible("" if text is None else str(text)).strip("\n")
    shown = whole[:MOST_CHARACTERS]
    return Answer(model, parts(shown), len(whole) - len(shown))


def parts(text: str) -> list[Part]:
    """Splits text at its code fences; one that is never closed runs to the end.

    Example:
        >>> [part.is_code for part in parts("Here:\\n```python\\nx = 1\\n```\\nDone.")]
        [False, True, False]
    """
    result, position, inside = [], 0, False
    for fence in [*_FENCE.finditer(text), None]:
        stretch = text[position : fence.start() if fence else len(text)].strip("\n")
        if stretch.strip():
            result.append(Part(inside, stretch))
        if fence:
            position, inside = fence.end(), not inside
    return result


def inline(text: str) -> list[Part]:
    """Splits a sentence at its back-quoted code; the quotes go, all else stays."""
    pieces = _QUOTED.split(text)
    return [Part(k % 2 == 1, piece) for k, piece in enumerate(pieces) if piece]


def visible(text: str) -> str:
    """Shows control characters as their Unicode pictures: a page must not swallow what a model said."""
    pictures = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
    # Characters that turn the direction of a line could make an answer look like another one.
    turning = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F], 0xFFFD)
    return text.replace("\r\n", "\n").translate(pictures | turning).encode("utf-8", "replace").decode("utf-8")
