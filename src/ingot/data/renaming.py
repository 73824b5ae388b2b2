"""The same functions under other names: practice in using the names that were asked for.

A few thousand functions are soon known by heart, and a model that knows them takes the name from its
memory and not from the question. With names drawn anew, reading the question is the only way.

```
Write a function `area(width, height)` that returns ...    def area(width, height): ...
Write a function `_decode(line, height)` that returns ...  def _decode(line, height): ...
```
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence

import numpy as np

from ingot.data.conversations import Example, make_example, signature
from ingot.data.permutation import key

_KEPT = ("self", "cls")


def rename(examples: Sequence[Example], seed: int) -> list[Example]:
    """Gives every function another function's name, and its arguments the names of other arguments.

    `self`, `cls` and starred arguments keep theirs. An argument's new name stands wherever the old one
    stood as a word of its own: in the code, in the docstring, in the question. Examples without a check,
    and functions that no longer are what the question asks for, stay as they are.

    Args:
        examples: as mined.
        seed: another seed, other names.

    Returns:
        As many examples, in the same order.
    """
    checks = [example.check for example in examples if example.check is not None]
    names = [check["name"] for check in checks]
    arguments = [name for check in checks for name in check["arguments"] if _may_change(name)]
    return [_renamed(example, names, arguments, key(seed, place)) for place, example in enumerate(examples)]


def _renamed(example: Example, names: Sequence[str], arguments: Sequence[str], seed: int) -> Example:
    if example.check is None:
        return example
    chance = np.random.Generator(np.random.Philox(key=seed))
    name, given = example.check["name"], example.check["arguments"]
    words = set(re.findall(r"\w+", example.prompt + example.answer))
    new_name = names[int(chance.integers(len(names)))]
    changes: dict[str, str] = {}
    for old in filter(_may_change, given):
        new = arguments[int(chance.integers(len(arguments)))]
        if new not in words and new not in changes.values():
            changes[old] = new
    asked = [changes.get(old, old) for old in given]
    sentence = _replace(example.prompt.partition("` that ")[2], changes)
    prompt = f"Write a function `{new_name}({', '.join(asked)})` that {sentence}"
    code = _replace(example.answer, changes)
    answer = re.sub(rf"\bdef {re.escape(name)}\b", f"def {new_name}", code, count=1)
    check = {"name": new_name, "arguments": asked}
    return make_example(example.source, prompt, answer, check) if _fits(answer, check) else example


def _may_change(argument: str) -> bool:
    return argument not in _KEPT and not argument.startswith("*")


def _replace(text: str, changes: dict[str, str]) -> str:
    """Words by words; what follows a dot is another thing's name."""
    if not changes:
        return text
    words = "|".join(map(re.escape, changes))
    return re.sub(rf"(?<![.\w])(?:{words})\b", lambda match: changes[match[0]], text)


def _fits(answer: str, check: Mapping[str, object]) -> bool:
    try:
        body = ast.parse(answer.removeprefix("```python\n").removesuffix("\n```")).body
    except (SyntaxError, ValueError):
        return False
    function = body[0]
    return (
        isinstance(function, ast.FunctionDef)
        and function.name == check["name"]
        and signature(function) == check["arguments"]
    )
