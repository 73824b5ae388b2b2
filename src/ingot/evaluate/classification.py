"""Classes and tags: precision, recall and F1 of each, and of the named things that tags spell out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

Thing = tuple[int, int, str]
"""First word, the one behind the last, and the kind."""


def by_class(right: Sequence[str], said: Sequence[str]) -> dict[str, Any]:
    """Returns precision, recall, F1 and count of each class, and their plain mean (macro F1).

    Args:
        right: the class of each item.
        said: what was answered.

    Example:
        >>> by_class(["a", "a", "b"], ["a", "b", "b"])["macro_f1"]
        0.6666666666666666
    """
    truth, answers = Counter(right), Counter(said)
    both = Counter(one for one, other in zip(right, said, strict=True) if one == other)
    classes = {name: _figures(both[name], answers[name], truth[name]) for name in sorted(truth)}
    return {"macro_f1": sum(one["f1"] for one in classes.values()) / len(classes), "classes": classes}


def things(tags: Sequence[str]) -> set[Thing]:
    """Returns the named things that a sentence's tags spell out: B-X begins one, I-X goes on, O is outside.

    I-X behind anything but B-X or I-X begins one too, as in CoNLL's script. Tags without such a prefix are
    things of one word each.

    Example:
        >>> sorted(things(["B-PER", "I-PER", "O", "I-LOC"]))
        [(0, 2, 'PER'), (3, 4, 'LOC')]
    """
    found: set[Thing] = set()
    start, kind = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, dash, name = tag.partition("-")
        goes_on = dash and prefix == "I" and name == kind
        if kind and not goes_on:
            found.add((start, place, kind))
            kind = ""
        if dash and prefix in ("B", "I") and not goes_on:
            start, kind = place, name
        elif tag != "O" and not (dash and prefix in ("B", "I")):
            found.add((place, place + 1, tag))
    return found


def things_f1(right: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> dict[str, float]:
    """Returns precision, recall and F1 over the things of all sentences; only whole ones count.

    Source: Tjong Kim Sang and De Meulder 2003, "Introduction to the CoNLL-2003 shared task".
    """
    pairs = [(things(a), things(b)) for a, b in zip(right, said, strict=True)]
    return _figures(
        sum(len(a & b) for a, b in pairs), sum(len(b) for _, b in pairs), sum(len(a) for a, _ in pairs)
    )


def _figures(both: int, said: int, right: int) -> dict[str, float]:
    """F1 is 0 where nothing is right."""
    return {
        "precision": both / said if said else 0.0,
        "recall": both / right if right else 0.0,
        "f1": 2 * both / (said + right) if said + right else 0.0,
        "count": right,
    }
