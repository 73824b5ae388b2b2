"""Errors of the system become errors for people; bugs stay bugs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingot.errors import DataError, ResourceError, from_system


def caught(action) -> BaseException:
    with pytest.raises(OSError) as info:
        action()
    return info.value


def test_real_refusals_name_the_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    absent = from_system(caught(lambda: (tmp_path / "absent").read_text()))
    assert str(absent) == f"{tmp_path / 'absent'}: no such file or folder; check the path"
    below_a_file = from_system(caught(lambda: (tmp_path / "file" / "x").write_text("")))
    assert isinstance(below_a_file, DataError)
    assert str(tmp_path / "file") in str(below_a_file)
    folder = from_system(caught(lambda: tmp_path.read_text()))
    assert "is a folder" in str(folder)


def test_a_full_disk_is_known_by_its_words_too() -> None:
    found = from_system(RuntimeError("io error: No space left on device (os error 28)"), "runs/demo")
    assert isinstance(found, ResourceError)
    assert str(found) == "runs/demo: the disk is full; free some space and run it again"


@pytest.mark.parametrize("bug", [ValueError("x"), KeyError("x"), OSError("something else")])
def test_bugs_stay_bugs(bug: Exception) -> None:
    assert from_system(bug) is None
