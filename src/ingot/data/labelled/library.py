"""Examples that are always there: what the source code of Python's standard library says about itself.

```
classes   a docstring's first sentence              what it documents: module, class, function or method
tags      the words of a function's code            what each name is: parameter, attribute, call, ...
answers   what is the default of X in f?            the default, in the code
pairs     a docstring's first sentence              the head of its function
rewrites  a docstring's first sentence, parameters  the words of the function's name
```

Real text and real answers under a known licence (PSF-2.0), so that every recipe has something to show; the
answers come from Python's own parser.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from zlib import crc32

from ingot.data.labelled.tasks import TaskName, Values
from ingot.data.library import standard_library

MOST = 6000
"""Examples; more would not be learnt from in the minutes that the recipes take."""

_LONGEST_CODE = 700  # characters
_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_SKIPPED = (
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.COMMENT,
    tokenize.ENDMARKER,
)
_MOST_WORDS = 64

Function = ast.FunctionDef | ast.AsyncFunctionDef


class _Thing(NamedTuple):
    """Something that has a docstring, or is a function without one."""

    kind: str
    node: ast.AST
    sentence: str
    lines: list[str]  # of the whole file

    @property
    def code(self) -> str:
        """Its source; empty where it holds signs beyond ASCII, in which the parser counts by bytes."""
        node: Any = self.node
        first, last = node.lineno - 1, node.end_lineno - 1
        rows = self.lines[first : last + 1]
        rows[-1] = rows[-1][: node.end_col_offset]
        code = "\n".join(rows)
        return code[node.col_offset :] if code.isascii() else ""


def mine(task: TaskName, most: int = MOST) -> list[Values]:
    """Finds the examples of a task.

    Args:
        task: classes, tags, answers, pairs or rewrites.
        most: examples after which no further file is read; files come in a mixed order, always the same.
    """
    found: dict[str, Values] = {}
    for source in sorted(standard_library().sources, key=lambda source: crc32(source.name.encode())):
        if len(found) >= most:
            break
        text = source.path.read_bytes().decode("utf-8", errors="replace").replace("\r\n", "\n")
        for thing in _things(text):
            for example in _MINERS[task](thing):
                found.setdefault(repr(example), example)
    return list(found.values())[:most]


def _things(text: str) -> Iterator[_Thing]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    lines = text.split("\n")
    yield _Thing("module", tree, _sentence(tree), lines)
    for node, inside in _defined(tree, False):
        kind = "class" if isinstance(node, ast.ClassDef) else "method" if inside else "function"
        yield _Thing(kind, node, _sentence(node), lines)


def _defined(node: ast.AST, inside: bool) -> Iterator[tuple[Any, bool]]:
    """Classes and functions below a node, and whether they stand in a class."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | Function):
            yield child, inside
        yield from _defined(
            child, isinstance(child, ast.ClassDef) or (inside and not isinstance(child, Function))
        )


def _sentence(node: Any) -> str:
    """The first sentence of a docstring; empty where there is none of at least three words."""
    lines = (ast.get_docstring(node) or "").split("\n\n")[0]
    sentence = re.split(r"(?<=[.!?])\s", " ".join(lines.split()))[0]
    return sentence if len(sentence.split()) > 2 and len(sentence) < 300 and "(" not in sentence[:20] else ""


def _classes(thing: _Thing) -> Iterator[Values]:
    if thing.sentence:
        yield {"text": thing.sentence, "label": thing.kind}


def _pairs(thing: _Thing) -> Iterator[Values]:
    if thing.sentence and isinstance(thing.node, Function):
        yield {"first": thing.sentence, "second": _head(thing.node)}


def _rewrites(thing: _Thing) -> Iterator[Values]:
    if thing.sentence and isinstance(thing.node, Function) and not thing.node.name.startswith("__"):
        words = " ".join(_PARTS.findall(thing.node.name)).lower()
        given = ", ".join(one.arg for one in thing.node.args.args if one.arg != "self")
        if words:
            yield {"source": f"{thing.sentence} ({given})", "target": words}


def _head(function: Function) -> str:
    return f"def {function.name}({ast.unparse(function.args)})"


def _answers(thing: _Thing) -> Iterator[Values]:
    node, code = thing.node, ""
    if isinstance(node, Function) and len(node.args.defaults) > 1:
        code = thing.code
    if not code or not isinstance(node, Function):
        return
    rows = code.split("\n")

    def place(line: int, column: int) -> int:
        row = line - node.lineno
        return sum(len(one) + 1 for one in rows[:row]) + column - (0 if row else node.col_offset)

    named = node.args.args[-len(node.args.defaults) :]
    for argument, default in zip(named, node.args.defaults, strict=False):
        start = place(default.lineno, default.col_offset)
        end = place(default.end_lineno or 0, default.end_col_offset or 0)
        if end <= _LONGEST_CODE:
            question = f"What is the default of {argument.arg} in {node.name}?"
            yield {
                "question": question,
                "context": code[:_LONGEST_CODE],
                "answer": code[start:end],
                "start": start,
            }


def _tags(thing: _Thing) -> Iterator[Values]:
    code = thing.code[:_LONGEST_CODE] if isinstance(thing.node, Function) else ""
    if not code:
        return
    try:
        tree = ast.parse(thing.code)
        tokens = list(_tokens(code))
    except SyntaxError:
        return
    roles = _roles(tree)
    words = [
        (one.string, roles.get(one.start, "O")) for one in tokens if not any(map(str.isspace, one.string))
    ]
    words = words[:_MOST_WORDS]
    if len(words) > 8:
        yield {"words": [word for word, _ in words], "tags": [tag for _, tag in words]}


def _tokens(code: str) -> Iterator[tokenize.TokenInfo]:
    """The tokens of the beginning of some code, as far as they go."""
    try:
        for one in tokenize.generate_tokens(io.StringIO(code).readline):
            if one.type not in _SKIPPED:
                yield one
    except (tokenize.TokenError, IndentationError):
        return  # the cut went through a bracket or a string


def _roles(tree: ast.AST) -> dict[tuple[int, int], str]:
    """What the names of some code are, by line and column."""
    roles: dict[tuple[int, int], str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            kind = "read" if isinstance(node.ctx, ast.Load) else "written"
            roles.setdefault((node.lineno, node.col_offset), kind)
        elif isinstance(node, ast.arg):
            roles[node.lineno, node.col_offset] = "parameter"
        elif isinstance(node, ast.keyword) and node.arg is not None:
            roles[node.lineno, node.col_offset] = "keyword"
        elif isinstance(node, ast.Attribute) and node.end_lineno and node.end_col_offset is not None:
            roles.setdefault((node.end_lineno, node.end_col_offset - len(node.attr)), "attribute")
        if isinstance(node, ast.Call):
            name = node.func
            if isinstance(name, ast.Name):
                roles[name.lineno, name.col_offset] = "called"
            elif isinstance(name, ast.Attribute) and name.end_lineno and name.end_col_offset is not None:
                roles[name.end_lineno, name.end_col_offset - len(name.attr)] = "called"
    return roles


_MINERS: dict[TaskName, Callable[[_Thing], Iterator[Values]]] = {
    "classes": _classes,
    "tags": _tags,
    "answers": _answers,
    "pairs": _pairs,
    "rewrites": _rewrites,
}
