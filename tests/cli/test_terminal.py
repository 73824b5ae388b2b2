"""Progress: plain lines where there is no terminal, and time left that does not count resumed work."""

from __future__ import annotations

import io

import pytest

from ingot.cli import terminal
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
