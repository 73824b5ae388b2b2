"""The architecture of a model, drawn from its modules and from what they did: one self-contained SVG.

```
Part tree (describe) + graphs (flow) -> boxes in rows, by how far from the input -> arrows -> SVG
```

Every part stands in the drawing once, a row of equal blocks as one box with "× N"; what ran between them
is drawn as arrows, residual streams as lines that pass by. Nothing here knows a family of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import escape

from ingot.models.describe import Part
from ingot.models.flow import INPUT, Flow, Node
from ingot.report.boxes import ROUND, TALL, WIDE, Box, arrange
from ingot.report.words import count

STYLE = """
svg{--paper:#faf8f4;--sheet:#fff;--ink:#211d18;--muted:#6b6358;--rule:#d9d1c3;--plain:#8b8275;
--ends:#a84b06;--attention:#14776f;--feed:#3f5f94}
@media (prefers-color-scheme:dark){svg{--paper:#161412;--sheet:#1d1a17;--ink:#ebe5db;--muted:#a59b8d;
--rule:#3d362e;--plain:#94897b;--ends:#f2a35e;--attention:#5ec5b9;--feed:#93b0e6}}
text{font-family:ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",Arial,sans-serif;
fill:var(--ink);font-size:12.5px;font-variant-numeric:tabular-nums}
.paper{fill:var(--paper)}.h{font:600 21px ui-serif,"Iowan Old Style",Palatino,"Noto Serif",Georgia,serif}
.b{font-weight:600}.q{fill:var(--muted);font-size:11px}.e{text-anchor:end}.m{text-anchor:middle}
.box{fill:var(--sheet);stroke:var(--rule)}.in .box{fill:color-mix(in srgb,var(--tone) 7%,var(--sheet))}
.leaf>.box{stroke:color-mix(in srgb,var(--tone) 45%,var(--rule))}.bar{fill:var(--tone)}
.absent>.box{stroke-dasharray:4 4}.behind{fill:var(--sheet);stroke:var(--rule)}
.ends{--tone:var(--ends)}.attention{--tone:var(--attention)}.feed{--tone:var(--feed)}.plain{--tone:var(--plain)}
.line{fill:none;stroke:var(--muted);stroke-width:1.3}.past{stroke-width:1.6;stroke:var(--ends);opacity:.8}
.head{fill:var(--muted)}.joint{fill:var(--sheet);stroke:var(--muted);stroke-width:1.3}
"""


def draw(
    root: Part, flows: Mapping[str, Flow], title: str, facts: Sequence[str] = (), tokens: int = 0
) -> str:
    """Returns the drawing.

    Args:
        root: of the model (`describe.tree`).
        flows: graphs by module name (`flow.trace`); without any, parts stand in the order of the modules.
        title: what to call the model.
        facts: short texts for the line under the title.
        tokens: length of the text that was traced, which is written as t.

    Returns:
        An SVG document that follows the reader's light or dark setting.
    """
    whole = _container(root, root.path, "", flows, tokens)
    head = 84.0
    width = max(whole.width + 48, 24.0 + 12 * len(title) + 48, 6.4 * len("  ·  ".join(facts)) + 48, 380.0)
    whole.x, whole.y = (width - whole.width) / 2, head
    height = head + whole.height + 24
    body: list[str] = []
    _render(whole, body)
    about = f"{title}: {root.total:,} parameters"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(about)}"><title>{escape(about)}</title>'
        f'<style>{STYLE}</style><rect class="paper" width="100%" height="100%"/>'
        f'<text class="h" x="24" y="40">{escape(title)}</text>'
        f'<text class="q" x="24" y="62">{escape("  ·  ".join(facts))}</text>{"".join(body)}</svg>\n'
    )


def _leaf(part: Part, label: str, tone: str, called: bool) -> Box:
    title = 8.2 * len(label) + 7.4 * len(_numbers(part)) + 36
    return Box(
        max(WIDE, title, 6.1 * len(_sizes(part)) + 24), TALL, part, tone=tone, label=label, called=called
    )


def _numbers(part: Part) -> str:
    return count(part.total) if part.total or not part.weights else "shared"


def _sizes(part: Part) -> str:
    """The second line of a part without parts in it."""
    shapes = "; ".join(" × ".join(f"{size:,}" for size in weight.shape) for weight in part.weights)
    return f"{part.kind} {shapes}"


def _box(part: Part, name: str, label: str, flows: Mapping[str, Flow], tone: str, tokens: int) -> Box:
    """Args: the part, full name of the module that stands for it, what to call it."""
    if not part.parts:
        return _leaf(part, label, _tone(part, tone), True)
    return _container(part, name, label, flows, tokens)


def _container(part: Part, name: str, label: str, flows: Mapping[str, Flow], tokens: int) -> Box:
    flow = flows.get(name) or Flow()
    linear = any(below.kind.endswith("Linear") for below in part.parts)
    attends = any(node.joint == "attend" for node in flow.nodes)
    tone = "attention" if attends else "feed" if linear and name else "plain"
    places = _places(part, name)
    boxes: list[Box] = []
    number: dict[int, int] = {INPUT: INPUT}
    mine: dict[str, int] = {}
    sources: list[tuple[int, ...]] = []
    for index, node in enumerate(flow.nodes):
        found = places.get(node.name) if node.name else None
        if found is not None and found[0].path in mine:  # called again, or another of the same blocks
            number[index] = mine[found[0].path]
            continue
        if node.name and found is None:
            number[index] = max((number[one] for one in node.sources), default=INPUT)
            continue
        number[index] = len(boxes)
        sources.append(tuple(sorted({number[one] for one in node.sources if number[one] < len(boxes)})))
        if found is None:
            boxes.append(_joint(node))
            continue
        mine[found[0].path] = len(boxes)
        inner = f"{name}.{node.name}" if name else node.name
        boxes.append(_box(found[0], inner, found[1], flows, tone if name else "ends", tokens))
    output = number.get(flow.output, len(boxes) - 1)
    rest = [_unseen(*one, tone) for one in _uncalled(part, places, mine)]
    box = Box(0, 0, part, tone=tone, label=label, inside=[*boxes, *rest])
    arrange(box, boxes, sources, output, rest, _shapes(flow, number, tokens))
    return box


def _places(part: Part, name: str) -> dict[str, tuple[Part, str]]:
    """Parts that may be called in a module, also those in lists: name below it -> part, what to call it."""
    found: dict[str, tuple[Part, str]] = {}
    for below in part.parts:
        for one in below.names:
            found[one] = (below, below.name)
        if below.kind in ("ModuleList", "ModuleDict"):
            for inner, (deep, label) in _places(below, "").items():
                found[f"{below.names[0]}.{inner}"] = (deep, f"{below.name}.{label}")
    return found


def _uncalled(
    part: Part, places: Mapping[str, tuple[Part, str]], mine: Mapping[str, int]
) -> list[tuple[Part, str]]:
    """Parts with parameters that no call showed, whole where nothing in them was called."""
    found, done = [], set(mine)
    for place, label in places.values():
        within = [one.path for _, one in place.walk()]
        if place.path in done or (not place.total and not any(one.weights for _, one in place.walk())):
            continue
        if any(path in mine for path in within):
            continue  # a list whose members were called
        done.update(within)
        found.append((place, label))
    return found


def _unseen(part: Part, label: str, tone: str) -> Box:
    """A part that was not called: its own parts below one another, without arrows."""
    if not part.parts:
        return _leaf(part, label, _tone(part, tone), False)
    inside = [_unseen(one, one.name, tone) for one in part.parts if one.total or one.weights]
    box = Box(0, 0, part, tone=tone, label=label, called=False, inside=inside)
    arrange(box, [], [], INPUT, inside, {})
    return box


def _joint(node: Node) -> Box:
    if node.joint == "attend":
        return Box(WIDE + 40, TALL, joint="attend", tone="attention", label="softmax(q·kᵀ) · v")
    if node.joint in ("+", "×"):
        return Box(ROUND, ROUND, joint=node.joint)
    return Box(64, 24, joint=node.joint)


def _tone(part: Part, tone: str) -> str:
    if part.kind.endswith("Norm"):
        return "plain"
    return "ends" if part.kind.endswith("Embedding") else tone


def _shapes(flow: Flow, number: Mapping[int, int], tokens: int) -> dict[int, str]:
    """What each box gives, in words."""
    found: dict[int, str] = {}
    for index, node in enumerate(flow.nodes):
        if node.shape:
            sizes = ["t" if size == tokens else f"{size:,}" for size in node.shape]
            found.setdefault(number[index], " × ".join(sizes))
    return found


def _render(box: Box, out: list[str]) -> None:
    """Writes a box and all in it; children are placed relative to it."""
    out.append(f'<g transform="translate({box.x:.1f} {box.y:.1f})">')
    if box.joint is not None:
        out.append(_joint_text(box))
    elif box.part is not None:
        out.append(_part_text(box, box.part))
    out.extend(box.lines)
    for inner in box.inside:
        _render(inner, out)
    out.append("</g>" if box.part is None or box.joint is not None else "</g></g>")


def _joint_text(box: Box) -> str:
    if box.joint in ("+", "×"):
        r = ROUND / 2
        return (
            f'<circle class="joint" cx="{r}" cy="{r}" r="{r}"/>'
            f'<text class="m b" x="{r}" y="{r + 4.5}">{box.joint}</text>'
        )
    label = escape(box.label or box.joint or "")
    return (
        f'<rect class="joint" width="{box.width}" height="{box.height}" rx="{box.height / 2}"/>'
        f'<text class="m" x="{box.width / 2}" y="{box.height / 2 + 4.3}">{label}</text>'
    )


def _part_text(box: Box, part: Part) -> str:
    """The rectangle of a part and what is written in it; the group stays open for what is inside."""
    own = sum(weight.numbers for weight in part.weights)
    state = "" if box.called else " absent"
    kind = "leaf" if not part.parts else "in"
    times = f" × {part.times}" if part.times > 1 else ""
    tooltip = f"{part.path or part.kind}: {part.kind}, {part.total:,} parameters"
    parts = [
        f'<g class="{kind} {box.tone}{state}" data-path="{escape(part.path)}" data-times="{part.times}" '
        f'data-own="{own}"><title>{escape(tooltip)}</title>'
    ]
    if part.times > 1:  # the others, behind it
        parts += [
            f'<rect class="behind" x="{off}" y="{off}" width="{box.width:.1f}" '
            f'height="{box.height:.1f}" rx="9"/>'
            for off in (6, 3)
        ]
    parts.append(f'<rect class="box" width="{box.width:.1f}" height="{box.height:.1f}" rx="9"/>')
    label = escape((box.label or part.kind) + times)
    numbers = escape(_numbers(part))
    if kind == "leaf":
        parts += [
            f'<rect class="bar" x="0" y="9" width="3" height="{box.height - 18:.1f}" rx="1.5"/>',
            f'<text class="b" x="12" y="18">{label}</text>',
            f'<text class="e" x="{box.width - 10:.1f}" y="18">{numbers}</text>',
            f'<text class="q" x="12" y="35">{escape(_sizes(part))}</text>',
        ]
        return "".join(parts)
    each = f", {count(part.each)} each" if part.times > 1 else ""
    parts += [
        f'<text x="14" y="22"><tspan class="b">{label}</tspan>'
        f'<tspan class="q" dx="7">{escape(part.kind if box.label else "")}</tspan></text>',
        f'<text class="e" x="{box.width - 12:.1f}" y="22">{numbers}'
        f'<tspan class="q">{escape(each)}</tspan></text>',
    ]
    for line, weight in enumerate(w for w in part.weights if w.numbers or w.shared_with):
        sizes = " × ".join(f"{size:,}" for size in weight.shape)
        parts.append(f'<text class="q" x="14" y="{40 + 16 * line}">{escape(f"{weight.name} {sizes}")}</text>')
    return "".join(parts)
