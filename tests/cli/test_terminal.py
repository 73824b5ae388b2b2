"""Progress: plain lines where there is no terminal, and time left that does not count resumed work."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ingot.cli import terminal
from ingot.cli.dashboard import BLOCKS, Dashboard, sparkline
from ingot.cli.terminal import DrawnProgress, PlainProgress, duration, progress_for


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_come_every_few_seconds(clock: list[float]) -> None:
    stream = io.StringIO()
    with PlainProgress(stream).task("pretraining", total=100, unit="steps") as task:
        for step in range(1, 101):
            clock[0] += 1
            task.advance(1, f"loss {5 - step / 100:.2f}")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "pretraining ..."
    assert lines[1] == "pretraining: 5/100 steps, 1 min 35 s left, loss 4.95"
    assert lines[-1] == "pretraining: 100/100 steps, loss 4.00, in 1 min 40 s"
    assert len(lines) == 22


def test_resumed_work_does_not_shorten_the_time_left(clock: list[float]) -> None:
    stream = io.StringIO()
    with PlainProgress(stream).task("training", total=100, unit="steps") as task:
        task.at(50)
        clock[0] += 10
        task.at(60)
    assert "training: 60/100 steps, 40 s left" in stream.getvalue()


def test_nobody_knows_how_long_without_a_total(clock: list[float]) -> None:
    stream = io.StringIO()
    with PlainProgress(stream).task("reading", unit="files") as task:
        clock[0] += 10
        task.advance(1200)
    assert "reading: 1,200 files\n" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (59.4, "59 s"), (65, "1 min 05 s"), (3600, "1 h 00 min"), (8000, "2 h 13 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_plain_without_a_terminal_or_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(progress_for(io.StringIO()), PlainProgress)
    assert isinstance(progress_for(Terminal()), DrawnProgress)
    monkeypatch.setenv("NO_COLOR", "1")
    assert isinstance(progress_for(Terminal()), PlainProgress)


def test_drawn_tasks_nest_and_end(capsys: pytest.CaptureFixture[str]) -> None:
    progress = DrawnProgress()
    for _ in range(2):
        with progress.task("outer", total=2, unit="parts") as outer, progress.task("inner [x]") as inner:
            inner.advance(3, "loss 3.1 [/b]")
            outer.at(1)
            progress.say("a remark [in brackets]")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a remark [in brackets]" in captured.err
    assert "inner [x]" in captured.err


def line(step: int, **more: object) -> dict:
    numbers = {"loss": 4 - step / 100, "rate": 0.5, "gradient_norm": 1.25, "accepted": True}
    return {
        "step": step,
        "tokens": 1000 * step,
        "seconds": 0.1 * step,
        "data_seconds": 0.001,
        **numbers,
        **more,
    }


def test_the_dashboard_says_what_the_log_says() -> None:
    dashboard = Dashboard()
    assert list(dashboard.rows(80)) == []
    for step in range(1, 101):
        dashboard.add(line(step, mfu=0.377) | ({"validation": 3.9} if step == 40 else {}))
    rows = dict(dashboard.rows(80))
    assert rows["loss"].startswith("3.000 █") and rows["loss"].endswith("▁  lowest 3.000  validation 3.900")
    assert rows["speed"] == "10,000 tokens/s   MFU 38 %   data 1.0 %"
    assert rows["rate"] == "0.5   gradient norm 1.25"
    assert rows["guard"] == "0 skipped   0 rolled back"


def test_the_dashboard_counts_what_the_guard_did() -> None:
    dashboard = Dashboard()
    for step in (1, 2, 3, 2, 3):
        dashboard.add(line(step, accepted=step != 3, loss=float("nan") if step == 3 else 2.5))
    rows = dict(dashboard.rows(60))
    assert rows["guard"] == "2 skipped   1 rolled back"
    assert rows["loss"].startswith("nan ▁") and "lowest 2.500" in rows["loss"]
    assert "MFU n/a" in rows["speed"]


@given(
    losses=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=1500),
    width=st.integers(40, 200),
)
@settings(max_examples=50, deadline=None)
def test_the_curve_fits_whatever_the_losses(losses: list[float], width: int) -> None:
    dashboard = Dashboard()
    for step, loss in enumerate(losses):
        dashboard.add(line(step, loss=loss))
    curve = dict(dashboard.rows(width))["loss"].split("  lowest")[0].split(" ")[1]
    assert 1 <= len(curve) <= 40
    assert set(curve) <= set(BLOCKS)


def test_a_sparkline_by_hand() -> None:
    assert sparkline([]) == ""
    assert sparkline([5.0, 5.0]) == "▁▁"
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == BLOCKS


def test_the_dashboard_is_drawn_under_its_bar_and_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    progress = DrawnProgress()
    with progress.task("pretraining", total=10, unit="steps") as task:
        for step in range(1, 6):
            task.at(step, "loss 3.9")
            task.show(line(step))
        drawn = io.StringIO()
        console = Console(file=drawn, width=60)
        for part in progress._bars.get_renderables():
            console.print(part)
        text = drawn.getvalue()
        assert "5/10 steps" in text and "loss 3.9 " not in text  # said below instead
        assert "10,000 tokens/s" in text and "gradient norm 1.25" in text
        assert max(len(row) for row in text.splitlines()) <= 60
    assert len(list(progress._bars.get_renderables())) == 1


def test_plain_progress_shows_no_dashboard(clock: list[float]) -> None:
    stream = io.StringIO()
    with PlainProgress(stream).task("training", total=5) as task:
        for step in range(1, 6):
            task.show(line(step))
            task.at(step, "loss 3.9")
    assert stream.getvalue() == "training ...\ntraining: 5/5, loss 3.9, in 0 s\n"
