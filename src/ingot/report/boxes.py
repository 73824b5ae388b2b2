"""Boxes in boxes, laid out in rows by how far they are from the input, and the arrows between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import escape

from ingot.models.describe import Part
from ingot.models.flow import INPUT

WIDE, TALL = 164.0, 44.0  # of a part without parts in it
ROUND = 24.0  # of a joint
_GAP, _DROP = 14.0, 24.0  # between neighbours, between rows
_PAD, _TITLE, _LANE = 16.0, 34.0, 15.0


@dataclass
class Box:
    """A rectangle of the drawing, with what is in it; its place is relative to the one that it is in."""

    width: float
    height: float
    part: Part | None = None
    joint: str | None = None
    tone: str = "plain"
    label: str = ""
    called: bool = True
    inside: list[Box] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


def arrange(
    box: Box,
    boxes: list[Box],
    sources: Sequence[tuple[int, ...]],
    output: int,
    rest: Sequence[Box],
    shapes: Mapping[int, str],
) -> None:
    """Gives every box in a container its place in it, and the container its size and its arrows.

    Args:
        box: the container.
        boxes: what is called in it, in order.
        sources: of each, the numbers of the boxes that it is made from; INPUT is the container's own input.
        output: number of the box that makes the container's output.
        rest: boxes that nothing flows to, which stand at the end.
        shapes: what each box gives, in words.
    """
    ranks: list[int] = []
    for given in sources:
        ranks.append(1 + max((ranks[one] if one != INPUT else -1 for one in given), default=-1))
    rows = [
        [k for k, rank in enumerate(ranks) if rank == level] for level in range(max(ranks, default=-1) + 1)
    ]
    rows = [row for row in rows if row]
    widths = [sum(boxes[k].width for k in row) + _GAP * (len(row) - 1) for row in rows]
    own = [one for one in (box.part.weights if box.part else ()) if one.numbers or one.shared_with]
    words = max((b.width for b in rest), default=0.0)
    title = 8.2 * (len(box.label) + 4) + 6.4 * (len(box.part.kind) + 28 if box.part else 0)
    past = _lanes(boxes, sources, ranks, rows)
    shift = _LANE * len(past)  # on both sides, so that what flows stays in the middle
    inner = max([*widths, words, WIDE, title - 2 * shift])
    left = _PAD + shift
    middle = inner / 2
    top = _TITLE + (16.0 * len(own)) + (14.0 if boxes else 0.0)
    y = top
    for level, row in enumerate(rows):
        x = middle - widths[level] / 2
        above = [given[0] for k in row if len(given := sources[k]) == 1 and given[0] >= 0]
        taken = [boxes[one].middle - left for one in above]
        follow = len(taken) == len(row) == len(set(taken)) and all(
            ranks.count(ranks[one]) > 1 for one in above
        )
        for place, k in enumerate(row):
            boxes[k].x = left + (taken[place] - boxes[k].width / 2 if follow else x)
            boxes[k].y = y
            x += boxes[k].width + _GAP
        y += max(boxes[k].height for k in row) + _DROP
    right = max([left + inner, *[b.x + b.width for b in boxes]])
    for apart in rest:
        apart.x, apart.y = left + middle - apart.width / 2, y
        y += apart.height + _DROP / 2
    box.width = right + shift + _PAD
    box.height = y - (_DROP if boxes and not rest else _DROP / 2 if rest else 0) + _PAD
    entry = left + middle
    for k, given in enumerate(sources):
        for one in given:
            start = (
                (entry, top - 12) if one == INPUT else (boxes[one].middle, boxes[one].y + boxes[one].height)
            )
            if (one, k) in past:
                lane = right + _LANE * (past.index((one, k)) + 0.55)
                box.lines.append(_by(start, lane, boxes[k]))
            else:
                box.lines.append(_down(start, boxes[k], len(given) > 1))
    if 0 <= output < len(boxes):
        end, bottom = boxes[output], box.height
        box.lines.append(f'<path class="line" d="M{end.middle:.1f} {end.y + end.height:.1f}V{bottom:.1f}"/>')
        if not rest and shapes.get(output):
            at = f'x="{end.middle + 7:.1f}" y="{bottom - 4:.1f}"'
            box.lines.append(f'<text class="q" {at}>{escape(shapes[output])}</text>')


def _lanes(
    boxes: Sequence[Box],
    sources: Sequence[tuple[int, ...]],
    ranks: Sequence[int],
    rows: Sequence[Sequence[int]],
) -> list[tuple[int, int]]:
    """Edges that would cross a box on their way down, and so go round on the right; the shortest inside."""
    found = []
    for k, given in enumerate(sources):
        for one in given:
            start = -1 if one == INPUT else ranks[one]
            between = rows[start + 1 : ranks[k]]
            alone = one == INPUT or len(rows[start]) == 1
            if between and (alone or any(len(row) == len(rows[start]) for row in between)):
                found.append((ranks[k] - start, one, k))
    return [(one, k) for _, one, k in sorted(found)]


def _down(start: tuple[float, float], end: Box, several: bool) -> str:
    x, y = start
    aside = several and end.width > 40  # arrows that end in one box stay apart
    goal = min(max(x, end.x + 14), end.x + end.width - 14) if aside else end.middle
    tip = end.y
    turn = tip - _DROP / 2
    bend = f"V{tip - 4:.1f}" if abs(goal - x) < 1 else f"V{turn:.1f}H{goal:.1f}V{tip - 4:.1f}"
    return f'<path class="line" d="M{x:.1f} {y:.1f}{bend}"/>' + _head(goal, tip, 0)


def _by(start: tuple[float, float], lane: float, end: Box) -> str:
    x, y = start
    level, edge = end.y + end.height / 2, end.x + end.width
    bend = f"M{x:.1f} {y + 3:.1f}H{lane - 7:.1f}q7 0 7 7V{level - 7:.1f}q0 7 -7 7H{edge + 5:.1f}"
    return f'<path class="line past" d="{bend}"/>' + _head(edge, level, 1)


def _head(x: float, y: float, side: int) -> str:
    shape = (
        f"M{x + 7:.1f} {y - 4:.1f}L{x + 1:.1f} {y:.1f}L{x + 7:.1f} {y + 4:.1f}z"
        if side
        else f"M{x - 4:.1f} {y - 7:.1f}L{x:.1f} {y - 1:.1f}L{x + 4:.1f} {y - 7:.1f}z"
    )
    return f'<path class="head" d="{shape}"/>'
