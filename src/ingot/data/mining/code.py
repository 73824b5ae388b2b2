"""Conversations from code: a function from what is said of it, and what is said from the function.

Python is read by its grammar. Other languages are read by their doc comments (`/** */`, `///`, Go's `//`) and
by braces that match, outside of strings and comments.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
import warnings
from collections.abc import Iterator

from ingot.data.conversations import (
    LONGEST_PROMPT,
    Example,
    make_example,
    mine_code,
    signature,
    summary,
)
from ingot.data.document import Document
from ingot.data.mining.skipped import Skipped

LONGEST_CODE = 6000
"""Signs of a function that a conversation holds."""

LANGUAGES = {
    "javascript": "JavaScript",
    "typescript": "TypeScript",
    "java": "Java",
    "c": "C",
    "cpp": "C++",
    "c++": "C++",
    "csharp": "C#",
    "c#": "C#",
    "go": "Go",
    "rust": "Rust",
    "php": "PHP",
    "kotlin": "Kotlin",
    "scala": "Scala",
    "swift": "Swift",
}
"""Kinds of documents whose doc comments are read, and how people write their names."""

_BLOCK = re.compile(r"^[ \t]*/\*\*(?!/)(.*?)\*/[ \t]*\r?\n", re.DOTALL | re.MULTILINE)
_SLASHES = re.compile(r"(?:^[ \t]*///(?!/).*\r?\n)+", re.MULTILINE)
_GO = re.compile(r"(?:^//(?!go:|/).*\r?\n)+(?=func\b)", re.MULTILINE)
_ATTRIBUTES = re.compile(r"(?:[ \t]*(?:#\[.*\]|@\w+.*)\r?\n)*")
_NO_FUNCTION = re.compile(
    r"\b(?:class|interface|enum|trait|impl|namespace|object|record|if|for|while|switch)\b"
)
_STRINGS = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`|[{}]", re.DOTALL
)


def mine_python(document: Document) -> Iterator[Example | Skipped]:
    """Finds Python functions from their docstrings: see `conversations.mine_code`, whose examples these are.

    Yields:
        Its examples, and every other function with the reason why it is none.
    """
    if document.kind != "python":
        return
    examples = mine_code([document])
    yield from examples
    tree = _tree(document.text)
    if tree is None:
        yield Skipped(document.source, "is not Python that parses")
        return
    taken = {example.source for example in examples}
    for function in _functions(tree):
        source = f"{document.source}:{function.lineno}"
        if source not in taken:
            yield Skipped(source, _reason(function))


def mine_explanations(document: Document) -> Iterator[Example | Skipped]:
    """Finds what Python functions do: the function without its docstring asks, the docstring answers.

    Yields:
        Examples whose answer is the docstring's first paragraph, for functions whose docstring tells.
    """
    tree = _tree(document.text) if document.kind == "python" else None
    if tree is None:
        return
    lines = re.split(r"\r\n|\r|\n", document.text)  # not splitlines: ast counts no form feeds
    for function in _functions(tree):
        docstring = ast.get_docstring(function, clean=False)
        source = f"{document.source}:{function.lineno}"
        if not docstring or not summary(docstring):
            yield Skipped(source, _reason(function))
            continue
        if len(function.body) < 2:
            yield Skipped(source, "nothing but a docstring")
            continue
        said, after = function.body[0], function.body[1]
        if said.lineno == function.lineno or said.end_lineno == after.lineno:
            yield Skipped(source, "a docstring that shares its line")
            continue
        first, last = said.lineno - 1, said.end_lineno or said.lineno
        kept = lines[function.lineno - 1 : first] + lines[last : function.end_lineno]
        code = textwrap.dedent("\n".join(kept)).rstrip()
        paragraph = " ".join(inspect.cleandoc(docstring).split("\n\n")[0].split())
        if len(code) > LONGEST_CODE or "```" in code:
            yield Skipped(source, "code too long to show")
            continue
        prompt = f"What does this Python function do?\n\n```python\n{code}\n```"
        yield make_example(source, prompt, paragraph, None)


def mine_functions(document: Document) -> Iterator[Example | Skipped]:
    """Finds functions of languages with braces from the doc comments in front of them.

    Yields:
        Examples such as "Write a Rust function `fn area(w: f64, h: f64) -> f64` that returns the area.",
        answered by one fenced block with the function as it stands.
    """
    if document.kind not in LANGUAGES:
        return
    text = document.text
    pattern = (
        _GO if document.kind == "go" else _SLASHES if document.kind in ("rust", "csharp", "c#") else _BLOCK
    )
    for comment in pattern.finditer(text):
        start = _end_of(_ATTRIBUTES, text, comment.end())
        line = text.count("\n", 0, start) + 1
        found = _from_comment(document, comment[0], start, f"{document.source}:{line}")
        if found is not None:
            yield found


def _from_comment(document: Document, comment: str, start: int, source: str) -> Example | Skipped | None:
    text = document.text
    opening = text.find("{", start, start + 1000)
    header = " ".join(text[start : opening if opening >= 0 else start + 200].split())
    if (
        opening < 0
        or not header
        or ";" in header
        or "(" not in header
        or _NO_FUNCTION.search(header.split("(")[0])
    ):
        return None  # of a type, a field, a declaration: nothing that can be written from its comment
    header = header.removesuffix("=>").removesuffix("=").strip()
    name = _name(header)
    sentence = _sentence(comment, name)
    if not sentence:
        return Skipped(source, "a comment that opens with no sentence")
    prompt = f"Write a {LANGUAGES[document.kind]} function `{header}` that {sentence}."
    if len(prompt) > LONGEST_PROMPT:
        return Skipped(source, "prompt too long")
    end = _closing(text, opening)
    if end is None:
        return Skipped(source, "braces that do not match")
    code = textwrap.dedent(_whole_lines(text, start, end)).rstrip()
    if len(code) > LONGEST_CODE or "```" in code:
        return Skipped(source, "code too long to show")
    fence = {"c#": "csharp", "c++": "cpp"}.get(document.kind, document.kind)
    return make_example(source, prompt, f"```{fence}\n{code}\n```", None)


def _sentence(comment: str, name: str) -> str:
    """The first sentence of a doc comment, ready to follow "that"."""
    lines = [re.sub(r"^\s*(?:/\*\*|///?|\*/?)?\s?", "", line) for line in comment.splitlines()]
    body = "\n".join(lines).removesuffix("*/").strip()
    body = re.sub(r"</?(?:summary|p|code|b|i)>", "", body).strip()
    words = re.split(r"^\s*[@\\]\w+", body, maxsplit=1, flags=re.MULTILINE)[0].strip()
    words = re.sub(r"\{@\w+ ([^}]*)\}", r"\1", words)
    first, _, rest = words.partition(" ")
    return summary(rest if name and first == name else words)  # Go's comments begin with the name


def _name(header: str) -> str:
    found = re.search(r"(\w+)\s*(?:<[^()]*>)?\s*\(", re.sub(r"^func\s*\([^)]*\)", "func", header))
    return found[1] if found else ""


def _closing(text: str, opening: int) -> int | None:
    """The place behind the brace that closes the one at `opening`, strings and comments left aside."""
    depth = 0
    for token in _STRINGS.finditer(text, opening, opening + 2 * LONGEST_CODE):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    return None


def _whole_lines(text: str, start: int, end: int) -> str:
    return text[text.rfind("\n", 0, start) + 1 : end]


def _end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start


@functools.lru_cache(maxsize=1)
def _tree(text: str) -> ast.Module | None:
    """The grammar of a module, kept for the next miner of the same document."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _functions(tree: ast.Module) -> list[ast.FunctionDef]:
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def _reason(function: ast.FunctionDef) -> str:
    """Why a function is no example; the last reason stands for those that a person cannot see at once."""
    docstring = ast.get_docstring(function)
    if not docstring:
        return "no docstring"
    if not summary(docstring):
        return "a docstring that opens with no sentence"
    if function.name.startswith("__") and function.name.endswith("__"):
        return "a method that Python calls"
    if function.name.lower().startswith("test"):
        return "a test"
    asked = f"{function.name}({', '.join(signature(function))})"
    if len(asked) + len(summary(docstring)) + 32 > LONGEST_PROMPT:
        return "prompt too long"
    return "inside another function, said before, or not whole by itself"
