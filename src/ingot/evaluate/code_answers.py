"""Judges an answer to "write a function `name(arguments)` that ...", without ever running it.

An answer succeeds when it climbs four steps, each standing on the one before:

1. it is one fenced code block and nothing else (white space around it is allowed);
2. the code parses as Python and holds at least one statement;
3. exactly one top-level function has the asked name;
4. that function takes the asked arguments, in order.

The same judge gives the reward of alignment and the success rate of the evaluation, so that what is
trained for is what is measured.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ingot.data.conversations import signature

LONGEST = 20_000
"""Answers with more characters than this are not parsed: they do not pass the second step."""

_OPENING = re.compile(r"```[ \t]*(?:python3?|py)?[ \t]*", re.IGNORECASE)
_FENCE = re.compile(r" {0,3}```")


class Verdict(NamedTuple):
    """How far an answer climbed; a step is True only where all steps before it are."""

    one_block: bool
    parses: bool
    named: bool
    arguments: bool
    success: bool


def judge(answer: str, check: Mapping[str, Any]) -> Verdict:
    """Judges one answer.

    Args:
        answer: the text that the model gave.
        check: `{"name": "clamp", "arguments": ["value", "low", "*rest"]}`: the asked function's name and
            its parameters in the order of the signature. `*` and `**` in front of a name count. Defaults
            and annotations (`"low=0"`, `"low: int"`) do not count on either side, and neither do the
            bare markers `*` and `/`.

    Returns:
        The verdict. Nothing raises: whatever Python cannot parse (too deep, too long, null bytes,
        lone surrogates) does not parse.

    Example:
        >>> answer = "```python\\ndef double(x):\\n    return 2 * x\\n```"
        >>> judge(answer, {"name": "double", "arguments": ["x"]})
        Verdict(one_block=True, parses=True, named=True, arguments=True, success=True)
    """
    code = only_block(answer)
    tree = None if code is None else parse(code)
    functions = [] if tree is None else _functions(tree, check["name"])
    named = len(functions) == 1
    arguments = named and signature(functions[0]) == asked(check["arguments"])
    return Verdict(code is not None, tree is not None, named, arguments, arguments)


def only_block(answer: str) -> str | None:
    """Returns the code of an answer that is one closed code block and nothing else, else None.

    A fence is a line that begins with three backticks (at most three spaces before them); the opening
    one may name Python.
    """
    lines = answer.strip().split("\n")
    fences = [number for number, line in enumerate(lines) if _FENCE.match(line)]
    if fences != [0, len(lines) - 1] or len(lines) < 2:
        return None
    if not _OPENING.fullmatch(lines[0].rstrip()) or lines[-1].strip() != "```":
        return None
    return "\n".join(lines[1:-1])


def parse(code: str) -> ast.Module | None:
    """Returns the syntax tree of Python code with at least one statement, None for anything else."""
    if len(code) > LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is no reason to speak
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None
    return tree if tree.body else None


def asked(arguments: Sequence[str]) -> list[str]:
    """Returns the asked parameters as `signature` writes them: no defaults, annotations or bare markers.

    Example:
        >>> asked(["a: int", "*", "low=0", "** more"])
        ['a', 'low', '**more']
    """
    names = (re.split("[:=]", argument, maxsplit=1)[0].replace(" ", "") for argument in arguments)
    return [name for name in names if name not in ("", "*", "/")]


def _functions(tree: ast.Module, name: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in tree.body if isinstance(node, kinds) and node.name == name]
