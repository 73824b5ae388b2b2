"""Artifacts: published whole or not at all, and any later change of a byte shows."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingot.artifact import (
    artifacts,
    latest,
    prune,
    publish,
    read,
    republish,
    sweep,
    verify,
    versions,
    write_atomic,
    write_record,
)
from ingot.errors import ArtifactError
from ingot.record import content_hash, file_hash


def make(
    run: Path, name: str, version: int = 1, parents: dict | None = None, text: str = "x", **more
) -> None:
    with publish(run / f"{name}@{version}") as folder:
        (folder / "inner").mkdir()
        (folder / "a.txt").write_text(text)
        (folder / "inner" / "b.bin").write_bytes(b"\0\1" + text.encode())
        write_record(folder, kind="test", name=name, version=version, parents=parents, **more)


def chain(run: Path) -> None:
    make(run, "corpus")
    make(run, "model", parents={"prepare": read(run / "corpus@1")}, stage="train")


def test_a_record_keeps_what_it_was_given(tmp_path: Path) -> None:
    make(
        tmp_path, "model", text="hello", config={"width": 8}, metrics={"loss": 1.5}, notes=["a note"], seed=3
    )
    record = read(tmp_path / "model@1").record
    assert record.files["a.txt"] == hashlib.sha256(b"hello").hexdigest()
    assert set(record.files) == {"a.txt", "inner/b.bin"}
    assert (record.config, record.metrics, record.notes, record.seed) == (
        {"width": 8},
        {"loss": 1.5},
        ["a note"],
        3,
    )
    assert record.environment["python"]
    assert record.code["ingot"]


def test_numbers_of_other_libraries_are_stored_as_numbers(tmp_path: Path) -> None:
    import numpy as np

    make(tmp_path, "model", metrics={"loss": np.float32(0.5), "path": tmp_path, "by_step": {1: 2}})
    assert read(tmp_path / "model@1").record.metrics == {
        "loss": 0.5,
        "path": str(tmp_path),
        "by_step": {"1": 2},
    }
    assert verify(tmp_path) == []


def test_the_fingerprint_follows_content_and_origin_but_not_time(tmp_path: Path) -> None:
    for run in ("one", "two"):
        chain(tmp_path / run)
    make(tmp_path / "three", "corpus", text="other")
    make(tmp_path / "three", "model", parents={"prepare": read(tmp_path / "three" / "corpus@1")})
    prints = [read(tmp_path / run / "model@1").record.fingerprint for run in ("one", "two", "three")]
    assert prints[0] == prints[1] != prints[2]


def test_an_error_inside_leaves_nothing(tmp_path: Path) -> None:
    def breaks(folder: Path) -> None:
        (folder / "a.txt").write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), publish(tmp_path / "model@1") as folder:
        breaks(folder)
    assert list(tmp_path.iterdir()) == []


def test_publishing_refuses_a_name_that_is_taken(tmp_path: Path) -> None:
    make(tmp_path, "model")
    with pytest.raises(ArtifactError, match="exists already"):
        make(tmp_path, "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model@1"]


def test_versions_count_as_numbers(tmp_path: Path) -> None:
    for version in (1, 2, 10):
        make(tmp_path, "model", version, text=str(version))
    make(tmp_path, "models")
    (tmp_path / "work").mkdir()
    assert [one.version for one in versions(tmp_path, "model")] == [1, 2, 10]
    newest = latest(tmp_path, "model")
    assert newest is not None
    assert newest.address == "model@10"
    assert latest(tmp_path, "absent") is None
    assert [one.address for one in artifacts(tmp_path)] == ["model@1", "model@2", "model@10", "models@1"]
    assert artifacts(tmp_path / "absent") == []


def test_verify_is_silent_on_an_honest_run(tmp_path: Path) -> None:
    chain(tmp_path)
    assert verify(tmp_path) == []
    assert verify(tmp_path / "model@1") == []


@pytest.mark.parametrize("position", [0, 1, 2])
def test_verify_names_stage_and_file_of_a_changed_byte(tmp_path: Path, position: int) -> None:
    chain(tmp_path)
    path = tmp_path / "model@1" / "inner" / "b.bin"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    (found,) = verify(tmp_path)
    assert (found.stage, found.address, found.path) == ("train", "model@1", "inner/b.bin")
    assert "changed" in found.what


def test_verify_sees_missing_added_and_outside_files(tmp_path: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text("my text")
    line = {"path": str(text), "sha256": file_hash(text), "bytes": 7}
    with publish(tmp_path / "run" / "corpus@1") as folder:
        (folder / "inputs.jsonl").write_text(json.dumps(line) + "\n")
        (folder / "a.txt").write_text("a")
        write_record(folder, kind="corpus", name="corpus", stage="prepare")
    assert verify(tmp_path / "run") == []
    (tmp_path / "run" / "corpus@1" / "a.txt").unlink()
    (tmp_path / "run" / "corpus@1" / "new.txt").write_text("new")
    text.write_text("my Text")
    found = {one.path: one for one in verify(tmp_path / "run")}
    assert set(found) == {"a.txt", "new.txt", str(text)}
    assert found[str(text)].stage == "prepare"
    text.unlink()
    assert "missing" in {one.path: one.what for one in verify(tmp_path / "run")}[str(text)]


def test_verify_sees_an_edited_record(tmp_path: Path) -> None:
    make(tmp_path, "model", metrics={"loss": 3.0})
    path = tmp_path / "model@1" / "artifact.json"
    path.write_text(path.read_text().replace("3.0", "1.0"))
    (found,) = verify(tmp_path)
    assert found.path == "artifact.json"
    assert "edited" in found.what
    path.write_text("{")
    (found,) = verify(tmp_path)
    assert (found.address, found.path) == ("model@1", "artifact.json")


def test_verify_sees_a_parent_that_was_exchanged(tmp_path: Path) -> None:
    chain(tmp_path)
    (tmp_path / "corpus@1").rename(tmp_path / "corpus@2")
    assert [(one.stage, one.path) for one in verify(tmp_path) if "missing" in one.what] == [
        ("train", "corpus@1")
    ]
    make(tmp_path, "corpus", text="another")
    assert ("train", "corpus@1") in [(one.stage, one.path) for one in verify(tmp_path)]
    assert verify(tmp_path / "model@1") != []


def test_a_model_folder_copied_alone_verifies(tmp_path: Path) -> None:
    chain(tmp_path / "run")
    (tmp_path / "run" / "model@1").rename(tmp_path / "mine")
    assert verify(tmp_path / "mine") == []


def test_verify_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no artifacts"):
        verify(tmp_path)


def test_republished_files_are_the_same(tmp_path: Path) -> None:
    chain(tmp_path)
    make(tmp_path, "model", 2, text="other")
    again = republish(read(tmp_path / "model@1"), 3)
    assert again.record.fingerprint == read(tmp_path / "model@1").record.fingerprint
    assert again.record.files == read(tmp_path / "model@1").record.files
    assert verify(tmp_path) == []


def test_prune_keeps_the_newest_and_all_it_came_from(tmp_path: Path) -> None:
    chain(tmp_path)
    make(tmp_path, "corpus", 2, text="newer")
    make(tmp_path, "corpus", 3, text="newest")
    assert [path.name for path in prune(tmp_path)] == ["corpus@2"]
    assert {one.address for one in artifacts(tmp_path)} == {"corpus@1", "corpus@3", "model@1"}
    assert verify(tmp_path) == []


def test_sweep_removes_leftovers_of_the_dead_only(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getpid(), os.getppid()):
        (tmp_path / f".model@1.tmp-{pid}").mkdir()
    (tmp_path / f".recipe.yaml.tmp-{dead.pid}").write_text("half")
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f".model@1.tmp-{os.getppid()}"]


def test_sigkill_in_mid_publish_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    program = """
        import sys, time
        from pathlib import Path
        from ingot.artifact import publish
        with publish(Path(sys.argv[1]) / "model@1") as folder:
            (folder / "weights.bin").write_bytes(b"0" * 1000)
            print("writing", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "model@1").exists()
    assert len(list(tmp_path.iterdir())) == 1
    sweep(tmp_path)
    make(tmp_path, "model")
    assert verify(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["model@1"]


def test_a_file_written_atomically_is_old_or_new(tmp_path: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        from ingot.artifact import write_atomic
        path = Path(sys.argv[1])
        for number in range(10**9):
            write_atomic(path, str(number % 10) * 100_000)
    """
    path = tmp_path / "state.txt"
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), str(path)]) as process:
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.2)
        process.kill()
    text = path.read_text()
    assert len(text) == 100_000
    assert len(set(text)) == 1
    write_atomic(path, b"bytes too")
    assert path.read_bytes() == b"bytes too"


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_content_hash_survives_json(value: object) -> None:
    def reversed_keys(item):
        if isinstance(item, dict):
            return {key: reversed_keys(item[key]) for key in reversed(item)}
        return [reversed_keys(one) for one in item] if isinstance(item, list) else item

    assert (
        content_hash(json.loads(json.dumps(value)))
        == content_hash(reversed_keys(value))
        == content_hash(value)
    )
