"""The drawings: what is drawn lies where the numbers say, and labels cannot break out of them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingot.report import drawing, plots
from ingot.report.lineage import Edge, Lineage, Node

HOSTILE = '</text><script>alert("x")</script>&'


@given(low=st.floats(-1e5, 1e5), width=st.floats(1e-4, 1e5), wanted=st.integers(2, 8))
def test_ticks_are_round_evenly_spaced_and_inside(low: float, width: float, wanted: int) -> None:
    high = low + width
    found = plots.ticks(low, high, wanted)
    assert all(low - 1e-6 * width <= tick <= high + 1e-6 * width for tick in found)
    assert len(found) <= wanted + 1
    if len(found) > 2:
        gaps = np.diff(found)
        np.testing.assert_allclose(gaps, gaps[0], rtol=1e-4)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=400), st.integers(2, 60))
def test_thinning_keeps_the_mean_of_neighbours_and_the_last_point(values: list[float], most: int) -> None:
    points = [(float(k), value) for k, value in enumerate(values)]
    thinned = plots.thin(points, most)
    assert len(thinned) == min(len(points), most)
    assert thinned[-1] == points[-1]
    assert [x for x, _ in thinned] == sorted(x for x, _ in thinned)
    assert min(values) - 1e-9 <= min(y for _, y in thinned)
    assert max(y for _, y in thinned) <= max(values) + 1e-9


def test_running_mean_equals_numpy_in_the_middle_and_keeps_constants() -> None:
    values = np.random.default_rng(0).normal(size=200)
    points = [(float(k), float(value)) for k, value in enumerate(values)]
    smooth = np.array([y for _, y in plots.running_mean(points, share=0.1)])
    expected = np.convolve(values, np.ones(21) / 21, mode="valid")
    np.testing.assert_allclose(smooth[10:-10], expected, atol=1e-12)
    assert smooth[0] == pytest.approx(values[0])
    flat = plots.running_mean([(float(k), 3.0) for k in range(50)])
    assert all(y == pytest.approx(3.0) for _, y in flat)


def test_a_curve_goes_through_its_points() -> None:
    points = [(0.0, 1.0), (10.0, 3.0), (20.0, 2.0)]
    drawn = plots.curves([plots.Series("loss", points, "base")], "a title", "step")
    tree = ElementTree.fromstring(drawn)
    (path,) = [one for one in tree.iter("path") if one.get("class") == "line base"]
    xy = np.array(re.findall(r"([\d.]+) ([\d.]+)", path.get("d", "")), dtype=float)
    np.testing.assert_allclose(
        xy[:, 0], np.interp([0, 10, 20], [0, 20], [plots.LEFT, plots.WIDTH - plots.RIGHT])
    )
    assert np.corrcoef(xy[:, 1], [y for _, y in points])[0, 1] == pytest.approx(-1, abs=1e-4)  # y grows down


@pytest.mark.parametrize("points", [[(1.0, 2.0)], [(1.0, 0.0), (2.0, 0.0)], [(5.0, 1e9), (5.0, -1e9)]])
def test_degenerate_curves_are_drawn_with_finite_numbers(points: list[plots.Point]) -> None:
    drawn = plots.curves([plots.Series("x", points, "base", marks=True)], "t", "step")
    ElementTree.fromstring(drawn)
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_whiskers_reach_from_bound_to_bound_on_one_scale() -> None:
    rows = [
        plots.Whisker("a", 0.25, (0.0, 0.5), "base", "25 %"),
        plots.Whisker("b", 1.0, None, "int8", "100 %"),
    ]
    tree = ElementTree.fromstring(plots.whiskers(rows, "t", "{:g}".format, axis=(0.0, 1.0)))
    dots = [float(one.get("cx", "nan")) for one in tree.iter("circle")]
    (line,) = [one.get("d", "") for one in tree.iter("path") if one.get("class") == "line base"]
    start, end = (float(x) for x in re.findall(r"[MH]([\d.]+)", line)[:2])
    assert dots[0] == pytest.approx((start + end) / 2, abs=0.1)
    assert dots[1] - start == pytest.approx(2 * (end - start), abs=0.2)


def test_labels_are_escaped_in_every_drawing() -> None:
    series = [plots.Series(HOSTILE, [(0.0, 1.0), (1.0, 2.0)], "base")]
    curve = plots.curves(series, HOSTILE, HOSTILE, lambda value: HOSTILE)
    whisker = plots.Whisker(HOSTILE, 1.0, (0.5, 2.0), "base", HOSTILE)
    dots = plots.whiskers([whisker], HOSTILE, lambda value: HOSTILE, (HOSTILE, 1.0))
    nodes = (
        Node("source", "", (HOSTILE,)),
        Node("corpus", HOSTILE, (HOSTILE, HOSTILE)),
        Node("base", "1", (), HOSTILE),
    )
    graph = Lineage(nodes, (Edge("source", "corpus", HOSTILE),), Node("evaluation", "1", (HOSTILE,)))
    for drawn in (curve, dots, drawing.wide(graph), drawing.tall(graph)):
        tree = ElementTree.fromstring(drawn)
        assert not list(tree.iter("script"))
        assert "<script" not in drawn
