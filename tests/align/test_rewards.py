"""Rewards climb with the answer, top out at 1, and an empty function does not get there."""

from __future__ import annotations

import pytest

from ingot.align.rewards import PARTS, Score, has_body, score_code

CHECK = {"name": "f", "arguments": ["x", "*rest"]}


def block(code: str) -> str:
    return f"```python\n{code}\n```"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("def f(x, *rest): return x", Score(0.0, False, False)),
        ("```python\ndef f(x, *rest):\n    return", Score(0.0, False, False)),  # cut off
        (block("def f(x"), Score(0.1, False, False)),
        (block("x = 1"), Score(0.2, False, False)),
        (block("def f(x): return x"), Score(0.3, False, False)),
        (block("def f(x, *rest): pass"), Score(0.8, True, True)),
        (block("def f(x, *rest): return x"), Score(1.0, True, False)),
    ],
)
def test_every_step_pays(answer: str, expected: Score) -> None:
    assert score_code(answer, CHECK) == expected


def test_the_parts_make_one() -> None:
    assert sum(PARTS.values()) == pytest.approx(1.0)
    assert PARTS["success"] >= 0.5


@pytest.mark.parametrize("body", ["pass", "...", '"Only words."', "return", '"Words."\n    pass\n    return'])
def test_bodies_that_do_nothing(body: str) -> None:
    assert not has_body(block(f"def f(x):\n    {body}"), "f")


@pytest.mark.parametrize("body", ["return None", "x = 1", "raise ValueError", "print(x)", "for _ in x: pass"])
def test_bodies_that_do_something(body: str) -> None:
    assert has_body(block(f'def f(x):\n    "Words."\n    {body}'), "f")


def test_nothing_is_ever_run() -> None:
    assert score_code(block("raise SystemExit\ndef f(x, *rest): return x"), CHECK).success
