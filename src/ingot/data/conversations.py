"""Chat examples mined from a corpus: what a person could ask, and the text that really answers it.

Code gives "Write a function `name(arguments)` that does this." with the real function as the answer,
and what a checker needs to verify other answers. Prose gives "Write the section ..." with the real
section. Text without headings (a novel) gives nothing. There is one form of each prompt on purpose: a
small model should spend what it learns on the answers.
"""

from __future__ import annotations

import ast
import hashlib
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingot.data.document import Document

LONGEST_PROMPT = 240
"""Characters; longer prompts are left out, since a summary that long is no summary."""

LONGEST_SECTION = 1000
"""Characters of a section that an answer holds, in whole paragraphs."""

SHORTEST_SECTION = 80
_FENCE = "```"
_VERBS = """
accept add adjust allow append apply ask assert attach bind build calculate call cancel change check
choose clean clear close collect compare compile compress compute configure connect construct convert
copy count create decide decode decorate delete determine disable discard display divide do draw drop
dump emit enable encode ensure escape evaluate execute expand extend extract fail fetch fill find finish
flush format generate get give guess handle implement indicate initialize insert install invoke iterate
join list load log look make mark modify move normalize open override parse perform pop prepare print
process produce provide push put query quote raise read receive register release remove rename render
replace report request reset resolve retrieve return rotate run save scan search select send separate
set show skip sort split start stop store strip take tell transform translate try turn unpack unregister
update use validate verify wait walk warn wrap write yield"""


@dataclass(frozen=True)
class Example:
    """One conversation with a known good answer.

    Args:
        id: content hash of prompt and answer, the same wherever the example was found.
        source: path of the document that it came from, with the line after a colon.
        messages: `{"role", "content"}` mappings, user first, assistant last.
        check: what a verifier of other answers needs: `{"name": str, "arguments": [str, ...]}`, where
            starred arguments carry their stars. None where no answer can be verified.
    """

    id: str
    source: str
    messages: list[dict[str, str]]
    check: dict[str, Any] | None = None

    @property
    def prompt(self) -> str:
        """The user's words."""
        return self.messages[0]["content"]

    @property
    def answer(self) -> str:
        """The assistant's words, as the corpus has them."""
        return self.messages[-1]["content"]


def mine_code(documents: Iterable[Document]) -> list[Example]:
    """Finds functions that say what they do, in Python documents.

    Taken are functions at the top of a module and methods of classes, with a docstring, not dunder and
    not tests. The answer is one fenced block with the function as it stands, out-dented and without
    decorators. No prompt and no answer comes twice.

    Args:
        documents: any documents; those of another kind than "python" are passed over.

    Returns:
        Examples with a check, in the order of the documents and of the functions in them.

    Example:
        >>> mine_code([Document("1", "a.py", 'def area(w, h):\\n    "Return the area."\\n    return w * h\\n',
        ...                     "python")])[0].prompt
        'Write a function `area(w, h)` that returns the area.'
    """
    return _unique(_code_examples(documents))


def mine_headings(documents: Iterable[Document]) -> list[Example]:
    """Finds sections under headings, in Markdown and reStructuredText documents.

    The answer is the section's own text up to the next heading, cut after the last whole paragraph
    within `LONGEST_SECTION` characters.

    Args:
        documents: any documents; those of another kind than "markdown" and "rst" are passed over.

    Returns:
        Examples without a check (nothing tells a right section from a wrong one), in document order.
    """
    return _unique(_heading_examples(documents))


def mine(documents: Iterable[Document]) -> list[Example]:
    """Finds everything that there is to find, functions, then sections; documents pass one at a time."""
    functions: list[Example] = []
    sections: list[Example] = []
    for document in documents:
        functions += _code_examples([document])
        sections += _heading_examples([document])
    return [*_unique(functions), *_unique(sections)]


