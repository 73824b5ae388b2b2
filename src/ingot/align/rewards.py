"""Verifiable rewards: a number for an answer that a program can compute, without running the answer.

```
one fenced block  0.1
it parses         0.1   each step only on top of the one before
the asked name    0.1
the arguments     0.5   success: what the evaluation counts
a real body       0.2   more than a docstring, `pass`, `...` or a bare return
```

The small parts lead a model that never succeeds towards success. The last is against the cheapest way
to cheat: an empty function is easy to close and to parse. What it does is never judged.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, NamedTuple

from ingot.evaluate.code_answers import judge, only_block, parse

PARTS = {"one_block": 0.1, "parses": 0.1, "named": 0.1, "success": 0.5, "body": 0.2}
"""What each part of a code answer is worth; together 1."""


class Score(NamedTuple):
    """An answer's reward, and what the reports count."""

    reward: float  # 0 to 1
    success: bool  # block, syntax, name and arguments are right
    hollow: bool  # succeeds, and does nothing


def score_code(answer: str, check: Mapping[str, Any]) -> Score:
    """Scores an answer to "write a function `name(arguments)` that ...".

    Args:
        answer: the text that the model gave.
        check: the asked `{"name": str, "arguments": [str, ...]}`.

    Example:
        >>> score_code("```python\\ndef f(x):\\n    return x\\n```", {"name": "f", "arguments": ["x"]})
        Score(reward=1.0, success=True, hollow=False)
    """
    verdict = judge(answer, check)
    earned = {
        "one_block": verdict.one_block,
        "parses": verdict.parses,
        "named": verdict.named,
        "success": verdict.success,
        "body": verdict.success and has_body(answer, check["name"]),
    }
    reward = round(sum(PARTS[part] * reached for part, reached in earned.items()), 6)
    return Score(reward, verdict.success, verdict.success and not earned["body"])


def has_body(answer: str, name: str) -> bool:
    """Whether the function called `name` holds a statement that does something."""
    code = only_block(answer)
    tree = None if code is None else parse(code)
    if tree is None:
        return False
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = (node for node in tree.body if isinstance(node, kinds) and node.name == name)
    return any(not _idle(statement) for function in functions for statement in function.body)


def _idle(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)  # a docstring, or `...`
    if isinstance(statement, ast.Return):
        return statement.value is None
    return isinstance(statement, ast.Pass)
