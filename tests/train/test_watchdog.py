"""The watchdog: a hung loader is seen, named and, where asked for, stopped; a slow one is not."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from ingot.data.stream import WHOLE, Part, WindowStream
from ingot.models.decoder import DecoderConfig
from ingot.objectives.causal import CausalLM
from ingot.optim.joint import OptimizerConfig
from ingot.progress import Progress
from ingot.train import watchdog as module
from ingot.train.trainer import TrainConfig, Trainer
from ingot.train.watchdog import HUNG, Watchdog, stragglers


def until(true: Callable[[], bool]) -> None:
    """Waits until something holds, on a crowded machine for as long as it takes."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def test_a_hung_loader_is_named_with_its_stack_and_forgiven(tmp_path: Path) -> None:
    said: list[str] = []
    watchdog = Watchdog(tmp_path, rank=3, seconds=0.2, say=said.append)
    watchdog.start()
    for _ in range(3):
        watchdog.phase("data")
        watchdog.phase("compute")
        watchdog.beat()
    watchdog.phase("data")

    def a_loader_that_hangs() -> None:
        until(lambda: any("in step 4 " in one for one in said))

    a_loader_that_hangs()
    watchdog.phase("compute")
    watchdog.beat()
    watchdog.close()
    assert any("rank 3 hangs in step 4 of this start: waiting for data" in one for one in said)
    assert said[-1] == "watchdog: rank 3 goes on"
    stacks = (tmp_path / "stacks-3.txt").read_text()
    assert "a_loader_that_hangs" in stacks
    assert "waiting for data" in stacks


@pytest.mark.parametrize(("phase", "words"), [("save", "saving a checkpoint"), ("", "starting")])
def test_every_phase_has_its_words(tmp_path: Path, phase: str, words: str) -> None:
    said: list[str] = []
    watchdog = Watchdog(tmp_path, seconds=0.05, say=said.append)
    watchdog.start()
    watchdog.phase(phase)
    until(lambda: bool(said))
    time.sleep(0.1)  # long enough to say it again
    watchdog.close()
    assert len(said) == 1 and words in said[0]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_slow_steps_and_signs_of_life_are_no_hang(tmp_path: Path, clock: list[float]) -> None:
    said: list[str] = []
    watchdog = Watchdog(tmp_path, seconds=10.0, say=said.append)
    assert watchdog.limit() == 40.0  # the first step may compile
    clock[0] += 40.0
    watchdog.look()
    for _ in range(4):
        watchdog.phase("data")
        clock[0] += 9.0
        watchdog.look()
        watchdog.phase("compute")
        clock[0] += 9.0
        watchdog.look()
        watchdog.beat()
    assert watchdog.limit() == pytest.approx(180.0)  # ten steps, longer than `seconds`
    clock[0] += 179.0
    watchdog.look()
    assert said == []
    clock[0] += 2.0
    watchdog.look()
    watchdog.look()
    assert len(said) == 1 and "computing for 181 s" in said[0]  # once, however long it lasts


def test_the_pace_is_the_medians(tmp_path: Path, clock: list[float]) -> None:
    watchdog = Watchdog(tmp_path)
    assert watchdog.pace() == {"step": 0.0, "data": 0.0, "wait": 0.0}
    for data, compute, wait in ((1.0, 2.0, 0.0), (1.5, 2.0, 4.0), (30.0, 2.0, 4.0)):
        for phase, seconds in (("data", data), ("compute", compute), ("communicate", wait)):
            watchdog.phase(phase)
            clock[0] += seconds
        watchdog.beat()
    assert watchdog.pace() == {"step": 7.5, "data": 1.5, "wait": 4.0}
    for _ in range(64):  # the oldest are forgotten
        watchdog.phase("compute")
        clock[0] += 0.5
        watchdog.beat()
    assert watchdog.pace() == {"step": 0.5, "data": 0.0, "wait": 0.0}


def test_a_sign_of_life_costs_next_to_nothing(tmp_path: Path) -> None:
    watchdog = Watchdog(tmp_path)
    start = time.thread_time()  # what this thread computed: waiting for a processor does not count
    for _ in range(10_000):
        watchdog.phase("data")
        watchdog.beat()
    assert (time.thread_time() - start) / 10_000 < 100e-6


def test_a_full_disk_does_not_end_the_watch(tmp_path: Path) -> None:
    said: list[str] = []
    watchdog = Watchdog(tmp_path / "missing", seconds=0.02, say=said.append)
    watchdog.start()
    until(lambda: bool(said))
    time.sleep(0.1)
    watchdog.close()
    assert len(said) == 1 and "stacks" not in said[0]


def test_the_trainer_s_own_loader_is_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stacks() -> str:
        path = tmp_path / "stacks-0.txt"
        return path.read_text() if path.exists() else ""

    class Hangs(WindowStream):
        def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> dict[str, Tensor]:
            if step == 4:
                until(lambda: "in batch" in stacks().partition("in step 5 ")[2])
            return super().batch(step, salt, part)

    config = DecoderConfig(
        vocabulary=31, width=16, layers=1, heads=2, kv_heads=1, head_width=8, feed_forward=32, context=16
    )
    model = config.build(0)
    tokens = np.random.default_rng(0).integers(0, 31, 2000, dtype=np.uint16)
    stream = Hangs(tokens, 16, 4, seed=0)
    settings = TrainConfig(steps=6, watchdog=0.4)
    optimizer = OptimizerConfig().build(model)
    log = Trainer(model, CausalLM(), stream, optimizer, settings, tmp_path).fit(Progress(), "training")
    assert len(log) == 6
    assert "hangs in step 5 of this start: waiting for data" in capsys.readouterr().err
    assert "in batch" in stacks()


HANGS = """
    import sys, time
    from pathlib import Path
    from ingot.train.watchdog import Watchdog
    watchdog = Watchdog(Path(sys.argv[1]), seconds=0.2, stop=True)
    watchdog.start()
    watchdog.beat()
    watchdog.phase("communicate")
    time.sleep(60)
"""


def test_a_hung_process_is_stopped_with_its_own_code(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(HANGS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == HUNG == 75
    assert "communicating with the other ranks" in done.stderr
    assert (tmp_path / "stacks-0.txt").exists()


def test_stragglers_are_those_that_others_wait_for() -> None:
    even = {"step": 1.0, "data": 0.1, "wait": 0.2}
    assert stragglers([even]) == stragglers([]) == []
    assert stragglers([even] * 4) == []
    slow_data = {"step": 1.0, "data": 0.4, "wait": 0.0}
    assert stragglers([even, slow_data, even]) == [
        "rank 1 waits 0.400 s for data, the median is 0.100 s",
    ]
    quick = {"step": 1.0, "data": 0.0, "wait": 0.6}
    assert stragglers([quick, quick, {"step": 1.0, "data": 0.0, "wait": 0.1}]) == [
        "rank 2 works 0.900 s per step, the median is 0.400 s",
    ]
    a_trifle = {"step": 1.0, "data": 0.01, "wait": 0.6}  # ten times the median, a hundredth of a step
    assert stragglers([quick | {"data": 0.001}] * 3 + [a_trifle]) == []
