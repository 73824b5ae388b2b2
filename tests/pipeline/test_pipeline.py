"""The pipeline: work is done once, changes make versions, kills lose nothing, one writer at a time."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ingot.artifact import latest, verify
from ingot.config import Config
from ingot.errors import ArtifactError, BusyError, ConfigError, DataError, ResourceError
from ingot.lock import lock
from ingot.pipeline import Context, LeftOut, Pipeline
from ingot.progress import Progress


class Number(Config):
    number: int = 1


class Stage:
    """Writes its number and its parents' texts; counts how often it ran."""

    kind = "test"

    def __init__(self, name: str, needs: tuple[str, ...] = (), number: int = 1, **more: object) -> None:
        self.name, self.artifact, self.needs = name, f"{name}-made", needs
        self.config = Number(number=number)
        self.runs = 0
        self.__dict__ |= more

    def run(self, context: Context) -> None:
        self.runs += 1
        parents = [(context.parents[name].path / "text").read_text() for name in self.needs]
        (context.folder / "text").write_text(f"{self.name}{self.config.number}{''.join(parents)}")
        context.notes.append(f"{self.name} ran")
        context.metrics["number"] = self.config.number


class Told(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def three(number: int = 1) -> list[Stage]:
    return [Stage("a"), Stage("b", ("a",), number), Stage("c", ("a", "b"))]


def addresses(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir() if "@" in path.name and path.name[0] != ".")


def test_stages_run_once(tmp_path: Path) -> None:
    stages = three()
    made = Pipeline(stages, tmp_path / "deep" / "run").run(Progress())
    assert [one.address for one in made] == ["a-made@1", "b-made@1", "c-made@1"]
    assert (made[2].path / "text").read_text() == "c1a1b1a1"
    assert (made[0].record.notes, made[0].record.metrics) == (["a ran"], {"number": 1})
    again = three()
    told = Told()
    assert Pipeline(again, tmp_path / "deep" / "run").run(told) == made
    assert [stage.runs for stage in stages + again] == [1, 1, 1, 0, 0, 0]
    assert "b: b-made@1 is up to date" in told.lines
    assert verify(tmp_path / "deep" / "run") == []
    assert not (tmp_path / "deep" / "run" / "work").exists()


def test_changed_settings_make_the_next_version_of_what_they_touch(tmp_path: Path) -> None:
    Pipeline(three(), tmp_path).run(Progress())
    stages, told = three(number=2), Told()
    Pipeline(stages, tmp_path).run(told)
    assert [stage.runs for stage in stages] == [0, 1, 1]
    assert addresses(tmp_path) == ["a-made@1", "b-made@1", "b-made@2", "c-made@1", "c-made@2"]
    assert "making b-made@2, b-made@1 stays (number 1 -> 2)" in told.text
    assert "making c-made@2, c-made@1 stays (b-made@2 is new)" in told.text
    assert verify(tmp_path) == []


def test_settings_that_come_back_become_the_newest_without_work(tmp_path: Path) -> None:
    for number in (1, 2):
        Pipeline(three(number), tmp_path).run(Progress())
    stages, told = three(1), Told()
    made = Pipeline(stages, tmp_path).run(told)
    assert [stage.runs for stage in stages] == [0, 0, 0]
    assert [one.address for one in made] == ["a-made@1", "b-made@3", "c-made@3"]
    assert latest(tmp_path, "c-made") == made[2]
    assert (made[2].path / "text").read_text() == "c1a1b1a1"
    assert "b-made@1 was made with these settings: now b-made@3" in told.text
    assert verify(tmp_path) == []
    assert Pipeline(three(1), tmp_path).run(Progress()) == made


@pytest.mark.parametrize(
    ("more", "seed", "words"),
    [({"identity": lambda: {"files": "b"}}, 0, "source files"), ({}, 5, "seed 0 -> 5")],
)
def test_identity_and_seed_decide_too(tmp_path: Path, more: dict, seed: int, words: str) -> None:
    Pipeline([Stage("a", identity=lambda: {"files": "a"})], tmp_path).run(Progress())
    stage, told = Stage("a", **({"identity": lambda: {"files": "a"}} | more)), Told()
    Pipeline([stage], tmp_path).run(told, seed=seed)
    assert stage.runs == 1
    assert words in told.text


def test_a_left_out_stage_is_remembered_with_its_reason(tmp_path: Path) -> None:
    class Empty(Stage):
        def run(self, context: Context) -> None:
            self.runs += 1
            (context.folder / "half").write_text("half")
            raise LeftOut("a novel has no headings")

    class After(Stage):
        def run(self, context: Context) -> None:
            reason = context.parents["a"].record.left_out
            raise LeftOut(f"no parent: {reason}")

    stages = [Empty("a"), After("b", ("a",))]
    made = Pipeline(stages, tmp_path).run(Progress())
    assert made[0].record.left_out == "a novel has no headings"
    assert made[1].record.left_out == "no parent: a novel has no headings"
    assert made[0].record.files == {}
    Pipeline(stages, tmp_path).run(Progress())
    assert stages[0].runs == 1
    assert verify(tmp_path) == []


def test_an_error_publishes_nothing_and_keeps_the_work(tmp_path: Path) -> None:
    class Breaks(Stage):
        def run(self, context: Context) -> None:
            before = context.work / "checkpoint"
            if not before.exists():
                before.write_text("half way")
                raise RuntimeError("a bug")
            (context.folder / "text").write_text(before.read_text())

    with pytest.raises(RuntimeError, match="a bug"):
        Pipeline([Breaks("a")], tmp_path).run(Progress())
    assert addresses(tmp_path) == []
    (made,) = Pipeline([Breaks("a")], tmp_path).run(Progress())
    assert (made.path / "text").read_text() == "half way"
    assert "interrupted" in made.record.notes[0]
    assert not (tmp_path / "work").exists()


def test_a_stage_needs_those_before_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stage 'b': needs 'a'; put 'a' before it"):
        Pipeline([Stage("b", ("a",)), Stage("a")], tmp_path)


def test_plan_says_what_a_run_would_do(tmp_path: Path) -> None:
    before = Pipeline(three(), tmp_path).plan()
    assert [(one.address, one.artifact, one.why) for one in before] == [
        ("a-made@1", None, "not made yet"),
        ("b-made@1", None, "after a"),
        ("c-made@1", None, "after a and b"),
    ]
    Pipeline(three(), tmp_path).run(Progress())
    assert all(one.artifact for one in Pipeline(three(), tmp_path).plan())
    after = Pipeline(three(2), tmp_path).plan()
    assert [(one.address, one.why) for one in after] == [
        ("a-made@1", ""),
        ("b-made@2", "number 1 -> 2"),
        ("c-made@2", "after b"),
    ]


def test_disk_is_checked_before_the_start(tmp_path: Path) -> None:
    greedy = Stage("b", ("a",), disk_needed=lambda: 10**18)
    first = Stage("a")
    with pytest.raises(ResourceError, match="MB of disk are needed") as caught:
        Pipeline([first, greedy], tmp_path).run(Progress())
    assert str(tmp_path) in str(caught.value)
    assert first.runs == 0
    Pipeline([first], tmp_path).run(Progress())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (RuntimeError("write failed: No space left on device (os error 28)"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/there/file"), "/there/file: no permission"),
    ],
)
def test_refusals_of_the_system_name_the_place(tmp_path: Path, error: Exception, words: str) -> None:
    class Refused(Stage):
        def run(self, context: Context) -> None:
            raise error

    with pytest.raises(ResourceError, match=words):
        Pipeline([Refused("a")], tmp_path).run(Progress())
    assert addresses(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/shm").is_dir() or os.geteuid() != 0, reason="needs a tiny file system")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(small)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("may not mount a file system here")
    try:

        class Writes(Stage):
            def disk_needed(self) -> int:
                return 0

            def run(self, context: Context) -> None:
                (context.folder / "big").write_bytes(b"0" * 10**6)

        with pytest.raises(ResourceError, match="the disk is full") as caught:
            Pipeline([Writes("a")], small / "run").run(Progress())
        assert str(small / "run") in str(caught.value)
        assert addresses(small / "run") == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(DataError, match="a file where a folder is needed"):
        Pipeline(three(), tmp_path / "run").run(Progress())
    with pytest.raises(DataError, match="a file where a folder is needed"):
        Pipeline(three(), tmp_path / "run" / "deeper").run(Progress())


def test_a_missing_file_of_a_parent_is_said(tmp_path: Path) -> None:
    Pipeline(three(), tmp_path).run(Progress())
    (tmp_path / "a-made@1" / "text").unlink()
    with pytest.raises(ArtifactError, match="a file of the artifact is missing"):
        Pipeline(three(), tmp_path).run(Progress())
    shutil.rmtree(tmp_path / "a-made@1")
    assert Pipeline(three(), tmp_path).run(Progress())[0].address == "a-made@1"
    assert verify(tmp_path) == []


HOLDER = """
    import sys, time
    from pathlib import Path
    from ingot.lock import lock
    with lock(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60)
"""


def test_the_second_writer_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {holder.pid} is working"):
            Pipeline(three(), tmp_path).run(Progress())
        assert json.loads((tmp_path / "lock").read_text())["pid"] == holder.pid
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with lock(tmp_path):
            pass


RUNNER = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    import test_pipeline as those
    from ingot.pipeline import Pipeline
    from ingot.progress import Progress

    class Slow(those.Stage):
        def run(self, context):
            done = context.work / "done"
            for step in range(int(done.read_text()) if done.exists() else 0, 10):
                (context.folder / f"part{step}").write_text("x" * 10_000)
                those_many = context.work / "aside"
                those_many.write_text(str(step + 1))
                those_many.rename(done)
                print(step, flush=True)
                if len(sys.argv) > 3:
                    time.sleep(0.05)
            super().run(context)

    Pipeline([those.Stage("a"), Slow("b", ("a",))], Path(sys.argv[1])).run(Progress())
"""


@pytest.mark.parametrize("after", [1, 5, 10])
def test_sigkill_at_any_time_loses_nothing(tmp_path: Path, after: int) -> None:
    command = [sys.executable, "-c", textwrap.dedent(RUNNER), str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen([*command, "slowly"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(after):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    made = addresses(tmp_path)
    assert made in (["a-made@1"], ["a-made@1", "b-made@1"])
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    steps = [int(line) for line in second.stdout.split()]
    assert steps == list(range(10 - len(steps), 10))
    assert len(steps) <= 10 - after + 1
    assert (tmp_path / "b-made@1" / "text").read_text() == "b1a1"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert verify(tmp_path) == []
