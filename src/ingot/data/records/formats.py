"""All formats, and how to tell which one a file is in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ingot.data.records.alpaca import ALPACA, ALPACA_PREFERENCE
from ingot.data.records.format import Format
from ingot.data.records.openai import MESSAGES
from ingot.data.records.ranked import HH, QUESTION_ANSWER, ULTRAFEEDBACK
from ingot.data.records.sharegpt import SHAREGPT
from ingot.data.records.stackexchange import STACKEXCHANGE, STACKEXCHANGE_PREFERENCE
from ingot.data.records.trl import (
    PREFERENCE,
    PREFERENCE_IMPLICIT,
    PROMPT_COMPLETION,
    PROMPT_ONLY,
    STEPWISE,
    TEXT,
    UNPAIRED,
)
from ingot.errors import DataError, did_you_mean

_BY_STRICTNESS = (
    UNPAIRED,
    STEPWISE,
    PREFERENCE,
    ALPACA_PREFERENCE,
    ULTRAFEEDBACK,
    ALPACA,
    HH,
    PREFERENCE_IMPLICIT,
    PROMPT_COMPLETION,
    QUESTION_ANSWER,
    STACKEXCHANGE,
    STACKEXCHANGE_PREFERENCE,  # told by name only: its rows look like the former's
    MESSAGES,
    SHAREGPT,
    PROMPT_ONLY,
    TEXT,
)

FORMATS: dict[str, Format] = {one.name: one for one in _BY_STRICTNESS}
"""By name; a row is of the first that fits, so those that ask for more stand first."""


def named(name: str) -> Format:
    """Returns a format by its name.

    Raises:
        DataError: no such format, with the nearest right name.
    """
    if name not in FORMATS:
        raise DataError(f"no format is called '{name}'", fix=did_you_mean(name, FORMATS))
    return FORMATS[name]


def detect(rows: Iterable[Mapping[str, Any]], where: object = None) -> Format:
    """Returns the format that most of the rows fit.

    Args:
        rows: the first ones of a file, as many as are at hand.
        where: what to call the file in an error.

    Raises:
        DataError: they fit none.

    Example:
        >>> detect([{"instruction": "Add.", "input": "1 1", "output": "2"}]).name
        'alpaca'
    """
    seen = list(rows)
    votes = Counter(one.name for row in seen if (one := _format_of(row)) is not None)
    if votes:
        return FORMATS[votes.most_common(1)[0][0]]
    keys = ", ".join(f"'{key}'" for key in seen[0]) if seen else "nothing"
    fix = "name the format if it is one of: " + ", ".join(FORMATS)
    raise DataError(f"rows of no known format (has {keys})", where=where, fix=fix)


def _format_of(row: Mapping[str, Any]) -> Format | None:
    return next((one for one in _BY_STRICTNESS if one.matches(row)), None)
