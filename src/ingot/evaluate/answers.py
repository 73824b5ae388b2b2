"""Answers that are stretches of a text: how far they agree with the right, and a simple way to find one."""

from __future__ import annotations

import re
import statistics
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_SIGNS = str.maketrans("", "", string.punctuation)
_WORD = re.compile(r"\w+")
_NEAR = 8


def normal(answer: str) -> list[str]:
    """Returns the words of an answer as SQuAD compares them: lower case, no punctuation, no English article.

    An answer that is nothing but punctuation stays as it is.

    Source: Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1.

    Example:
        >>> normal("The Eiffel Tower.")
        ['eiffel', 'tower']
    """
    words = _ARTICLES.sub(" ", answer.lower().translate(_SIGNS)).split()
    return words or answer.lower().split()


def exact(said: str, right: str) -> float:
    """Returns 1 where the words are the same, else 0."""
    return float(normal(said) == normal(right))


def overlap(said: str, right: str) -> float:
    """Returns F1 over the words of two answers; of an empty one, whether both are.

    Example:
        >>> overlap("in the garden", "garden")
        0.6666666666666666
    """
    ours, theirs = normal(said), normal(right)
    both = sum((Counter(ours) & Counter(theirs)).values())
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * both / (len(ours) + len(theirs))


class BehindQuestion:
    """Answers with the words that follow where most words of the question stand together.

    Args:
        answers: right ones, whose usual length is taken.
    """

    def __init__(self, answers: Sequence[str]) -> None:
        found = [len(_WORD.findall(answer)) for answer in answers if answer]
        self.words = max(1, round(statistics.median(found))) if found else 1

    def answer(self, question: str, context: str) -> str:
        """Returns a stretch of the context."""
        asked = {word.lower() for word in _WORD.findall(question)}
        words = list(_WORD.finditer(context))
        known = [one.group().lower() in asked for one in words]
        best, place = -1.0, 0
        for at in range(1, len(words)):
            if known[at - 1] and not known[at]:
                near = {one.group().lower() for one in words[max(0, at - _NEAR) : at]}
                if len(near & asked) > best:
                    best, place = len(near & asked), at
        chosen = words[place : place + self.words]
        return context[chosen[0].start() : chosen[-1].end()] if chosen else ""
