"""Curves that schedules are made of: pure functions of how far something is."""

from __future__ import annotations

import math
from typing import Literal

Shape = Literal["linear", "cosine"]


def fall(left: float, shape: Shape) -> float:
    """Returns the height of a descent from 1 to 0.

    Args:
        left: share of the way that is left, 1 at the top.
        shape: a straight line, or half a cosine (flat at both ends).
    """
    return left if shape == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)


def between(high: float, low: float, left: float, shape: Shape) -> float:
    """Returns the height of a descent from `high` to `low` (or a rise, where `high` is the lower)."""
    return low + (high - low) * fall(left, shape)


def restarted(step: float, first: float, growth: int) -> float:
    """Returns the share left of the cycle that a step lies in; each cycle is `growth` times the one before.

    Args:
        step: since the first cycle began.
        first: length of the first cycle, in steps.
        growth: 1 or more.

    Example:
        >>> [restarted(step, first=2, growth=2) for step in range(6)]
        [1.0, 0.5, 1.0, 0.75, 0.5, 0.25]
    """
    length = first
    if growth == 1:
        return 1 - (step % length) / length
    while step >= length:
        step -= length
        length *= growth
    return 1 - step / length
