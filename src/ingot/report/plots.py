"""Plots as inline SVG: curves over steps, and dots with whiskers for values that have intervals.

Written by hand rather than by a plotting library: the drawing takes its colours and its type from the
page's style sheet, so one drawing serves light, dark, screen and paper, and weighs a few kilobytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ingot.report import svg

Point = tuple[float, float]

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 34
MOST_POINTS = 240


@dataclass(frozen=True)
class Series:
    """One curve.

    Args:
        label: what it is called in the legend.
        points: (x, y) in the order of x.
        tone: the style sheet's name of its colour ("base", "finetuned", "muted", ...).
        marks: draw the points as dots on the line (for values taken now and then).
        smooth: draw the values faintly and a running mean over them.
    """

    label: str
    points: Sequence[Point]
    tone: str
    marks: bool = False
    smooth: bool = False


@dataclass(frozen=True)
class Whisker:
    """One value with its interval, as a row of an interval plot."""

    label: str
    value: float
    bounds: tuple[float, float] | None
    tone: str
    text: str


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Returns round numbers inside [low, high], about `wanted` of them.

    Example:
        >>> ticks(0.0, 1.0)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) + 0.0 for k in range(first, last + 1)]


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Returns at most `most` points: the mean of each bucket of neighbours; the last point stays itself."""
    if len(points) <= most:
        return list(points)
    result = []
    for k in range(most - 1):
        bucket = points[k * (len(points) - 1) // (most - 1) : (k + 1) * (len(points) - 1) // (most - 1)]
        result.append((sum(p[0] for p in bucket) / len(bucket), sum(p[1] for p in bucket) / len(bucket)))
    return [*result, points[-1]]


def running_mean(points: Sequence[Point], share: float = 0.06) -> list[Point]:
    """Returns each value averaged with its neighbours, over `share` of the points.

    The window is symmetric near the start, where curves are steep, and cut off at the end.
    """
    reach = max(1, round(len(points) * share / 2))
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    result = []
    for k, (x, _) in enumerate(points):
        start, end = k - min(reach, k), min(k + min(reach, k), len(points) - 1)
        result.append((x, (sums[end + 1] - sums[start]) / (end + 1 - start)))
    return result


def curves(
    series: Sequence[Series],
    title: str,
    x_label: str,
    y_text: Callable[[float], str] = "{:g}".format,
    width: int = WIDTH,
) -> Markup:
    """Draws curves over a shared x axis.

    Args:
        series: at least one, each with at least one point.
        title: what the drawing shows, for readers who cannot see it.
        x_label: the name of the x axis.
        y_text: how a tick of the y axis is written.
        width: of the drawing, in its own units: about the pixels that it will have on the page.

    Returns:
        An SVG element.
    """
    thinned = [thin(one.points) for one in series]
    every = [point for points in thinned for point in points]
    x_low, x_high = min(p[0] for p in every), max(p[0] for p in every)
    y_low, y_high = _padded(min(p[1] for p in every), max(p[1] for p in every))

    def at_x(x: float) -> float:
        return LEFT + (x - x_low) / ((x_high - x_low) or 1) * (width - LEFT - RIGHT)

    def at_y(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / ((y_high - y_low) or 1) * (HEIGHT - TOP - BOTTOM)

    def line(points: Sequence[Point]) -> str:
        return "M" + "L".join(f"{at_x(x):.1f} {at_y(y):.1f}" for x, y in points)

    parts = []
    for y in ticks(y_low, y_high, 5):
        parts.append(svg.path(f"M{LEFT} {at_y(y):.1f}H{width - RIGHT}", "grid"))
        parts.append(svg.text(LEFT - 8, at_y(y) + 4, y_text(y), "tick", "end"))
    for x in ticks(x_low, x_high, 4):
        parts.append(svg.text(at_x(x), HEIGHT - 15, _short(x), "tick", "middle"))
    for one, points in zip(series, thinned, strict=True):
        if one.smooth:
            parts.append(svg.path(line(points), f"line faint {one.tone}"))
        parts.append(svg.path(line(running_mean(points) if one.smooth else points), f"line {one.tone}"))
        if one.marks or len(points) == 1:
            parts.extend(svg.dot(at_x(x), at_y(y), 2.6, one.tone) for x, y in points)
    parts.append(svg.text(width - RIGHT, HEIGHT - 1, x_label, "axis", "end"))
    return svg.document(parts, width, HEIGHT, "plot", title)


def whiskers(
    rows: Sequence[Whisker],
    title: str,
    tick_text: Callable[[float], str],
    reference: tuple[str, float] | None = None,
    axis: tuple[float, float] | None = None,
) -> Markup:
    """Draws each value as a dot and its interval as a line through it, one row each.

    Args:
        rows: at least one.
        title: what the drawing shows, for readers who cannot see it.
        tick_text: how a tick of the axis is written.
        reference: a name and a value, drawn as an upright line over all rows.
        axis: the ends of the axis; None takes them from the values.

    Returns:
        An SVG element.
    """
    left, right, row_height, top = 84, 66, 34, 26 if reference else 8
    height = top + row_height * len(rows) + 28
    ends = [end for row in rows for end in (row.bounds or (row.value, row.value))]
    ends += [reference[1]] if reference else []
    low, high = axis or _padded(min(ends), max(ends), 0.08)

    def at(value: float) -> float:
        return left + (value - low) / ((high - low) or 1) * (WIDTH - left - right)

    floor = height - 28
    parts = []
    for value in ticks(low, high, 4):
        parts.append(svg.path(f"M{at(value):.1f} {top}V{floor}", "grid"))
        parts.append(svg.text(at(value), floor + 18, tick_text(value), "tick", "middle"))
    if reference:
        x = at(reference[1])
        anchor = "end" if x > WIDTH - 30 else "start" if x < left + 30 else "middle"
        parts.append(svg.path(f"M{x:.1f} {top - 6}V{floor}", "reference"))
        parts.append(svg.text(x, top - 12, reference[0], "axis", anchor))
    for k, row in enumerate(rows):
        y = top + row_height * (k + 0.5)
        parts.append(svg.text(0, y + 4, row.label, "name"))
        if row.bounds:
            a, b = at(row.bounds[0]), at(row.bounds[1])
            caps = f"M{a:.1f} {y - 5:.1f}v10M{b:.1f} {y - 5:.1f}v10"
            parts.append(svg.path(f"M{a:.1f} {y:.1f}H{b:.1f}{caps}", f"line {row.tone}"))
        parts.append(svg.dot(at(row.value), y, 4.5, row.tone))
        parts.append(svg.text(WIDTH, y + 4, row.text, "value", "end"))
    return svg.document(parts, WIDTH, height, "plot", title)


def _padded(low: float, high: float, share: float = 0.05) -> tuple[float, float]:
    room = (high - low) * share or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _short(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if abs(value) >= 1e4 else f"{value:,g}"
