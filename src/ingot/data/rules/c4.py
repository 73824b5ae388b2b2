"""C4's rules: which lines of a page are text, and is there enough of it? (Raffel et al. 2020, section 2.2)

These rules edit: lines that are not text go, and so do the marks of citations. What stays is stripped of
blanks around each line, which suits pages from the web and ruins whatever has indentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ingot.config import Config
from ingot.data.rules.objection import Objection
from ingot.data.rules.words import Splitter

POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_TERMINAL = (".", "?", "!", '"', "'")


class C4(Config):
    """Switches and thresholds of C4; the defaults are the published ones, None switches a rule off.

    Args:
        max_word_length: drop lines with a longer word (a run between blanks).
        terminal_punctuation: drop lines that end in none of . ? ! " ' or in an ellipsis.
        min_words_per_line: drop lines of fewer words.
        javascript: drop lines that mention it.
        policies: drop lines with one of these phrases, in lower case.
        lorem_ipsum: drop documents with these words.
        curly_braces: drop documents with a "{".
        citations: take out "[1]", "[edit]" and "[citation needed]".
        min_sentences: drop documents of which fewer sentences stay.
    """

    max_word_length: int | None = 1000
    terminal_punctuation: bool = True
    min_words_per_line: int | None = 3
    javascript: bool = True
    policies: tuple[str, ...] = POLICIES
    lorem_ipsum: bool = True
    curly_braces: bool = True
    citations: bool = True
    min_sentences: int | None = 5

    def edit(self, text: str, splitter: Splitter) -> Edited | Objection:
        """Applies the rules.

        Args:
            text: of a whole document.
            splitter: what a sentence is.

        Returns:
            What stays of the text, or the rule that it breaks.
        """
        edit = _Lines(self, text).edit
        lines = text.splitlines()
        kept: list[str] = []
        for line in lines:
            result = edit(line.strip())
            if isinstance(result, Objection):
                return result
            if result is not None:
                kept.append(result)
        objection = self._too_few(kept, splitter)
        if objection:
            return objection
        return Edited("\n".join(kept).strip(), len(lines) - len(kept))

    def _too_few(self, lines: list[str], splitter: Splitter) -> Objection | None:
        if self.min_sentences is None:
            return None
        count = 0
        for line in lines:  # no further than needed
            count += len(splitter.sentences(line))
            if count >= self.min_sentences:
                return None
        detail = f"sentences: {count}, less than {self.min_sentences}"
        return Objection("c4.sentences", detail, count, self.min_sentences)


@dataclass(frozen=True)
class Edited:
    """What C4 leaves of a text, and how many lines went."""

    text: str
    dropped: int


class _Lines:
    """The rules for one line. What cannot occur in the text at all is not looked for in its lines."""

    def __init__(self, rules: C4, text: str) -> None:
        lower = text.lower()
        self.rules = rules
        self.citations = rules.citations and "[" in text
        self.lorem_ipsum = rules.lorem_ipsum and "lorem ipsum" in lower
        self.javascript = rules.javascript and "javascript" in lower
        self.braces = rules.curly_braces and "{" in text
        self.policies = [phrase for phrase in rules.policies if phrase in lower]
        self.words = max(0, rules.min_words_per_line or 0)
        self.plain = not (self.lorem_ipsum or self.javascript or self.braces or self.policies)

    def edit(self, line: str) -> str | Objection | None:
        """Returns the line as it stays, None where it goes, or why the whole document goes."""
        rules, long = self.rules, self.rules.max_word_length
        if long is not None and len(line) > long and any(len(word) > long for word in line.split()):
            return None
        if self.words and len(line.split(None, self.words)) < self.words:
            return None
        if self.citations:
            line = _CITATION.sub("", line)
        if rules.terminal_punctuation and (not line.endswith(_TERMINAL) or line.endswith("...")):
            return None
        return line if self.plain else self._contents(line)

    def _contents(self, line: str) -> str | Objection | None:
        lower = line.lower()
        if self.lorem_ipsum and "lorem ipsum" in lower:
            return Objection("c4.lorem_ipsum", "holds 'lorem ipsum'")
        if self.javascript and "javascript" in lower:
            return None
        if self.braces and "{" in line:
            return Objection("c4.curly_brace", "holds a curly brace")
        return None if any(phrase in lower for phrase in self.policies) else line
