"""The dashboard of a training under way: what its log says, in four lines under the progress bar.

```
loss      2.413 ▇▆▅▄▃▃▂▂▁▁  lowest 2.398
speed     41,200 tokens/s   MFU 38 %   data 0.2 %
rate      0.85   gradient norm 0.91
guard     2 skipped   1 rolled back
```
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

BLOCKS = "▁▂▃▄▅▆▇█"
LABEL = 8  # columns
RECENT = 50  # lines that the speed is measured over
POINTS = 256  # of the curve that are kept


class Dashboard:
    """What the lines of a training log say so far; rich draws it.

    Example:
        >>> dashboard = Dashboard()
        >>> dashboard.add({"step": 1, "loss": 3.0, "rate": 1.0, "tokens": 512, "seconds": 0.5})
        >>> dict(dashboard.rows(60))["loss"]
        '3.000 ▁  lowest 3.000'
    """

    def __init__(self) -> None:
        self._curve = _Curve()
        self._recent: deque[dict[str, Any]] = deque(maxlen=RECENT)
        self._lowest = math.inf
        self._skipped = 0
        self._rolled_back = 0
        self._validation: float | None = None

    def add(self, line: dict[str, Any]) -> None:
        """Takes the next line of the log."""
        if self._recent and line["step"] <= self._recent[-1]["step"]:
            self._rolled_back += 1
            self._recent.clear()
        self._recent.append(line)
        if not line.get("accepted", True):
            self._skipped += 1
        elif math.isfinite(line["loss"]):
            self._lowest = min(self._lowest, line["loss"])
            self._curve.add(line["loss"])
        self._validation = line.get("validation", self._validation)

    def rows(self, width: int) -> Iterator[tuple[str, str]]:
        """Yields label and text of each line, with a curve that fills `width` columns at most."""
        if not self._recent:
            return
        recent = list(self._recent)
        line = recent[-1]
        held_out = "" if self._validation is None else f"  validation {self._validation:.3f}"
        lowest = f"  lowest {self._lowest:.3f}" if math.isfinite(self._lowest) else ""
        loss = f"{line['loss']:.3f} "
        room = max(8, width - LABEL - 2 - len(loss) - len(lowest) - len(held_out))
        yield "loss", loss + sparkline(self._curve.values(min(40, room))) + lowest + held_out
        yield "speed", "   ".join(_speed(recent))
        norm = line.get("gradient_norm")
        rate = [f"{line['rate']:.3g}"] if "rate" in line else []
        yield "rate", "   ".join(rate + ([] if norm is None else [f"gradient norm {norm:.3g}"]))
        skipped = line.get("skipped", self._skipped)
        yield "guard", f"{skipped} skipped   {line.get('rollbacks', self._rolled_back)} rolled back"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        for label, text in self.rows(options.max_width):
            row = Text("  " + label.ljust(LABEL), style="dim", no_wrap=True, overflow="ellipsis")
            bad = label == "guard" and not text.startswith("0 skipped   0 ")
            row.append(text, style="yellow" if bad else "none")
            row.truncate(options.max_width, overflow="ellipsis")
            yield row


class _Curve:
    """A curve of any length in a bounded number of points: neighbours are averaged when there are many."""

    def __init__(self) -> None:
        self._points: list[float] = []
        self._each = 1  # values per point
        self._waiting: list[float] = []

    def add(self, value: float) -> None:
        self._waiting.append(value)
        if len(self._waiting) == self._each:
            self._points.append(_mean(self._waiting))
            self._waiting = []
        if len(self._points) == POINTS:
            self._points = [_mean(self._points[at : at + 2]) for at in range(0, POINTS, 2)]
            self._each *= 2

    def values(self, width: int) -> list[float]:
        """The curve in at most `width` points."""
        points = list(self._points)
        if len(points) <= width:
            return points
        edges = [len(points) * at // width for at in range(width + 1)]
        return [_mean(points[start:end]) for start, end in itertools.pairwise(edges)]


def sparkline(values: Sequence[float]) -> str:
    """Returns a curve in one line of text, the lowest value as the lowest block.

    Example:
        >>> sparkline([3.0, 2.0, 1.0])
        '█▅▁'
    """
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[math.floor((value - low) * scale + 0.5)] for value in values)


def _speed(recent: Sequence[dict[str, Any]]) -> list[str]:
    first, last = recent[0], recent[-1]
    seconds = last.get("seconds", 0.0) - first.get("seconds", 0.0)
    tokens = last.get("tokens", 0) - first.get("tokens", 0)
    if len(recent) == 1:  # all that is known is the mean since the run began
        seconds, tokens = last.get("seconds", 0.0), last.get("tokens", 0)
    words = [f"{tokens / seconds:,.0f} tokens/s" if seconds > 0 else "-"]
    mfu = last.get("mfu")
    words.append("MFU n/a" if mfu is None else f"MFU {100 * mfu:.0f} %")
    waited = [line["data_seconds"] for line in recent[1:] if "data_seconds" in line]
    if waited and seconds > 0:
        words.append(f"data {100 * sum(waited) / seconds:.1f} %")
    return words


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
