"""Mined examples: what is taken, what is left, and that the judge agrees with the corpus's own answers."""

from __future__ import annotations

import ast
import inspect
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ingot.data.conversations import mine, mine_code, mine_headings, signature, summary, unseen
from ingot.data.document import Document
from ingot.evaluate.code_answers import judge


def document(text: str, kind: str = "python", source: str = "a.py") -> Any:
    return SimpleNamespace(id="1", source=source, text=text, kind=kind)


SHAPES = '''
import os

def area(width, height=1, /, *rest, unit: str = "m", **more):
    """Return the area, e.g. of a room.

    More about it.
    """
    return width * height


class Room:
    @property
    @staticmethod
    def _size(self):
        """Get URL sizes."""
        def inner(x):
            """Return what is inside."""
            return x
        return inner

    def __len__(self):
        """Return the length."""
        return 1

    def test_it(self):
        """Check that it works."""

    def silent(self):
        return 2

if os:
    def branch():
        """Copy nothing at all: but slowly."""
        return """
flush left
"""
'''


def test_functions_with_their_first_sentence() -> None:
    examples = mine_code([document(SHAPES)])
    assert [example.prompt for example in examples] == [
        "Write a function `area(width, height, *rest, unit, **more)` that returns the area, e.g. of a room.",
        "Write a function `_size(self)` that gets URL sizes.",
    ]
    area, size = examples
    assert area.check == {"name": "area", "arguments": ["width", "height", "*rest", "unit", "**more"]}
    assert area.answer.startswith(
        '```python\ndef area(width, height=1, /, *rest, unit: str = "m", **more):\n'
    )
    assert area.answer.endswith("\n    return width * height\n```")
    assert size.answer.startswith("```python\ndef _size(self):\n    ")  # out-dented, no decorators
    assert size.source == "a.py:15"


def test_the_corpus_answers_its_own_prompts() -> None:
    """The standard library's own functions pass the judge that rewards a model's answers."""
    paths = [ast.__file__, __import__("textwrap").__file__, __import__("argparse").__file__]
    documents = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            documents.append(document(file.read(), source=path))
    examples = mine_code(documents)
    assert len(examples) > 30
    for example in examples:
        assert example.check is not None
        assert judge(example.answer, example.check).success, example.answer
        assert len(example.prompt) <= 240


def test_duplicates_and_order() -> None:
    twice = [document(SHAPES), document(SHAPES, source="b.py")]
    assert [e.source for e in mine_code(twice)] == [e.source for e in mine_code(twice[:1])]
    assert mine_code(twice) == mine_code(twice)


def test_a_form_feed_does_not_shift_lines() -> None:
    text = 'x = 1\n\x0c\ndef after(a):\n    """Return a page."""\n    return a\n'
    assert mine_code([document(text)])[0].answer == f"```python\n{text.split(chr(12))[1].strip()}\n```"


def test_what_cannot_be_used() -> None:
    fence = 'def fenced(x):\n    """Return a fence."""\n    return "```"\n'
    for text in ("def broken(:\n", fence, "x = '\0'", "", "def f(x):\n    return x\n"):
        assert mine_code([document(text)]) == []
    assert mine_code([document(SHAPES, kind="text")]) == []


@pytest.mark.parametrize(
    "code",
    [
        "def f(): ...",
        "def f(a, /, b=1, *c, d, **e): ...",
        "def f(*, a): ...",
        "def f(a: int = 3, *b: str): ...",
    ],
)
def test_signatures_are_those_that_python_sees(code: str) -> None:
    function = ast.parse(code).body[0]
    assert isinstance(function, ast.FunctionDef)
    space: dict[str, Any] = {}
    exec(code, space)
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    seen = inspect.signature(space["f"]).parameters.values()
    assert signature(function) == [stars.get(one.kind, "") + one.name for one in seen]


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Return a thing.", "returns a thing"),
        ("Copies x to y", "copies x to y"),
        ("Copy x\n   to y.\n\nThen z.", "copies x to y"),
        ("URL quoting of i.e. paths. Second.", "URL quoting of i.e. paths"),
        ("f(x) -> y", ""),
        (">>> f(1)", ""),
        ("atext = <matches it>", ""),
        ("Is it so?", ""),
        (":type x: int", ""),
        ("Word.", ""),
        ("", ""),
    ],
)
def test_summary(docstring: str, expected: str) -> None:
    assert summary(docstring) == expected


LONG = "This paragraph is long enough to be a section of its own, which takes eighty characters or so."

MARKDOWN = f"""# The guide

{LONG.lower()}

## Setting up ##

{LONG}

```
# not a heading
```

Short
-----

Too short.
"""

RST = f"""=====
Title
=====

{LONG.lower()}

Second part
-----------

{LONG}

{"word " * 250}
"""


def test_markdown_sections() -> None:
    examples = mine_headings([document(MARKDOWN, "markdown", "guide.md")])
    assert [e.prompt for e in examples] == [
        'Write the section "The guide" of "The guide".',
        'Write the section "Setting up" of "The guide".',
    ]
    assert examples[1].answer == f"{LONG}\n\n```\n# not a heading\n```"
    assert all(e.check is None for e in examples)


def test_rst_sections_end_at_whole_paragraphs() -> None:
    examples = mine_headings([document(RST, "rst", "guide.rst")])
    assert [e.prompt for e in examples] == [
        'Write the section "Title" of "Title".',
        'Write the section "Second part" of "Title".',
    ]
    assert [e.answer for e in examples] == [LONG.lower(), LONG]


def test_a_novel_has_no_sections() -> None:
    assert mine_headings([document(LONG, "text"), document(LONG, "markdown")]) == []


def test_what_is_measured_with_is_not_learned_from() -> None:
    examples = mine([document(SHAPES), document(MARKDOWN, "markdown")])
    assert len(examples) == 4
    assert unseen(examples, examples[1:3]) == [examples[0], examples[3]]


def test_documents_are_mined_one_at_a_time() -> None:
    alive: weakref.WeakSet[Document] = weakref.WeakSet()
    most = 0

    def passing() -> Iterator[Document]:
        nonlocal most
        for number in range(20):
            text, kind = (SHAPES, "python") if number % 2 else (MARKDOWN, "markdown")
            one = Document(str(number), document(text, kind).source, text, kind)
            alive.add(one)
            most = max(most, len(alive))
            yield one
            del one

    examples = mine(passing())
    assert most <= 2
    assert examples == mine([document(SHAPES), document(MARKDOWN, "markdown")])
