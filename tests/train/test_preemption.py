"""SIGTERM: one last checkpoint, exit code 143, and the same losses bit for bit when it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingot.artifact import read, verify
from ingot.config import Config
from ingot.errors import IngotError, ResourceError
from ingot.pipeline import Context, Pipeline, unfinished
from ingot.progress import Progress
from ingot.train import preemption as module
from ingot.train.log import MetricsLog
from ingot.train.preemption import Interrupted, preemption


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, [])  # a point at which Python surely handles signals


def test_the_first_request_is_a_question_and_the_second_an_end(clock: list[float]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with preemption() as asked:
        assert not asked()
        terminate()
        assert asked()
        clock[0] += 1.0
        terminate()  # torchrun handing on what Slurm had sent already
        assert asked()
        clock[0] += 5.0
        with pytest.raises(SystemExit) as ended:
            terminate()
        assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_second_request_goes_to_whoever_listened_before(clock: list[float]) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with preemption() as asked:
            terminate()
            clock[0] += 5.0
            with pytest.raises(SystemExit):
                terminate()
            assert asked() and heard == [signal.SIGTERM]
        terminate()
        assert heard == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_only_the_main_thread_listens() -> None:
    before = signal.getsignal(signal.SIGTERM)
    answers: list[bool] = []

    def ask() -> None:
        with preemption() as asked:
            answers.append(asked())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert answers == [False]
    assert signal.getsignal(signal.SIGTERM) == before


def test_interrupted_is_an_error_for_people() -> None:
    error = Interrupted("stopped by SIGTERM", step=7, where="training", fix="start it again")
    assert isinstance(error, IngotError)
    assert (error.exit_code, error.step) == (143, 7)
    assert str(error) == "training: stopped by SIGTERM; start it again"
    assert Interrupted("stopped").step is None


SCRIPT = """
    import os, signal, sys
    from pathlib import Path
    import numpy as np
    from ingot.config import Config
    from ingot.data.stream import WindowStream
    from ingot.errors import IngotError
    from ingot.models.decoder import DecoderConfig
    from ingot.objectives.causal import CausalLM
    from ingot.optim.joint import OptimizerConfig
    from ingot.pipeline import Pipeline
    from ingot.progress import Progress
    from ingot.train.trainer import TrainConfig, Trainer

    MODEL = DecoderConfig(
        vocabulary=31, width=16, layers=1, heads=2, kv_heads=1, head_width=8, feed_forward=32, context=16
    )

    class Preempted(WindowStream):
        def batch(self, step, *more):
            if step == int(sys.argv[1]):
                os.kill(os.getpid(), signal.SIGTERM)
            return super().batch(step, *more)

    class Pretrain:
        name, artifact, kind, needs, config = "pretrain", "base", "model", (), Config()

        def run(self, context):
            model = MODEL.build(0)
            optimizer = OptimizerConfig(embedding_rate=0.05).build(model)
            config = TrainConfig(steps=30, checkpoint_every=15)
            tokens = np.random.default_rng(0).integers(0, 31, 4000, dtype=np.uint16)
            stream = Preempted(tokens, 16, 4, 0)
            trainer = Trainer(model, CausalLM(), stream, optimizer, config, context.work)
            log = trainer.fit(context.progress, "pretraining")
            (context.folder / "losses").write_text(repr([line["loss"] for line in log]))

    try:
        for out in sys.argv[2:]:
            Pipeline([Pretrain()], Path(out)).run(Progress())
    except IngotError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
"""


def start(*runs: Path, terminated_at: int) -> subprocess.CompletedProcess[str]:
    """Trains in a process of its own, in one folder after the other."""
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(terminated_at), *map(str, runs)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_a_terminated_run_saves_says_so_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    run = tmp_path / "stopped"
    stopped = start(run, terminated_at=5)
    assert stopped.returncode == 143, stopped.stderr
    assert "run the same command again to go on" in stopped.stderr
    (work,) = run.glob("work/pretrain-*")
    lines = MetricsLog(work / "metrics.jsonl").read()
    assert 1 <= lines[-1]["step"] < 15  # long before the first checkpoint that was due
    (saved,) = (path.name for path in (work / "checkpoints").iterdir())
    assert saved == f"step-{lines[-1]['step']:08d}"
    status = json.loads((work / "status.json").read_text())
    assert (status["status"], status["step"]) == ("interrupted", lines[-1]["step"])
    again = start(run, tmp_path / "whole", terminated_at=-1)
    assert again.returncode == 0, again.stderr
    made = read(run / "base@1")
    assert (made.path / "losses").read_text() == (tmp_path / "whole" / "base@1" / "losses").read_text()
    assert "It was interrupted once and went on" in made.record.notes[0]
    assert verify(run) == []


class Ends:
    """A stage that ends by the given errors, one a start, and then well."""

    name, artifact, kind, needs, config = "pretrain", "base", "model", (), Config()

    def __init__(self, errors: list[BaseException]) -> None:
        self.errors = errors

    def run(self, context: Context) -> None:
        (context.work / "checkpoint").touch()
        if self.errors:
            raise self.errors.pop(0)


def test_the_work_folder_says_what_became_of_every_start(tmp_path: Path) -> None:
    errors = [
        Interrupted("asked to stop", step=3),
        KeyboardInterrupt(),
        SystemExit(143),
        ResourceError("the disk is full"),
        ValueError("a bug"),
    ]
    expected = [
        {"status": "interrupted", "step": 3, "why": "asked to stop"},
        {"status": "interrupted", "why": "KeyboardInterrupt"},
        {"status": "interrupted", "why": "SystemExit"},
        {"status": "failed", "why": "the disk is full"},
        {"status": "failed", "why": "ValueError"},
    ]
    stage = Ends(list(errors))
    for times, (error, status) in enumerate(zip(errors, expected, strict=True)):
        with pytest.raises(type(error)):
            Pipeline([stage], tmp_path).run(Progress())
        (found,) = unfinished(tmp_path).values()
        assert datetime.fromisoformat(found.pop("at")) <= datetime.now(UTC)
        assert found == {**status, "interruptions": times}
    (made,) = Pipeline([stage], tmp_path).run(Progress())
    assert "It was interrupted 5 times and went on" in made.record.notes[0]
    assert unfinished(tmp_path) == {}


def test_a_kill_that_leaves_no_word_counts_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Pipeline([Ends([KeyboardInterrupt()])], tmp_path).run(Progress())
    (name,) = unfinished(tmp_path)
    (tmp_path / "work" / name / "status.json").write_text("{ half a ")
    assert unfinished(tmp_path) == {}
    (made,) = Pipeline([Ends([])], tmp_path).run(Progress())
    assert "It was interrupted once and went on" in made.record.notes[0]
