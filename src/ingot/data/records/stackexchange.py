"""Rows of a question with several answers that people voted on, as StackExchange's sets have them.

{"question": "...", "answers": [{"text": "...", "score": 3, "accepted": true}, ...]}; `title` and `body` may
stand for the question, and `body` or `answer` for an answer's text. HTML becomes Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any, NamedTuple

from ingot.data.records.format import Format
from ingot.data.records.messages import text
from ingot.data.records.record import Answered, Preference, RowError

_TEXTS = ("text", "body", "answer")
_SCORES = ("score", "pm_score", "votes")
_ACCEPTED = ("accepted", "selected", "is_accepted")
_TAGS = re.compile(r"</?(?:p|code|pre|a|ul|ol|li|br|em|strong|blockquote|h[1-6]|hr)\b[^<>]*>", re.IGNORECASE)


class _Answer(NamedTuple):
    accepted: bool
    score: float
    text: str


def _read_best(row: Mapping[str, Any]) -> Answered:
    """The accepted answer, or the one with most votes; one that people voted down is none."""
    best = max(_answers(row))
    if best.score < 0 and not best.accepted:
        raise RowError(f"the best answer scores {best.score:g}", "leave it out: nobody liked it")
    return Answered(_question(row), best.text)


def _read_pair(row: Mapping[str, Any]) -> Preference:
    """The answer with most votes against the one with fewest."""
    answers = sorted(_answers(row), key=lambda one: one.score)
    if answers[-1].score == answers[0].score:
        raise RowError(f"all answers score {answers[0].score:g}", "leave it out: nothing was preferred")
    return Preference(_question(row), answers[-1].text, answers[0].text)


def _question(row: Mapping[str, Any]) -> str:
    parts = [plain(text(row[key], key)) for key in ("title", "question", "body") if row.get(key)]
    if not parts:
        raise RowError("misses 'question'", "add 'question', or 'title' and 'body'")
    return "\n\n".join(dict.fromkeys(parts))


def _answers(row: Mapping[str, Any]) -> list[_Answer]:
    answers = row["answers"]
    if not isinstance(answers, list) or not answers:
        raise RowError("'answers' holds no answer", "leave it out")
    return [_answer(one, f"answers[{place}]") for place, one in enumerate(answers, 1)]


def _answer(one: Any, name: str) -> _Answer:
    key = next((key for key in _TEXTS if isinstance(one, dict) and key in one), None)
    if key is None:
        raise RowError(f"'{name}' has no text", "add one of " + ", ".join(_TEXTS))
    score = next((one[key] for key in _SCORES if key in one), 0)
    if not isinstance(score, int | float) or score != score:
        raise RowError(f"'{name}' has the score {score!r}", "write a number")
    accepted = any(one.get(key) is True for key in _ACCEPTED)
    return _Answer(accepted, float(score), text(plain(text(one[key], f"{name}.{key}")), f"{name}.{key}"))


def plain(text: str) -> str:
    """Returns HTML as Markdown; a text without tags as it is.

    Example:
        >>> plain("<p>Use <code>a &lt; b</code>:</p><pre><code>if a &lt; b:</code></pre>")
        'Use `a < b`:\\n\\n```\\nif a < b:\\n```'
    """
    if not _TAGS.search(text):
        return text
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return re.sub(r"\n{3,}", "\n\n", "".join(reader.parts)).strip()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._fenced = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "pre":
            self._fenced = True
            self.parts.append("\n\n```\n")
        elif tag == "code" and not self._fenced:
            self.parts.append("`")
        elif tag == "li":
            self.parts.append("\n- ")
        elif tag in ("p", "br", "blockquote", "ul", "ol"):
            self.parts.append("\n" if tag == "br" else "\n\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self._fenced = False
            self.parts.append("\n```\n\n")
        elif tag == "code" and not self._fenced:
            self.parts.append("`")
        elif tag in ("p", "blockquote", "ul", "ol"):
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        self.parts.append(data.strip("\n") if self._fenced else re.sub(r"\s+", " ", data))


STACKEXCHANGE = Format(
    "stackexchange",
    "a question and the answer that people voted for",
    Answered,
    ("answers",),
    ("title", "question", "body"),
    _read_best,
    None,
)
STACKEXCHANGE_PREFERENCE = Format(
    "stackexchange-preference",
    "a question and answers with votes, the best against the worst",
    Preference,
    ("answers",),
    ("title", "question", "body"),
    _read_pair,
    None,
    fits=lambda row: False,
)
