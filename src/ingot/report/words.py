"""Numbers as a person would say them, and differences without boasting.

A difference is called better or worse only where its interval excludes zero; anything else is noise
and is said to be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

SPACE = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
ABSENT = "\N{EN DASH}"

# What a metric is called, and whether more of it is good.
METRICS: dict[str, tuple[str, bool]] = {
    "bits_per_byte": ("bits per byte", False),
    "success": ("instruction success", True),
    "parse": ("answers that parse", True),
    "decode_tokens_per_second": ("decode speed", True),
}
_SHARES = ("success", "parse")


def number(value: Any) -> float | None:
    """Returns `value` as a finite float, or None where it is no number: records hold what stages wrote."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def interval(value: Any) -> tuple[float, float] | None:
    """Returns a pair of finite numbers in order, or None where `value` is no interval."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (min(low, high), max(low, high))


def count(value: float) -> str:
    """Returns a count with its magnitude in words: 1,204 or 6.2 M.

    Example:
        >>> count(6_204_928).replace(SPACE, " ")
        '6.2 M'
    """
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= size * 0.9995:
            return f"{_three(value / size)}{SPACE}{letter}"
    return f"{value:,.0f}"


def size(value: float) -> str:
    """Returns a number of bytes in decimal units, as disks are sold: 12.6 MB."""
    for unit_size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= unit_size * 0.9995:
            return f"{_three(value / unit_size)}{SPACE}{unit}"
    return f"{value:,.0f}{SPACE}bytes"


def _three(value: float) -> str:
    """Three significant digits, never fewer than the digits before the point."""
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:.1f}"


def minutes(seconds: float) -> str:
    """Returns a time as a headline says it: 41 seconds, 13.4 minutes, 5.2 hours."""
    if seconds < 99.5:
        whole = round(seconds)
        return f"{whole}{SPACE}second{'' if whole == 1 else 's'}"
    if seconds < 100 * 60:
        return f"{seconds / 60:.1f}{SPACE}minutes"
    return f"{seconds / 3600:.1f}{SPACE}hours"


def clock(seconds: float) -> str:
    """Returns a time as a table says it: 0:41, 13:24, 5:12:00."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def percent(share: float, digits: int | None = None) -> str:
    """Returns a share of one as a percentage; without `digits`, one digit where it is small.

    Example:
        >>> percent(0.783).replace(SPACE, " ")
        '78 %'
    """
    if digits is None:
        digits = 1 if 0 < abs(share) < 0.0995 else 0
    return f"{share * 100:.{digits}f}{SPACE}%".replace("-", MINUS)


def figure(metric: str, value: float) -> str:
    """Returns the value of a metric as the tables show it."""
    if metric in _SHARES:
        return percent(value)
    if metric == "bits_per_byte":
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2f}"


def span(metric: str, bounds: tuple[float, float]) -> str:
    """Returns an interval as the tables show it: 1.381 to 1.442, or 74 to 82 %."""
    if metric in _SHARES:
        digits = 1 if bounds[1] < 0.0995 else 0
        return f"{bounds[0] * 100:.{digits}f} to {bounds[1] * 100:.{digits}f}{SPACE}%"
    return f"{figure(metric, bounds[0])} to {figure(metric, bounds[1])}"


def listed(parts: Sequence[str]) -> str:
    """Returns the parts as a sentence lists them: a, b and c."""
    return " and ".join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def is_real(comparison: dict[str, Any]) -> bool:
    """Whether a comparison's interval excludes zero; where its parts disagree, it does not."""
    bounds = interval(comparison.get("interval"))
    if bounds is None or comparison.get("excludes_zero") is False:
        return False
    return bounds[0] > 0 or bounds[1] < 0


def compared(comparison: dict[str, Any]) -> str:
    """Returns a comparison in words.

    Args:
        comparison: from, to, metric, difference, interval, excludes_zero; where `relative` is true, the
            difference and the interval are shares of the first model's value.

    Returns:
        One sentence, which says "better" or "worse" only where the interval excludes zero and the metric
        has a good direction.
    """
    metric = str(comparison.get("metric", ""))
    relative = bool(comparison.get("relative")) or metric.endswith("_relative")
    metric = metric.removesuffix("_relative")
    name, more_is_good = METRICS.get(metric, (metric.replace("_", " "), None))
    pair = f"{comparison.get('to', '?')} against {comparison.get('from', '?')}: {name}"
    difference, bounds = number(comparison.get("difference")), interval(comparison.get("interval"))
    if difference is None:
        return f"{pair} was not compared."
    shown = _change(metric, difference, relative)
    if bounds is None:
        return f"{pair} {shown}, without an interval: it may be noise."
    between = f"95{SPACE}% interval {_change(metric, bounds[0], relative, bare=True)} to "
    between += _change(metric, bounds[1], relative)
    if not is_real(comparison):
        return f"{pair} {shown} ({between}), which is inside the noise."
    if more_is_good is None:
        return f"{pair} {shown} ({between}), which is outside the noise."
    return f"{pair} {shown} ({between}): {'better' if (bounds[0] > 0) == more_is_good else 'worse'}."


def _change(metric: str, value: float, relative: bool, bare: bool = False) -> str:
    """A signed difference with its unit; `bare` leaves the unit out."""
    if relative:
        text, unit = f"{value * 100:+.2f}", "%"
    elif metric in _SHARES:
        text, unit = f"{value * 100:+.1f}", "points"
    else:
        text, unit = f"{value:+.3f}" if abs(value) < 10 else f"{value:+,.0f}", ""
    text = text.replace("-", MINUS)
    return text if bare or not unit else f"{text}{SPACE}{unit}"
