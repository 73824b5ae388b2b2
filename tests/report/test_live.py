"""The live page: it follows the run, takes back what a rollback gives up, and says when it ends."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ingot.report.live import LivePage
from ingot.train.hooks import Run
from ingot.train.log import MetricsLog


def line(step: int, **more: Any) -> dict[str, Any]:
    return {
        "step": step,
        "loss": 4.0 / step,
        "rate": 1.0,
        "gradient_norm": 0.5,
        "tokens": 100 * step,
        "seconds": 0.1 * step,
        "accepted": True,
        "mfu": 0.25,
        **more,
    }


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "work").mkdir()
    return Run(tmp_path / "work", 40, {}, 1234, 100.0, 1e6, "pretraining")


class Loads(HTMLParser):
    """What a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.plots = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.fetched += [str(value) for name, value in attributes if name in ("src", "href")]
        self.plots += tag == "svg"


def read(page: LivePage) -> tuple[str, Loads]:
    text = page.path.read_text(encoding="utf-8")
    loads = Loads()
    loads.feed(text)
    return text, loads


def test_the_page_follows_the_run_and_stops_asking_when_it_ends(run: Run, tmp_path: Path) -> None:
    page = LivePage(tmp_path / "tracking", every=0.0)
    page.start(run, 0)
    for step in range(1, 21):
        page.step(line(step))
    text, loads = read(page)
    assert "step 20 of 40" in text and "0.200" in text and "1,000" in text and "MFU 25" in text
    assert 'http-equiv="refresh"' in text and loads.fetched == []
    wanted = ["Loss", "Learning rate", "Gradient norm", "Throughput", "MFU", "Memory"]
    assert re.findall("<h3>(.*?)</h3>", text) == wanted and loads.plots == len(wanted)
    for step in range(21, 41):
        page.step(line(step, validation=2.0))
    page.close()
    text, loads = read(page)
    assert "done" in text and "refresh" not in text and loads.plots == len(wanted) + 1


def test_a_resumed_run_shows_its_beginning_and_a_rollback_is_taken_back(run: Run, tmp_path: Path) -> None:
    log = MetricsLog(run.work / "metrics.jsonl")
    for step in range(1, 11):
        log.append(line(step, loss=float("nan") if step == 4 else 2.0, accepted=step != 4))
    log.close()
    page = LivePage(tmp_path / "tracking", every=0.0)
    page.start(run, 10)
    assert "step 10 of 40" in read(page)[0]
    page.step(line(11))
    page.step(line(6))
    text, _ = read(page)
    assert "step 6 of 40" in text
    refused = re.search(r'guard</div><div class="figure">(\d+)<', text)
    assert refused is not None and refused[1] == "1"
    page.error(RuntimeError("x"))
    page.close()
    assert "stopped: RuntimeError" in read(page)[0]
