"""The drawing: every parameter once, counts that sum to the total, boxes that do not lie on one another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from torch import nn

from ingot.models.decoder import DecoderConfig
from ingot.models.describe import blank, tree
from ingot.models.flow import trace
from ingot.report.architecture import draw

TINY: dict[str, Any] = {
    "vocabulary": 97, "width": 32, "layers": 3, "heads": 4, "kv_heads": 2,
    "head_width": 8, "feed_forward": 48, "context": 64,
}  # fmt: skip
PLAIN = {"norm": "layer", "head_norm": None, "positions": "learned", "activation": "gelu", "tied": True}
SHAPES = [{}, {"tied": True}, PLAIN, {"layers": 1}, {"activation": "squared_relu", "head_norm": None}]
G, RECT = "{http://www.w3.org/2000/svg}g", "{http://www.w3.org/2000/svg}rect"


def parts(node: ElementTree.Element, times: int = 1) -> Iterator[tuple[str, int, int]]:
    """Yields path, own parameters and how many of it there are, for every part in a drawing."""
    if "data-own" in node.attrib:
        times *= int(node.attrib["data-times"])
        yield node.attrib["data-path"], int(node.attrib["data-own"]), times
    for below in node:
        yield from parts(below, times)


def boxes(node: ElementTree.Element, x: float = 0, y: float = 0) -> Iterator[list[tuple[float, ...]]]:
    """Yields the rectangles of each group of neighbours: left, top, right, bottom."""
    together = []
    for below in node:
        if below.tag != G:
            continue
        move = re.match(r"translate\(([-\d.]+) ([-\d.]+)\)", below.attrib.get("transform", "translate(0 0)"))
        assert move
        left, top = x + float(move[1]), y + float(move[2])
        sizes = [one.attrib for one in below.iter(RECT) if one.attrib.get("class") in ("box", "joint")]
        if "transform" in below.attrib and sizes:
            w, h = float(sizes[0]["width"]), float(sizes[0]["height"])
            together.append((left, top, left + w, top + h))
        yield from boxes(below, left, top)
    yield together


@pytest.mark.parametrize("changes", SHAPES)
@pytest.mark.parametrize("traced", [True, False])
def test_every_parameter_is_drawn_once(changes: dict[str, Any], traced: bool) -> None:
    model = blank(DecoderConfig.parse({**TINY, **changes}))
    root = tree(model)
    drawing = ElementTree.fromstring(draw(root, trace(model) if traced else {}, "model"))
    found = list(parts(drawing))
    paths = [path for path, _, _ in found]
    assert len(paths) == len(set(paths))
    assert sum(own * times for _, own, times in found) == model.parameter_count()
    with_weights = {part.path for _, part in root.walk() if part.weights}
    assert with_weights <= set(paths)
    for neighbours in boxes(drawing):
        for k, (left, top, right, bottom) in enumerate(neighbours):
            for x0, y0, x1, y1 in neighbours[k + 1 :]:
                assert right <= x0 or x1 <= left or bottom <= y0 or y1 <= top


@pytest.mark.parametrize("make", [lambda: nn.Transformer(16, 2, 3, 2, 32), lambda: nn.LSTM(4, 8, 2)])
def test_any_module_can_be_drawn_without_a_trace(make: Any) -> None:
    model = make()
    found = list(parts(ElementTree.fromstring(draw(tree(model), {}, "model"))))
    assert sum(own * times for _, own, times in found) == sum(p.numel() for p in model.parameters())


def test_the_whole_drawing_is_within_its_frame_and_loads_nothing() -> None:
    model = blank(DecoderConfig.parse(TINY))
    text = draw(tree(model), trace(model), "model", ["a fact"], 23)
    drawing = ElementTree.fromstring(text)
    width, height = (float(part) for part in drawing.attrib["viewBox"].split()[2:])
    every = [one for group in boxes(drawing) for one in group]
    assert len(every) >= 20
    assert all(x0 >= 0 and x1 <= width and y0 >= 0 and y1 <= height for x0, y0, x1, y1 in every)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "t × 97" in text and "blocks.0-2 × 3" in text


def test_a_hostile_name_is_text() -> None:
    name = '</title><script>alert("x")</script>&'
    drawing = ElementTree.fromstring(draw(tree(nn.Linear(2, 2)), {}, name, [name]))
    assert not [one for one in drawing.iter() if one.tag.endswith("script")]
    assert name in [one.text for one in drawing.iter()]
