"""The page in a real browser: no error, no request, no sideways scrolling, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from devtools import Tab, browse, find_browser

from ingot.artifact import Artifact
from ingot.report.facts import gather
from ingot.report.report import render

MakeRun = Callable[..., tuple[Path, dict[str, Artifact]]]
BROWSER = find_browser()
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

CONTRAST = """
(() => {
  const light = (text) => {
    const parts = text.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!colour.endsWith(", 0)")) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  let least = 21;
  const written = "h1, h2, h3, p, td, th, dt, dd, code, li span, .label, .figure";
  for (const node of document.querySelectorAll(written)) {
    const pair = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a);
    least = Math.min(least, (pair[0] + 0.05) / (pair[1] + 0.05));
  }
  return least;
})()
"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    assert BROWSER is not None
    with browse(BROWSER) as opened:
        yield opened


@pytest.mark.parametrize(
    ("width", "dark"), [(1200, False), (1200, True), (760, False), (420, False), (340, True)]
)
def test_the_page_opens_clean_at_every_width(tab: Tab, make_run: MakeRun, width: int, dark: bool) -> None:
    run, made = make_run({"align": "no reward can be checked"} if width == 420 else {})
    page = run / "report.html"
    page.write_text(render(gather(made, run, 2_000_000_000)), encoding="utf-8")
    tab.open(page, width, dark)
    requested = [event["request"]["url"] for event in tab.heard("Network.requestWillBeSent")]
    assert [url for url in requested if not url.startswith("data:")] == [page.as_uri()]
    assert tab.heard("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("document.querySelectorAll('section').length") == 7
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(22, 20, 18)") == dark
    assert tab.evaluate(CONTRAST) >= 4.5  # WCAG 2.2, success criterion 1.4.3


def test_the_lineage_fits_its_boxes(tab: Tab, make_run: MakeRun) -> None:
    run, made = make_run()
    page = run / "report.html"
    page.write_text(render(gather(made, run)), encoding="utf-8")
    outside = """
    [...document.querySelectorAll('.lineage .node')].flatMap((node) => {
      const box = node.querySelector('rect').getBoundingClientRect();
      return [...node.querySelectorAll('text')].filter((text) => {
        const own = text.getBoundingClientRect();
        return own.width && (own.left < box.left || own.right > box.right || own.bottom > box.bottom + 1);
      }).map((text) => text.textContent);
    })
    """
    for width in (1200, 420):
        tab.open(page, width)
        assert tab.evaluate(outside) == []


def test_a_hostile_name_does_nothing_in_the_browser(tab: Tab, make_run: MakeRun) -> None:
    bomb = "<script>document.title='gone'</script><img src=x onerror=\"document.title='gone'\">"
    run, made = make_run(
        {"align": bomb},
        samples=[{"prompt": bomb, "answers": {"base": bomb, bomb: f"```\n{bomb}\n```"}}],
        ledger=[{"path": bomb, "reason": bomb, "detail": bomb}],
    )
    page = run / "report.html"
    page.write_text(render(gather(made, run)), encoding="utf-8")
    tab.open(page, 1200)
    assert tab.evaluate("document.title") == "demo: what was made, and how good it is"
    assert tab.evaluate("document.querySelectorAll('script, img').length") == 0
    assert tab.evaluate("document.body.innerText").count("document.title='gone'") >= 10
