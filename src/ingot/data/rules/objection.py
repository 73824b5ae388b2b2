"""What a rule says against a document: its name, what it measured, and what it held that against."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Objection:
    """Why a document should go.

    Args:
        rule: stable name, to count by, such as "gopher.mean_word_length".
        detail: the same in words.
        value: what was measured, where there is a measure.
        threshold: the bound that it breaks.
    """

    rule: str
    detail: str
    value: float | None = None
    threshold: float | None = None


def above(rule: str, what: str, value: float, most: float | None) -> Objection | None:
    """Objects to a value above the most that is allowed; None allows all.

    Example:
        >>> above("gopher.bullets", "lines that start with a bullet", 0.95, 0.9).detail
        'lines that start with a bullet: 0.95, more than 0.9'
    """
    if most is None or not value > most:
        return None
    return Objection(rule, f"{what}: {value:.4g}, more than {most:g}", value, most)


def below(rule: str, what: str, value: float, least: float | None) -> Objection | None:
    """Objects to a value below the least that is allowed; None allows all."""
    if least is None or not value < least:
        return None
    return Objection(rule, f"{what}: {value:.4g}, less than {least:g}", value, least)
