"""Conversations from questions that a text answers itself: "Q:" and "A:", and headings that ask."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ingot.data.conversations import Example, make_example, whole_paragraphs
from ingot.data.document import Document, is_code
from ingot.data.mining.sections import sections
from ingot.data.mining.skipped import Skipped

LONGEST_QUESTION = 600
"""Signs; a longer one has more in it than a question."""

SHORTEST_ANSWER = 20
"""Signs; a shorter one answers little."""

_MARK = r"\s*\d*\s*(?:\*\*|__)?\s*[:.)]\s*(?:\*\*|__)?\s*(?P<text>.*)$"
_ASKS = re.compile(r"^[ \t>]*(?:[-*][ \t]+)?(?:\*\*|__)?(?:Q|Question)" + _MARK, re.IGNORECASE)
_ANSWERS = re.compile(r"^[ \t>]*(?:[-*][ \t]+)?(?:\*\*|__)?(?:A|Answer)" + _MARK, re.IGNORECASE)
_ENDS = re.compile(r"^(?:#{1,6}\s|([=\-~*_])\1{3,}\s*$)")
_NUMBERED = re.compile(r"^(?:Q?\d+(?:\.\d+)*[.):]?|Q[.:)])\s+", re.IGNORECASE)


def mine_questions(document: Document) -> Iterator[Example | Skipped]:
    """Finds questions with their answers in prose.

    The answer is cut after the last whole paragraph within `conversations.LONGEST_SECTION` signs.

    Yields:
        Examples, and every question without a usable answer with the reason why.
    """
    if is_code(document.kind):
        return
    for line, question, answer in [*_marked(document.text), *_headings(document)]:
        source = f"{document.source}:{line}"
        asked = _NUMBERED.sub("", " ".join(question.split())).strip("*_ ")
        said = whole_paragraphs(answer.strip("\n"))
        if not asked:
            yield Skipped(source, "an empty question")
        elif len(asked) > LONGEST_QUESTION:
            yield Skipped(source, "question too long")
        elif not answer.strip():
            yield Skipped(source, "a question without an answer")
        elif len(said) < SHORTEST_ANSWER:
            yield Skipped(source, "answer too short, or its first paragraph too long")
        else:
            yield make_example(source, asked, said, None)


def _marked(text: str) -> Iterator[tuple[int, str, str]]:
    """Yields (line, question, answer) of what is marked with Q and A."""
    asking: tuple[int, list[str]] | None = None
    saying: list[str] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if asks := _ASKS.match(line):
            if asking is not None:
                yield asking[0], "\n".join(asking[1]), "\n".join(saying or [])
            asking, saying = (number, [asks["text"]]), None
        elif asking is not None and saying is None and (answers := _ANSWERS.match(line)):
            saying = [answers["text"].rstrip()]
        elif asking is not None and _ENDS.match(line):
            yield asking[0], "\n".join(asking[1]), "\n".join(saying or [])
            asking = saying = None
        elif saying is not None:
            saying.append(line.strip(" \t>"))
        elif asking is not None:
            asking[1].append(line)
    if asking is not None:
        yield asking[0], "\n".join(asking[1]), "\n".join(saying or [])


def _headings(document: Document) -> Iterator[tuple[int, str, str]]:
    for one in sections(document):
        if one.heading.endswith("?") and len(one.heading.split()) > 2:
            yield one.line, one.heading, one.text
