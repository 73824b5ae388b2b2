"""Gopher's repetition rules: does this text say the same again and again? (Rae et al. 2021, table A1)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from ingot.config import Config
from ingot.data.rules.objection import Objection, above
from ingot.data.rules.statistics import Statistics

_TOP = {2: 0.20, 3: 0.18, 4: 0.16}
_REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


class GopherRepetition(Config):
    """Thresholds of the repetition rules; the defaults are the published ones, None switches a rule off.

    Args:
        max_paragraphs: share of paragraphs that repeat an earlier one.
        max_paragraph_letters: share of the text's letters in these.
        max_lines: share of lines that repeat an earlier one.
        max_line_letters: share of the text's letters in these.
        top: for sequences of so many words: the share of the text that its most frequent one makes up.
        repeated: for sequences of so many words: the share of the text in those that occurred before.
    """

    max_paragraphs: float | None = 0.30
    max_paragraph_letters: float | None = 0.20
    max_lines: float | None = 0.30
    max_line_letters: float | None = 0.20
    top: Mapping[int, float] | None = Field(default=_TOP, validate_default=True)
    repeated: Mapping[int, float] | None = Field(default=_REPEATED, validate_default=True)

    def judge(self, known: Statistics) -> Objection | None:
        """Returns the first rule that a text breaks, in datatrove's order; None where it keeps them all."""
        if not known.text:
            return Objection("gopher.empty", "no text at all")
        return self._judge_parts(known.text) or self._judge_top(known) or self._judge_repeated(known)

    def _judge_parts(self, text: str) -> Objection | None:
        paragraphs = _paragraphs(text.strip())
        count, letters = repeats(paragraphs)
        share, size = count / len(paragraphs), letters / len(text)
        found = above("gopher.repeated_paragraphs", "repeated paragraphs", share, self.max_paragraphs)
        found = found or above(
            "gopher.repeated_paragraph_letters",
            "letters in repeated paragraphs",
            size,
            self.max_paragraph_letters,
        )
        if found:
            return found
        lines = _lines(text)
        count, letters = repeats(lines)
        share, size = count / len(lines), letters / len(text)
        found = above("gopher.repeated_lines", "repeated lines", share, self.max_lines)
        rule = "gopher.repeated_line_letters"
        return found or above(rule, "letters in repeated lines", size, self.max_line_letters)

    def _judge_top(self, known: Statistics) -> Objection | None:
        size = len(known.text)
        for n, most in sorted((self.top or {}).items()):
            share = known.sequences.top_letters(n, _surely_kept(most, size)) / size
            found = above(f"gopher.top_{n}_words", f"letters in the top sequence of {n} words", share, most)
            if found:
                return found
        return None

    def _judge_repeated(self, known: Statistics) -> Objection | None:
        size = len(known.text)
        for n, most in sorted((self.repeated or {}).items()):
            share = known.sequences.repeated_letters(n, _surely_kept(most, size)) / size
            rule, what = f"gopher.repeated_{n}_words", f"letters in repeated sequences of {n} words"
            found = above(rule, what, share, most)
            if found:
                return found
        return None


def _surely_kept(most: float, size: int) -> int:
    """So many letters, or fewer, break no such threshold, however the division by the size is rounded."""
    return int(most * size) - 1


def _paragraphs(text: str) -> list[str]:
    """What stands between two or more line feeds; the text itself neither starts nor ends with one."""
    parts = text.split("\n\n")
    if len(parts) == 1:
        return parts
    return [part for part in (part.lstrip("\n") for part in parts) if part]


def _lines(text: str) -> list[str]:
    """What stands between line feeds, many of which count as one, before the first and after the last."""
    lines = text.split("\n")
    inner = [line for line in lines[1:-1] if line]
    return [lines[0], *inner, lines[-1]] if len(lines) > 1 else lines


def repeats(parts: Sequence[str]) -> tuple[int, int]:
    """Returns how many parts repeat an earlier one, and the letters in these.

    Example:
        >>> repeats(["one", "two", "one", "one"])
        (2, 6)
    """
    distinct = set(parts)
    count = len(parts) - len(distinct)
    if count == 0:
        return 0, 0
    return count, sum(map(len, parts)) - sum(map(len, distinct))