def code_of(example: Example) -> str:
    """Returns the answer to a question for code, without the fence around it."""
    return example.answer.removeprefix(f"{_FENCE}python\n").removesuffix(f"\n{_FENCE}")


def unseen(examples: Iterable[Example], kept_apart: Iterable[Example]) -> list[Example]:
    """Returns the examples of which neither prompt nor answer is also among those kept apart.

    Args:
        examples: to learn from.
        kept_apart: to measure with.
    """
    apart = list(kept_apart)
    prompts, answers = {example.prompt for example in apart}, {example.answer for example in apart}
    return [e for e in examples if e.prompt not in prompts and e.answer not in answers]


def signature(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names the arguments of a function in order, starred ones with their stars.

    Defaults, annotations and the separators `/` and `*` are not part of it.

    Example:
        >>> signature(ast.parse("def f(a, /, b=1, *rest, key: int, **more): ...").body[0])
        ['a', 'b', '*rest', 'key', '**more']
    """
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args)]
    if given.vararg is not None:
        names.append(f"*{given.vararg.arg}")
    names += [argument.arg for argument in given.kwonlyargs]
    if given.kwarg is not None:
        names.append(f"**{given.kwarg.arg}")
    return names


def summary(docstring: str) -> str:
    """Returns the first sentence of a docstring in one line, ready to follow "that", or "".

    Empty where the docstring opens with something that is no sentence: a signature, a doctest, a table.

    Example:
        >>> summary("Return the size, e.g. of a file.\\n\\nMore.")
        'returns the size, e.g. of a file'
    """
    paragraph = docstring.strip().split("\n\n")[0]
    folded = " ".join(paragraph.split())
    end = re.search(r"(?<!e\.g)(?<!i\.e)(?<!etc)(?<! vs)[.!?:;](?= |$)", folded)
    sentence = folded[: end.start()] if end else folded
    no_sentence = re.search(r"->|>>>|```|[{}|<>=]|--|\w\(.*\)$", sentence) or (end and end[0] == "?")
    if no_sentence or len(sentence.split()) < 2 or not sentence[0].isalpha():
        return ""
    first, rest = sentence.split(" ", 1)
    if first[1:].islower() or len(first) == 1:  # names and acronyms keep their capitals
        first = first[0].lower() + first[1:]
    return f"{_third_person(first)} {rest}"


def _third_person(word: str) -> str:
    """Docstrings command ("return"); after "that" the same verb tells ("returns")."""
    if word not in _VERBS.split():
        return word
    if word.endswith(("s", "sh", "ch", "x", "o")):
        return word + "es"
    return word[:-1] + "ies" if word.endswith("y") and word[-2] not in "aeiou" else word + "s"


def _code_examples(documents: Iterable[Document]) -> Iterator[Example]:
    for document in documents:
        if document.kind != "python":
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in other people's strings
                tree = ast.parse(document.text)
        except (SyntaxError, ValueError, RecursionError):
            continue
        lines = re.split(r"\r\n|\r|\n", document.text)  # not splitlines: ast counts no form feeds
        for function in _functions(tree.body):
            example = _from_function(document.source, function, lines)
            if example is not None:
                yield example


def _functions(body: Iterable[ast.stmt]) -> Iterator[ast.FunctionDef]:
    """Functions of a module, of its classes and of the branches of either, never those inside functions."""
    for node in body:
        if isinstance(node, ast.FunctionDef):
            yield node
        elif not isinstance(node, ast.AsyncFunctionDef):
            for field in ("body", "handlers", "orelse", "finalbody"):
                yield from _functions(getattr(node, field, ()))


def _from_function(source: str, function: ast.FunctionDef, lines: list[str]) -> Example | None:
    name = function.name
    sentence = summary(ast.get_docstring(function) or "")
    if not sentence or name.lower().startswith("test") or (name.startswith("__") and name.endswith("__")):
        return None
    code = textwrap.dedent("\n".join(lines[function.lineno - 1 : function.end_lineno])).rstrip()
    arguments = signature(function)
    prompt = f"Write a function `{name}({', '.join(arguments)})` that {sentence}."
    if len(prompt) > LONGEST_PROMPT or _FENCE in code or not _stands_alone(code):
        return None
    return make_example(
        f"{source}:{function.lineno}",
        prompt,
        f"{_FENCE}python\n{code}\n{_FENCE}",
        {"name": name, "arguments": arguments},
    )


def _stands_alone(code: str) -> bool:
    """Whether the out-dented text is one function still (a string flush left keeps it from out-denting)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError):
        return False
    return len(body) == 1 and isinstance(body[0], ast.FunctionDef)


