"""The judge of code answers: steps, forgiving and unforgiving cases, and that nothing makes it raise."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data.conversations import signature
from ingot.evaluate.code_answers import LONGEST, asked, judge, only_block

CHECK = {"name": "clamp", "arguments": ["value", "low", "*rest", "high", "**more"]}
GOOD = (
    "```python\nimport math\n\ndef clamp(value, low=0, *rest, high: int = 1, **more):\n    return value\n```"
)


def fenced(code: str) -> str:
    return f"```python\n{code}\n```"


def test_a_right_answer_succeeds() -> None:
    assert judge(GOOD, CHECK) == (True, True, True, True, True)
    assert judge("\n" + GOOD.replace("```python", "```") + "\n\n", CHECK).success
    assert judge(GOOD.replace("def", "async def"), CHECK).success


@pytest.mark.parametrize(
    ("answer", "steps"),
    [
        ("def clamp(value): pass", 0),
        ("Here it is:\n" + GOOD, 0),
        (GOOD + "\nThat is all.", 0),
        (GOOD + "\n" + GOOD, 0),
        (GOOD.removesuffix("```"), 0),
        ("```", 0),
        ("", 0),
        ("```json\n{}\n```", 0),
        ("```python x\nclamp = 1\n```", 0),
        (fenced("def clamp("), 1),
        (fenced(""), 1),
        (fenced("# nothing"), 1),
        (fenced("\0"), 1),
        (fenced("clamp = 1"), 2),
        (fenced("class clamp: pass"), 2),
        (fenced("if True:\n    def clamp(value): pass"), 2),
        (fenced("def clamp(a): pass\ndef clamp(value): pass"), 2),
        (fenced("def clamp(value): pass"), 3),
        (fenced("def clamp(low, value, *rest, high, **more): pass"), 3),
        (fenced("def clamp(value, low, rest, high, more): pass"), 3),
    ],
)
def test_how_far_wrong_answers_climb(answer: str, steps: int) -> None:
    verdict = judge(answer, CHECK)
    assert list(verdict[:4]) == [True] * steps + [False] * (4 - steps)
    assert not verdict.success


def test_backticks_inside_the_code_are_no_fences() -> None:
    code = 'def clamp(value, low, *rest, high, **more):\n    return "```"'
    assert only_block(fenced(code)) == code
    assert judge(fenced(code), CHECK).success


@pytest.mark.parametrize(
    "code",
    [
        "(" * 5000 + ")" * 5000,
        "-" * 19_000 + "1",
        "a" + ".b" * 9_000,
        "x = " + "9" * 10_000,
        "1" + "+1" * 9_000,
        "\ud800",
        "x" * (LONGEST + 1),
        "\n".join(" " * depth + "if 1:" for depth in range(150)),
    ],
)
def test_nothing_makes_it_raise(code: str) -> None:
    assert not judge(fenced(code), CHECK).named


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    assert not judge(fenced(text), {"name": "no such function", "arguments": []}).success


def test_code_is_not_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    judge(fenced("open('mark', 'w')\ndef clamp(value, low, *rest, high, **more): pass"), CHECK)
    assert not list(tmp_path.iterdir())


NAMES = st.lists(st.from_regex(r"[a-z]{1,6}_", fullmatch=True), unique=True, max_size=6)


@given(NAMES, st.integers(0, 6), st.integers(0, 6), st.booleans())
def test_parameters_agree_with_python(names: list[str], positional: int, plain: int, markers: bool) -> None:
    only, rest = names[:positional], names[positional:]
    parts = [*only, *(["/"] if only else []), *rest[:plain]]
    parts += ["*", *rest[plain:]] if rest[plain:] else []
    parts += ["*args"] if markers and "*" not in parts else []
    function = ast.parse(f"def f({', '.join(parts)}): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    assert signature(function) == asked(parts)
    assert signature(function) == [part for part in parts if part not in "*/"]
