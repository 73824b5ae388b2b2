"""Trackers: each library's own reader finds the numbers, the settings, the code and the machine."""

from __future__ import annotations

import builtins
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from ingot.errors import ConfigError, ResourceError
from ingot.train.hooks import Run
from ingot.train.preemption import Interrupted
from ingot.train.trackers import TRACKERS, tracker
from ingot.train.tracking import Tracker, facts, flat


@pytest.fixture
def run(tmp_path: Path) -> Run:
    work = tmp_path / "work"
    work.mkdir()
    return Run(work, 6, {"clip": 1.0, "schedule": {"shape": "cosine"}}, 1234, 100.0, 1e6, "pretraining")


def line(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "loss": 3.0 / step if step != 3 else float("nan"),
        "rate": 0.5,
        "tokens": 100 * step,
        "seconds": 0.1 * step,
        "samples": "3fa9",
        "accepted": step != 3,
    }


def go(one: Tracker, run: Run, steps: range, error: BaseException | None = None) -> None:
    one.start(run, steps.start - 1)
    for step in steps:
        assert one.step(line(step)) is None
    one.checkpoint(steps.stop - 1, run.work)
    if error is not None:
        one.error(error)
    one.close()


def of(name: str, folder: Path) -> Tracker:
    pytest.importorskip(TRACKERS[name].library)
    return tracker(name, folder, "tests")


class Kept(Tracker):
    """A tracker that needs no library."""

    library = "json"

    def open(self, run: Run, name: str, facts: dict[str, str], step: int) -> None:
        self.opened = (name, facts, step)
        self.lines: list[tuple[int, dict[str, float]]] = []

    def log(self, lines: list[tuple[int, dict[str, float]]]) -> None:
        self.lines += lines

    def end(self, exit_code: int) -> None:
        self.ended = exit_code


def test_numbers_are_finite_and_speed_is_worked_out(tmp_path: Path, run: Run) -> None:
    one = Kept(tmp_path)
    go(one, run, range(1, 7))
    numbers = dict(one.lines)
    assert list(numbers) == [1, 2, 3, 4, 5, 6]
    assert numbers[1] == {"loss": 3.0, "rate": 0.5, "tokens": 100, "seconds": 0.1, "accepted": 1.0}
    assert "loss" not in numbers[3] and numbers[3]["accepted"] == 0.0
    assert numbers[4]["tokens_per_second"] == pytest.approx(1000)
    assert one.ended == 0


def test_a_resumed_run_keeps_its_name_and_another_gets_its_own(tmp_path: Path, run: Run) -> None:
    one, two, other = Kept(tmp_path), Kept(tmp_path), Kept(tmp_path)
    go(one, run, range(1, 4))
    go(two, run, range(4, 7))
    assert two.opened[0] == one.opened[0]
    assert (one.opened[2], two.opened[2]) == (0, 3)
    (tmp_path / "elsewhere").mkdir()
    go(other, run._replace(work=tmp_path / "elsewhere"), range(1, 2))
    assert other.opened[0] != one.opened[0]


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 0), (ValueError("a bug"), 1), (Interrupted("asked", step=2), 143), (KeyboardInterrupt(), 130)],
)
def test_the_end_says_how_it_came(tmp_path: Path, run: Run, error: BaseException | None, code: int) -> None:
    one = Kept(tmp_path)
    go(one, run, range(1, 3), error)
    assert one.ended == code


