"""What tests of the command line share: calling it in this process, and what came of that."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from ingot import cli


class Outcome(NamedTuple):
    """The exit code, and what was printed where."""

    status: Any
    out: str
    err: str


@pytest.fixture
def known_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has updates that are timed be made, and said to take 100 ms: no busy neighbour changes a plan."""
    from ingot.stages import measuring

    timed = measuring.time_update

    def paced(*arguments: Any) -> Callable[..., float]:
        update = timed(*arguments)

        def seconds(batch: Any) -> float:
            update(batch)
            return 0.1

        return seconds

    monkeypatch.setattr(measuring, "time_update", paced)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Calls the command line in this process."""
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)

    def call(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(one) for one in arguments])
        captured = capfd.readouterr()
        return Outcome(ended.value.code, captured.out, captured.err)

    return call
