"""The Makefile: what is missing on a bare machine is said in one line, before anything is made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=clone, capture_output=True, text=True, check=False)


def python(clone: Path, refuses: str) -> str:
    """A python that fails whenever it is asked for something with a certain word in it."""
    path = clone / "python"
    path.write_text(f'#!/bin/sh\ncase "$2" in *"{refuses}"*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return f"PYTHON={path}"


@pytest.mark.parametrize("target", ["demo", "test", ".venv"])
@pytest.mark.parametrize(
    ("refuses", "words"),
    [("import venv", "no venv module; install it"), ("version_info", "no Python 3.11 or newer")],
)
def test_what_is_missing_is_said(clone: Path, target: str, refuses: str, words: str) -> None:
    done = make(clone, target, python(clone, refuses))
    assert done.returncode == 2
    first = done.stderr.splitlines()[0]
    assert first.startswith("error: ")
    assert words in first
    assert not (clone / ".venv").exists()


def test_variables_reach_the_command(clone: Path) -> None:
    wanted = ("MINUTES=3", "DATA=my text", "OUT=there", "TORCH_INDEX=https://example.org/cpu")
    told = make(clone, "-n", "demo", *wanted).stdout
    assert '.venv/bin/ingot demo --minutes 3 --data "my text" --out "there"' in told
    assert '--extra-index-url "https://example.org/cpu"' in told
    assert "--extra-index-url" not in make(clone, "-n", "demo").stdout


def test_an_installed_environment_is_left_alone(clone: Path) -> None:
    (clone / ".venv").mkdir()
    for stamp in (".core", ".dev"):
        (clone / ".venv" / stamp).touch()
    assert make(clone, ".venv").stdout == ""
    assert "pip install" not in make(clone, "-n", "test").stdout
    assert "pip install" not in make(clone, "-n", "demo").stdout


def test_every_pin_is_exact() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(line.count("==") == 1 and "+" not in line for line in pins)
    assert "torch==2.13.0" in pins
    assert not [line for line in pins if line.startswith("nvidia")]
