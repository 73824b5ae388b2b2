"""The gate: ratios hold on every machine, own figures on the same one, and a tenth is the limit."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "benchmarks" / "results"


def gate(fresh: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "fresh.json"
    path.write_text(json.dumps(fresh))
    command = [sys.executable, str(ROOT / "scripts" / "regression_gate.py"), str(path)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def result() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((COMMITTED / "train_throughput.json").read_text())
    return found


def test_the_same_figures_pass(result: dict[str, Any], tmp_path: Path) -> None:
    done = gate(result, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "+0.0 %" in done.stdout


@pytest.mark.parametrize(("factor", "status"), [(0.91, 0), (0.89, 1), (1.5, 0)])
def test_a_ratio_may_sink_by_a_tenth(
    result: dict[str, Any], tmp_path: Path, factor: float, status: int
) -> None:
    fresh = copy.deepcopy(result)
    claim = next(claim for claim in fresh["details"]["claims"] if claim["ratio"])
    claim["ratio"] *= factor
    fresh["hardware"]["cpu"] = "another one"
    done = gate(fresh, tmp_path)
    assert done.returncode == status
    assert (claim["what"] in done.stderr) == (status == 1)


def test_own_figures_are_judged_on_the_same_processor_only(result: dict[str, Any], tmp_path: Path) -> None:
    fresh = copy.deepcopy(result)
    for claim in fresh["details"]["claims"]:
        claim["ratio"] = None
        if claim["ours"] is not None:
            claim["ours"] *= 0.5 if claim["better"] == "higher" else 2.0
    assert gate(fresh, tmp_path).returncode == 1
    fresh["hardware"]["cpu"] = "another one"
    done = gate(fresh, tmp_path)
    assert done.returncode == 0 and "not judged" in done.stdout


def test_what_cannot_be_compared_is_said(result: dict[str, Any], tmp_path: Path) -> None:
    done = gate(result | {"name": "unheard_of"}, tmp_path)
    assert done.returncode == 2 and "unheard_of.json" in done.stderr
    done = gate({"name": "train_throughput"}, tmp_path)
    assert done.returncode == 2 and "lacks" in done.stderr