def test_a_tracker_that_fails_is_told_of_once_and_left_alone(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(Kept):
        def log(self, lines: list[tuple[int, dict[str, float]]]) -> None:
            print("chatter")
            raise ConnectionError("the server\nis gone")

    one = Broken(tmp_path)
    one.start(run, 0)
    for step in range(1, 4):
        one.step(line(step))
        one.checkpoint(step, tmp_path)
    one.close()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("tracker json failed and is off for this run") == 1
    assert not hasattr(one, "ended")


def test_facts_hold_settings_code_and_machine(run: Run) -> None:
    found = facts(run)
    assert found["config.schedule.shape"] == "cosine"
    assert found["parameters"] == "1234"
    assert {"code.ingot", "machine.cpu", "machine.torch", "machine.python"} <= set(found)
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        told = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        assert found["code.revision"] == told.stdout.strip()
    assert flat({"a": {"b": {"c": 1}}, "d": 2}) == {"a.b.c": 1, "d": 2}


def test_names_are_looked_up(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown tracker 'tensorbord'; did you mean 'tensorboard'"):
        tracker("tensorbord", tmp_path)


@pytest.mark.parametrize("name", list(TRACKERS))
def test_a_missing_library_names_its_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    extra = "trackio" if name == "trackio" else "track"
    with pytest.raises(ResourceError, match=rf"tracker {name}: .*pip install 'ingot\[{extra}\]'"):
        tracker(name, tmp_path)


def test_tensorboard(tmp_path: Path, run: Run) -> None:
    go(of("tensorboard", tmp_path / "there"), run, range(1, 6))
    go(of("tensorboard", tmp_path / "there"), run, range(3, 7))  # resumed at step 2: 3 to 5 come again
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (tmp_path / "there" / "tensorboard").iterdir()
    read = EventAccumulator(str(folder)).Reload()
    assert [(event.step, event.value) for event in read.Scalars("loss")] == [
        (step, pytest.approx(3.0 / step)) for step in (1, 2, 4, 5, 6)
    ]
    text = read.Tensors("facts/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| config.schedule.shape | cosine |" in text


def test_wandb_offline(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    go(of("wandb", tmp_path / "there"), run, range(1, 6))
    (path,) = (tmp_path / "there" / "wandb").glob("offline-run-*/*.wandb")
    losses, settings = {}, {}
    for record in wandb_records(path.read_bytes()):
        numbers = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
        if "loss" in numbers:
            losses[int(numbers["_step"])] = float(numbers["loss"])
        for item in [*record.run.config.update, *record.config.update]:
            settings[item.key or item.nested_key[0]] = json.loads(item.value_json)
    assert losses == {step: pytest.approx(3.0 / step) for step in (1, 2, 4, 5)}
    assert settings["config.schedule.shape"] == "cosine"


def wandb_records(content: bytes) -> list[Any]:
    """The records of a run's file, in W&B's own messages.

    The file is a log in the format of LevelDB: blocks of 32 KiB, chunks of checksum (4 bytes), length (2)
    and kind (1: whole, 2: first, 3: middle, 4: last), after a header of 7 bytes.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    records, parts, at = [], b"", 7
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            records.append(Record.FromString(parts))
            parts = b""
    return records


def test_mlflow(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    go(of("mlflow", tmp_path / "there"), run, range(1, 4), Interrupted("asked", step=3))
    go(of("mlflow", tmp_path / "there"), run, range(4, 7))
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'there' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tests")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["config.schedule.shape"] == "cosine"
    history = client.get_metric_history(found.info.run_id, "loss")
    assert {one.step: one.value for one in history} == {
        step: pytest.approx(3.0 / step) for step in (1, 2, 4, 5, 6)
    }


def test_trackio(tmp_path: Path, run: Run) -> None:
    """In a process of its own: trackio reads its folder's name once, when it is imported."""
    if importlib.util.find_spec("trackio") is None:
        pytest.skip("trackio is not installed")
    script = """
        import json, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        import test_trackers as those
        from ingot.train.hooks import Run
        from ingot.train.trackers import tracker
        there = Path(sys.argv[1])
        run = Run(there, 6, {"schedule": {"shape": "cosine"}}, 1, None, None, "pretraining")
        for steps in (range(1, 4), range(4, 7)):
            those.go(tracker("trackio", there, "tests"), run, steps)
        from trackio.sqlite_storage import SQLiteStorage
        (name,) = SQLiteStorage.get_runs("tests")
        logs = SQLiteStorage.get_logs("tests", name)
        print(json.dumps([{row["step"]: row["loss"] for row in logs if "loss" in row},
                          SQLiteStorage.get_run_config("tests", name)]))
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRACKIO")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    losses, settings = json.loads(done.stdout)
    assert losses == {str(step): pytest.approx(3.0 / step) for step in (1, 2, 4, 5, 6)}
    assert settings["config.schedule.shape"] == "cosine"
    assert (tmp_path / "trackio").is_dir()


def test_libraries_are_imported_only_when_a_run_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = {one.library for one in TRACKERS.values()}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    real = builtins.__import__

    def watched(name: str, *more: Any) -> Any:
        assert name.partition(".")[0] not in libraries
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", watched)
    for name in TRACKERS:
        tracker(name, tmp_path)