def _heading_examples(documents: Iterable[Document]) -> Iterator[Example]:
    for document in documents:
        if document.kind not in ("markdown", "rst"):
            continue
        sections = list(sections_of(document.text.splitlines(), document.kind))
        if not sections:
            continue
        stem = PurePath(document.source).stem
        title = sections[0][0] if sections[0][2] == 0 else stem
        for heading, line, _, text in ((h, n, level, whole_paragraphs(t)) for h, n, level, t in sections):
            prompt = f'Write the section "{heading}" of "{title}".'
            if len(text) >= SHORTEST_SECTION and len(prompt) <= LONGEST_PROMPT:
                yield make_example(f"{document.source}:{line}", prompt, text, None)


def sections_of(lines: list[str], kind: str) -> Iterator[tuple[str, int, int, str]]:
    """Yields (heading, its line number, number of headings before it, text up to the next heading)."""
    found: list[tuple[str, int, int]] = []  # heading, its first line, first line of its text
    fenced = False
    for n, line in enumerate(lines):
        if kind == "markdown" and line.lstrip().startswith((_FENCE, "~~~")):
            fenced = not fenced
        if fenced:
            continue
        after = lines[n + 1] if n + 1 < len(lines) else ""
        if kind == "markdown" and (hashes := re.match(r"#{1,6}\s+(.+?)\s*#*$", line)):
            found.append((hashes[1], n, n + 1))
        elif _underlined(line, after, kind):
            overlined = kind == "rst" and n > 0 and _adornment(lines[n - 1]) and lines[n - 1] == after
            found.append((line.strip(), n - overlined, n + 2))
    for number, (heading, first, start) in enumerate(found):
        end = found[number + 1][1] if number + 1 < len(found) else len(lines)
        yield heading, first + 1, number, "\n".join(lines[start:end])


def _underlined(line: str, after: str, kind: str) -> bool:
    if not line.strip() or _adornment(line):
        return False
    if kind == "markdown":
        return re.fullmatch(r"={3,}|-{3,}", after.rstrip()) is not None and not line.startswith(
            (" ", ">", "|")
        )
    return _adornment(after) and len(after.rstrip()) >= len(line.rstrip())


def _adornment(line: str) -> bool:
    return re.fullmatch(r"([=\-~^\"'`#*+.:_])\1{2,}", line.rstrip()) is not None


def whole_paragraphs(text: str) -> str:
    kept = ""
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        longer = f"{kept}\n\n{paragraph}" if kept else paragraph
        if len(longer) > LONGEST_SECTION:
            break
        kept = longer
    return kept.strip()


def make_example(source: str, prompt: str, answer: str, check: dict[str, Any] | None) -> Example:
    """Makes the example of one question and one answer."""
    identity = hashlib.sha256(f"{prompt}\0{answer}".encode()).hexdigest()[:16]
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return Example(identity, source, messages, check)


def _unique(examples: Iterable[Example]) -> list[Example]:
    prompts: set[str] = set()
    answers: set[str] = set()
    kept = []
    for example in examples:
        if example.prompt not in prompts and example.answer not in answers:
            prompts.add(example.prompt)
            answers.add(example.answer)
            kept.append(example)
    return kept
