"""The table of results: complete, rounded against us, and never from a smoke run."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]

RESULT: dict[str, Any] = {
    "name": "speed",
    "ours": 12345.6,
    "peer": 3000.04,
    "unit": "tokens/s",
    "ratio": 4.11514,
    "target": "peer: 4 times the peer",
    "met": True,
    "spread": {"ours": [12000.0, 12600.0], "peer": None},
    "hardware": {
        "cpu": "Some CPU",
        "cores": 2,
        "threads": 2,
        "memory": 1,
        "instruction_sets": ["avx2", "amx_bf16"],
        "gpu": None,
        "os": "Linux 6",
    },
    "versions": {"python": "3.11.7", "torch": "2.13.0", "other": None},
    "command": "python benchmarks/speed.py --peer nanoGPT",
    "details": {
        "quick": False,
        "claims": [
            {
                "what": "peer",
                "ours": 12345.6,
                "peer": 3000.04,
                "unit": "tokens/s",
                "better": "higher",
                "ratio": 4.11914,
                "target": "4 times the peer",
                "met": True,
            },
            {
                "what": "waiting",
                "ours": 0.123412,
                "peer": None,
                "unit": "s",
                "better": "lower",
                "ratio": None,
                "target": "<= 0.1 s",
                "met": False,
            },
        ],
    },
}


def _module() -> ModuleType:
    path = ROOT / "scripts" / "benchmarks_table.py"
    specification = importlib.util.spec_from_file_location("benchmarks_table", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


table = _module()


def test_a_result_is_drawn_with_its_machine_and_its_command() -> None:
    drawn = table.draw([RESULT])
    assert "| peer | 12,340 tokens/s | 3,001 tokens/s | 4.11 | 4 times the peer | yes |" in drawn
    assert "| waiting | 0.1235 s | n/a |  | <= 0.1 s | **no** |" in drawn
    assert "Least and largest over rounds: ours 12,000 to 12,600 tokens/s." in drawn
    assert "2 cores, 2 threads of Some CPU (amx_bf16); python 3.11.7, torch 2.13.0." in drawn
    assert "`python benchmarks/speed.py --peer nanoGPT`" in drawn


@given(st.floats(min_value=1e-6, max_value=1e12), st.booleans())
def test_figures_are_rounded_in_the_direction_asked_for(value: float, up: bool) -> None:
    drawn = float(table._figure(value, up).replace(",", ""))
    assert drawn == pytest.approx(value, rel=2e-3)
    slack = 1e-12 * value  # of binary fractions
    assert drawn >= value - slack if up else drawn <= value + slack


def test_only_the_part_between_the_marks_is_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, page = tmp_path / "results", tmp_path / "page.md"
    results.mkdir()
    (results / "speed.json").write_text(json.dumps(RESULT))
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    monkeypatch.setattr("sys.argv", ["table", "--results", str(results), "--page", str(page)])
    assert table.main() == 0
    first = page.read_text()
    assert first.startswith("before\n") and first.endswith("\nafter\n")
    assert "old" not in first and "12,340" in first
    assert table.main() == 0
    assert page.read_text() == first


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"details": {"quick": True, "claims": []}}, "--quick"),
        ({"met": ...}, "lacks met"),
        (None, "no results"),
    ],
)
def test_what_must_not_be_quoted_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any] | None,
    words: str,
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{table.BEGIN}\n{table.END}")
    if change is not None:
        result = {key: value for key, value in (copy.deepcopy(RESULT) | change).items() if value is not ...}
        (tmp_path / "speed.json").write_text(json.dumps(result))
    monkeypatch.setattr("sys.argv", ["table", "--results", str(tmp_path), "--page", str(page)])
    assert table.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert words in error


def test_the_page_of_this_project_has_its_marks() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert "new table" in table.rewrite(page, "new table")


def test_results_that_are_kept_can_be_drawn() -> None:
    folder = ROOT / "benchmarks" / "results"
    if not list(folder.glob("*.json")):
        pytest.skip("nothing was measured yet")
    assert table.draw(table.read(folder))
