"""The lineage drawn as inline SVG: a row of boxes for wide pages, a column for phones."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ingot.report import svg
from ingot.report.lineage import SOURCE, Edge, Lineage, Node

TITLE = "What was made from what"
BOX, GAP, TALL = 128, 30, 84
LOW = 58
DROP, FLAT = 44, 44
SHORT = 26


def wide(lineage: Lineage) -> Markup:
    """Draws the lineage as one row, arcs above it for what went where, the evaluation under it."""
    left = {node.name: k * (BOX + GAP) for k, node in enumerate(lineage.nodes)}
    order = list(left)
    reach = {edge: order.index(edge.target) - order.index(edge.origin) for edge in lineage.edges}
    far = sorted((edge for edge in lineage.edges if reach[edge] > 1), key=lambda edge: reach[edge])
    lifts = {edge: SHORT + (38 + 24 * far.index(edge) if edge in far else 0) for edge in lineage.edges}
    top = max([*lifts.values(), SHORT]) + 20
    width = len(order) * (BOX + GAP) - GAP
    parts = [_arc(edge, left, top, lifts[edge]) for edge in lineage.edges]
    parts += [_square(node, left[node.name], top) for node in lineage.nodes]
    if lineage.judge is None:
        return svg.document(parts, width, top + TALL + 2, "lineage wide", TITLE)
    parts.append(_bar(lineage, lineage.judge, left, top + TALL, width))
    return svg.document(parts, width, top + TALL + DROP + FLAT, "lineage wide", TITLE)


def tall(lineage: Lineage) -> Markup:
    """Draws the lineage as one column; what came into a box is written beside the arrow above it."""
    width, x, y = 340, 60, 2.0
    parts, above = [], ""
    for node in lineage.nodes:
        incoming = [edge for edge in lineage.edges if edge.target == node.name]
        if above:
            gap = max(30, 18 * len(incoming) + 14)
            parts += [svg.down(x, y, y + gap)] if incoming else []
            for n, edge in enumerate(incoming):
                row = y + gap / 2 + 4 + 18 * (n - (len(incoming) - 1) / 2)
                parts.append(svg.text(x + 16, row, _incoming(edge, above), "flow"))
            y += gap
        parts.append(_row(node, y, width))
        y, above = y + LOW, node.name
    if lineage.judge is not None:
        parts += [svg.down(x, y, y + 30), svg.text(x + 16, y + 19, "every model, on held-out text", "flow")]
        parts.append(_row(lineage.judge, y + 30, width))
        y += 30 + LOW
    return svg.document(parts, width, y + 2, "lineage tall", TITLE)


def _incoming(edge: Edge, above: str) -> str:
    """The text beside an arrow of the column; names the origin where it is not the box above."""
    if edge.origin == above:
        return edge.label
    return f"from {edge.origin}: {edge.label}" if edge.label else f"from {edge.origin}"


def _square(node: Node, x: float, y: float) -> str:
    """A box of the row: a title and up to two lines of numbers."""
    if node.left_out is None:
        parts = [svg.text(x + 12, y + 46 + 17 * k, line, "fact") for k, line in enumerate(node.lines)]
    else:
        parts = [svg.text(x + 12, y + 45, "left out", "state")]
        lines = _wrapped(node.left_out, 15)
        parts += [svg.text(x + 12, y + 60 + 14 * k, line, "fact") for k, line in enumerate(lines)]
    return _node(node, x, y, BOX, TALL, [svg.text(x + 12, y + 26, *_title(node)), *parts])


def _row(node: Node, y: float, width: float) -> str:
    """A box of the column: a title and one line of numbers."""
    line = "left out, see below" if node.left_out is not None else " · ".join(node.lines)
    texts = [svg.text(15, y + 25, *_title(node)), svg.text(15, y + 44, line, "fact")]
    return _node(node, 1, y, width - 2, LOW, texts)


def _title(node: Node) -> tuple[str, str, str, str]:
    name = "your text" if node.name == SOURCE else node.name
    return name, "title", "start", f"@{node.version}" if node.version else ""


def _node(node: Node, x: float, y: float, width: float, height: float, texts: Sequence[str]) -> str:
    state = "out" if node.left_out is not None else node.name
    edge = svg.path(f"M{x + 0.5} {y + 12}v{height - 24}", "edge")
    return f'<g class="node {state}">{svg.box(x, y, width, height)}{edge}{"".join(texts)}</g>'


def _arc(edge: Edge, left: dict[str, int], top: float, lift: float) -> str:
    """An arc from the top of one box to the top of another, its label on the summit."""
    start, end = left[edge.origin] + BOX * 0.74, left[edge.target] + BOX * 0.26
    if lift > SHORT:  # long arcs leave and land nearer the middle, so that they do not cross the short ones
        start, end = left[edge.origin] + BOX * 0.56, left[edge.target] + BOX * 0.44
    summit = top - lift
    bend = min(36.0, (end - start) / 2)
    rise = f"M{start} {top - 2}C{start} {summit} {start + bend * 0.4} {summit} {start + bend} {summit}"
    fall = f"H{end - bend}C{end - bend * 0.4} {summit} {end} {summit} {end} {top - 6}"
    head = svg.path(f"M{end - 4} {top - 8}L{end} {top - 1}L{end + 4} {top - 8}z", "head")
    label = svg.text((start + end) / 2, summit - 7, edge.label, "flow", "middle") if edge.label else ""
    return svg.path(rise + fall, "arc") + head + label


def _bar(lineage: Lineage, judge: Node, left: dict[str, int], floor: float, width: float) -> str:
    """The evaluation as a bar under the models it measured, fed by the held-out text of the corpus."""
    models = [node for node in lineage.nodes if node.name not in (SOURCE, "corpus", "tokenizer")]
    start = left[models[0].name] if models else 0
    y = floor + DROP
    parts = []
    if judge.left_out is None:
        made = [node for node in models if node.left_out is None]
        parts += [svg.down(left[node.name] + BOX / 2, floor, y) for node in made]
        if "corpus" in left and start > left["corpus"] + BOX:
            x, middle = left["corpus"] + BOX / 2, y + FLAT / 2
            parts.append(
                svg.path(f"M{x} {floor + 2}V{middle - 12}Q{x} {middle} {x + 12} {middle}H{start - 7}", "arc")
            )
            parts.append(
                svg.path(f"M{start - 8} {middle - 4}L{start - 1} {middle}L{start - 8} {middle + 4}z", "head")
            )
            parts.append(svg.text((x + start) / 2, middle - 7, "held-out text", "flow", "middle"))
    detail = " · ".join(judge.lines) if judge.left_out is None else f"left out: {judge.left_out}"
    texts = [
        svg.text(start + 14, y + 27, *_title(judge)),
        svg.text(width - 14, y + 27, detail, "fact", "end"),
    ]
    return "".join(parts) + _node(judge, start, y, width - start, FLAT, texts)


def _wrapped(text: str, columns: int, most: int = 2) -> list[str]:
    """The text broken at spaces into at most `most` lines; what does not fit ends in an ellipsis."""
    lines: list[str] = []
    rest = text.split()
    while rest and len(lines) < most:
        line = rest.pop(0)[:columns]
        while rest and len(line) + 1 + len(rest[0]) <= columns:
            line += " " + rest.pop(0)
        lines.append(line)
    if rest and lines:
        lines[-1] = lines[-1][: columns - 1].rstrip(" ,;") + "…"
    return lines
