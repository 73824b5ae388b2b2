"""FineWeb's own rules: is this a list, or running text? (Penedo et al. 2024, section 3.5)"""

from __future__ import annotations

from ingot.config import Config
from ingot.data.rules.objection import Objection, above, below
from ingot.data.rules.repetition import repeats
from ingot.data.rules.signs import ENDS
from ingot.data.rules.statistics import Statistics


class FineWeb(Config):
    """Thresholds of FineWeb; the defaults are those it was made with, None switches a rule off.

    Args:
        min_ended_lines: share of lines whose last character ends a sentence.
        max_short_lines: share of short lines.
        short_line: letters of a short line, at most.
        max_repeated_letters: share of letters in lines that repeat an earlier one. The code that made
            FineWeb says 0.01, and so do we; the paper says 0.1.
        max_newlines: line ends per word.
    """

    min_ended_lines: float | None = 0.12
    max_short_lines: float | None = 0.67
    short_line: int = 30
    max_repeated_letters: float | None = 0.01
    max_newlines: float | None = 0.3

    def judge(self, known: Statistics) -> Objection | None:
        """Returns the first rule that a text breaks, in datatrove's order; None where it keeps them all."""
        text = known.text
        lines = [line for line in text.split("\n") if line and not line.isspace()]
        if not lines:
            return Objection("fineweb.empty", "nothing but blanks")
        share = sum(line[-1] in ENDS for line in lines) / len(lines)
        found = below("fineweb.ended_lines", "lines that end a sentence", share, self.min_ended_lines)
        if found:
            return found
        share = sum(len(line) <= self.short_line for line in lines) / len(lines)
        found = above("fineweb.short_lines", "short lines", share, self.max_short_lines)
        if found:
            return found
        newlines = text.count("\n")
        share = repeats(lines)[1] / (len(text) - newlines)
        rule = "fineweb.repeated_letters"
        return above(rule, "letters in repeated lines", share, self.max_repeated_letters) or self._newlines(
            known, newlines
        )

    def _newlines(self, known: Statistics, newlines: int) -> Objection | None:
        most = self.max_newlines
        if most is None or newlines / max(1, known.fewest_words) <= most:
            return None
        share = newlines / max(1, len(known.words))
        return above("fineweb.newlines", "line ends per word", share, most)
