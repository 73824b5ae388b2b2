"""Gopher's quality rules: is this text made of words, like prose? (Rae et al. 2021, appendix A.1.1)"""

from __future__ import annotations

from ingot.config import Config
from ingot.data.rules.objection import Objection, above, below
from ingot.data.rules.statistics import Statistics

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
_ELLIPSES = ("...", "…")
_BULLETS = ("•", "-")


class GopherQuality(Config):
    """Thresholds of the quality rules; the defaults are the published ones, None switches a rule off.

    Args:
        min_words: words that are not just signs, at least.
        max_words: the same, at most.
        min_mean_word_length: letters of such a word, on average, at least.
        max_mean_word_length: the same, at most.
        max_hashes: hash signs per word.
        max_ellipses: ellipses per word.
        max_bullet_lines: share of lines that start with a bullet.
        max_ellipsis_lines: share of lines that end with an ellipsis.
        min_alphabetic: share of words (signs count too) with a letter in them.
        min_stop_words: how many different stop words occur, at least.
        stop_words: those.
        stop_words_language: ask for stop words only in texts of this language; None asks in all.
    """

    min_words: int | None = 50
    max_words: int | None = 100_000
    min_mean_word_length: float | None = 3.0
    max_mean_word_length: float | None = 10.0
    max_hashes: float | None = 0.1
    max_ellipses: float | None = 0.1
    max_bullet_lines: float | None = 0.9
    max_ellipsis_lines: float | None = 0.3
    min_alphabetic: float | None = 0.8
    min_stop_words: int | None = 2
    stop_words: tuple[str, ...] = STOP_WORDS
    stop_words_language: str | None = None

    def judge(self, known: Statistics, language: str | None = None) -> Objection | None:
        """Returns the first rule that a text breaks, in datatrove's order; None where it keeps them all.

        Args:
            known: the text's statistics.
            language: of the text, where it is known.
        """
        return self._judge_words(known) or self._judge_signs(known) or self._judge_language(known, language)

    def _judge_words(self, known: Statistics) -> Objection | None:
        counts = known.counts
        found = below("gopher.min_words", "words", counts.proper, self.min_words)
        found = found or above("gopher.max_words", "words", counts.proper, self.max_words)
        if found or counts.proper == 0:
            return found
        mean = counts.letters / counts.proper
        what, rule = "letters of a word", "gopher.mean_word_length"
        return below(rule, what, mean, self.min_mean_word_length) or above(
            rule, what, mean, self.max_mean_word_length
        )

    def _judge_signs(self, known: Statistics) -> Objection | None:
        text, lines, words = known.text, known.lines, max(1, known.counts.words)
        hashes = text.count("#") / words
        ellipses = sum(map(text.count, _ELLIPSES)) / words
        found = above("gopher.hashes", "hash signs per word", hashes, self.max_hashes)
        found = found or above("gopher.ellipses", "ellipses per word", ellipses, self.max_ellipses)
        if found or not lines:
            return found
        most = self.max_bullet_lines
        if most is not None and sum(map(text.count, _BULLETS)) / len(lines) > most:  # else there are too few
            bullets = sum(line.lstrip().startswith(_BULLETS) for line in lines) / len(lines)
            found = above("gopher.bullet_lines", "lines that start with a bullet", bullets, most)
        if found or ellipses == 0:
            return found
        share = sum(line.rstrip().endswith(_ELLIPSES) for line in lines) / len(lines)
        return above("gopher.ellipsis_lines", "lines that end in an ellipsis", share, self.max_ellipsis_lines)

    def _judge_language(self, known: Statistics, language: str | None) -> Objection | None:
        counts = known.counts
        if counts.words:
            share = counts.alphabetic / counts.words
            found = below("gopher.alphabetic", "words with a letter", share, self.min_alphabetic)
            if found:
                return found
        if self.stop_words_language not in (None, language):
            return None
        return self._judge_stop_words(known.words)

    def _judge_stop_words(self, words: list[str]) -> Objection | None:
        present = 0
        for word in dict.fromkeys(self.stop_words) if self.min_stop_words is not None else ():
            present += word in words  # frequent words are soon found
            if present == self.min_stop_words:
                return None
        return below("gopher.stop_words", "different stop words", present, self.min_stop_words)
