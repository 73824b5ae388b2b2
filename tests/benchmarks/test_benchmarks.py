"""Benchmarks run and say what they should; no test looks at a time."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
KEYS = ("name", "ours", "peer", "unit", "ratio", "target", "met", "spread", "hardware", "versions", "command")


def run(name: str, *arguments: object) -> dict[str, Any]:
    """Runs a benchmark as a person would and reads the last line of its output."""
    command = [sys.executable, ROOT / "benchmarks" / f"{name}.py", "--quick", *arguments]
    done = subprocess.run([str(w) for w in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert set(KEYS) <= set(result)
    assert result["name"] == name
    assert result["met"] is None  # a smoke run is not judged
    assert result["details"]["quick"]
    assert result["command"].startswith(f"python benchmarks/{name}.py --quick")
    assert str(ROOT) not in json.dumps(result)
    return result


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import claims
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return claims


def test_both_loops_train_the_same_model(tmp_path: Path) -> None:
    saved = tmp_path / "results" / "loop.json"
    result = run("loop_overhead", "--save", saved)
    for name in ("characters", "small"):
        losses = result["details"][name]["losses"]
        assert losses["ours"] == pytest.approx(losses["bare"], abs=0.01)
        assert 0 <= result["details"][name]["data_wait"] < 1
    assert result["unit"] == "%"
    assert json.loads(saved.read_text()) == result


@pytest.mark.slow
def test_throughput_checks_that_the_work_is_the_same() -> None:
    pytest.importorskip("transformers")
    result = run("train_throughput")
    check = result["details"]["check"]
    assert check["losses"]["ingot"] == pytest.approx(check["losses"]["transformers"], abs=1e-5)
    # transformers' GPT-2 has biases: 9 per layer and width, 4 of them in the wide parts, and the last norm's
    assert check["parameters"]["transformers"] - check["parameters"]["ingot"] == 2 * 11 * 64 + 64
    assert result["peer"] is None
    assert result["details"]["claims"][0]["met"] is None
    assert result["ours"] > 0


@pytest.mark.slow
def test_every_way_to_answer_says_the_same_in_float32() -> None:
    pytest.importorskip("transformers")
    details = run("speedup")["details"]
    assert details["same_tokens_in_float32"] == {"cache": True, "engine": True, "compiled": True}
    ways = math.prod(details["factors"].values())
    claim = details["claims"]
    assert ways == pytest.approx(claim[0]["ratio"] * claim[2]["ratio"])


def test_without_a_gpu_nothing_is_claimed() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    result = run("gpu_throughput")
    assert result["ours"] is None
    assert result["details"]["device"] == "n/a"
    assert all(claim["met"] is None for claim in result["details"]["claims"])


@pytest.mark.slow
def test_time_to_loss_scores_what_it_trained(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog; " * 400)
    result = run("time_to_loss", "--data", text)
    characters = len(set(text.read_text()))
    for kind in ("cold", "short", "long"):
        runs = result["details"][kind]
        for one in runs if isinstance(runs, list) else [runs]:
            assert 0 < one["loss"] < 2 * math.log(characters)
            assert one["process_seconds"] > one["train_seconds"]


def test_a_text_that_is_missing_is_named() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "time_to_loss.py"), "--data", "nowhere.txt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nowhere.txt: no such file" in done.stderr


@pytest.mark.parametrize(
    ("ours", "peer", "better", "times", "limit", "ratio", "met"),
    [
        (12.0, 4.0, "higher", 3.0, None, 3.0, True),
        (11.9999, 4.0, "higher", 3.0, None, 2.999975, False),
        (2.0, 10.0, "lower", 5.0, None, 5.0, True),
        (12.0, None, "higher", 3.0, None, None, None),  # the peer was not there
        (9.0, None, "lower", None, 10.0, None, True),
        (10.01, 63.0, "lower", None, 10.0, 63 / 10.01, False),
        (9.0, 50.0, "lower", 6.0, 10.0, 50 / 9, False),  # one of two
        (None, 4.0, "higher", 3.0, 1.0, None, None),
        (5.0, 4.0, "higher", None, None, 1.25, None),  # nothing was promised
    ],
)
def test_a_claim_is_judged_by_what_is_known(
    claims: ModuleType,
    ours: float | None,
    peer: float | None,
    better: str,
    times: float | None,
    limit: float | None,
    ratio: float | None,
    met: bool | None,
) -> None:
    claim = claims.Claim("speed", ours, peer, "x/s", better, times, limit)
    assert claim.ratio == (ratio if ratio is None else pytest.approx(ratio))
    assert claim.met is met


@pytest.mark.parametrize(
    ("limits", "met"), [((1, 1), True), ((1, 9), False), ((1, None), None), ((9, None), False)]
)
def test_a_result_is_met_only_where_every_claim_is(
    claims: ModuleType, limits: tuple[float | None, ...], met: bool | None
) -> None:
    made = [
        claims.Claim("speed", 5.0, None, "x/s", "higher", limit=limit, times=None if limit else 2.0)
        for limit in limits
    ]
    assert claims.result("name", made, {}, {}, quick=False)["met"] is met
    assert claims.result("name", made, {}, {}, quick=True)["met"] is None


def test_signatures_of_each_side_estimate_jaccard() -> None:
    result = run("minhash_speed")
    assert result["details"]["ours"]["estimate"] == pytest.approx(0.6, abs=0.19)
    assert result["ours"] > 0


def test_the_chain_from_files_to_tokens_drops_and_keeps() -> None:
    result = run("data_chain")
    for preset in ("web", "own"):
        figures = result["details"][preset]
        assert figures["documents"] > 0 and figures["tokens"] > 0
    web, own = result["details"]["web"], result["details"]["own"]
    assert web["dropped"] > own["dropped"] and own["documents"] > web["documents"]
