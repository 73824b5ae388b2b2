"""Renamed examples ask for what they answer, and say the same otherwise."""

from __future__ import annotations

import argparse
import ast
import re
import textwrap
from types import SimpleNamespace

import pytest

from ingot.data.conversations import Example, make_example, mine_code
from ingot.data.renaming import rename
from ingot.evaluate.code_answers import judge


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    documents = []
    for module in (argparse, ast, textwrap):
        with open(str(module.__file__), encoding="utf-8") as file:
            documents.append(SimpleNamespace(id="1", source=module.__name__, text=file.read(), kind="python"))
    return mine_code(documents)  # type: ignore[arg-type]


def test_every_answer_is_still_right(examples: list[Example]) -> None:
    renamed = rename(examples, seed=1)
    assert len(renamed) == len(examples)
    for example in renamed:
        assert example.check is not None
        assert judge(example.answer, example.check).success, example.answer
        asked = f"`{example.check['name']}({', '.join(example.check['arguments'])})`"
        assert asked in example.prompt


def test_names_change_and_structure_stays(examples: list[Example]) -> None:
    renamed = rename(examples, seed=1)
    changed = [a.check != b.check for a, b in zip(examples, renamed, strict=True)]
    assert sum(changed) > 0.8 * len(changed)
    for before, after in zip(examples, renamed, strict=True):
        assert before.source == after.source
        assert len(re.findall(r"\w+|\S", before.answer)) == len(re.findall(r"\w+|\S", after.answer))


def test_names_follow_the_seed(examples: list[Example]) -> None:
    assert rename(examples, 1) == rename(examples, 1)
    assert rename(examples, 1) != rename(examples, 2)


def test_words_not_parts_of_words_and_not_attributes() -> None:
    code = "def f(path):\n    return path.path + os.path.join(paths, path)"
    one = make_example("a.py:1", "Write a function `f(path)` that joins path.", f"```python\n{code}\n```", {
        "name": "f", "arguments": ["path"]})  # fmt: skip
    two = make_example("a.py:9", "Write a function `g(x)` that is x.", "```python\ndef g(x): return x\n```", {
        "name": "g", "arguments": ["x"]})  # fmt: skip
    found = {rename([one, two], seed)[0].answer for seed in range(20)}
    assert any("return x.path + os.path.join(paths, x)" in answer for answer in found)


def test_prose_stays_as_it_is() -> None:
    section = make_example("a.md:1", "Write the section.", "Text.", None)
    assert rename([section], 1) == [section]
