"""A race of optimizers: what is trained is the same for all, and chance is not taken for a difference."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp, ttest_rel

from ingot import cli
from ingot.bench import race as racing
from ingot.bench.contenders import CONTENDERS, chosen
from ingot.bench.material import CONTEXT, MODEL, Material, material
from ingot.bench.race import RaceConfig, Result, Run, bits_per_byte, race, train
from ingot.bench.verdicts import middle, plain, t_interval, verdicts
from ingot.errors import ConfigError, DataError
from ingot.progress import Progress


@pytest.fixture(scope="module")
def text() -> Material:
    rng = np.random.default_rng(0)
    data = rng.choice(np.frombuffer(b"abcdefgh", dtype=np.uint8), size=20_000)
    whole = torch.from_numpy(data[: 4 * (CONTEXT + 1)].astype(np.int64)).view(4, CONTEXT + 1)
    return Material("letters", data, whole[:, :-1].contiguous(), whole[:, 1:].contiguous())


def planted(name: str, scores: list[float]) -> Result:
    runs = [Run(seed, 1.0, [(50, score + 1), (100, score)]) for seed, score in enumerate(scores)]
    return Result(CONTENDERS[name], 0.01, 100, {1.0: scores[0]}, 1.0, False, runs)


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_learns(text: Material, name: str) -> None:
    run = train(CONTENDERS[name], text, 12, 1.0, seed=0)
    assert run.curve[-1][0] == 12
    assert run.score < 8.0  # bits of a byte that is one of 256 alike


def test_a_run_repeats_bit_for_bit_and_seeds_differ(text: Material) -> None:
    first, again, other = (train(CONTENDERS["muon"], text, 10, 1.0, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.curve != other.curve


def test_a_fresh_model_needs_eight_bits_per_byte(text: Material) -> None:
    assert bits_per_byte(MODEL.build(), text, "cpu") == pytest.approx(8.0, abs=1e-5)


def test_a_run_that_diverges_is_last_and_said_to_be(text: Material) -> None:
    run = Run(0, 1.0, [(5, 3.0), (10, math.inf)])
    gone = Result(CONTENDERS["sgd"], 0.01, 10, {1.0: math.inf}, 1.0, True, [run, run, run])
    found = verdicts([planted("muon", [2.0, 2.1, 2.2]), gone], target=2.5)
    assert found[1].words == "diverged"
    assert json.loads(json.dumps(plain(found)))[1]["mean"] is None


def test_the_sweep_is_widened_while_its_best_is_at_an_end(
    text: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(contender, text, steps, factor, seed, device="cpu") -> Run:
        return Run(seed, factor, [(steps, 2.0 + math.log(factor / 9.0) ** 2)])

    monkeypatch.setattr(racing, "train", fake)
    monkeypatch.setattr(racing, "pace", lambda contenders, *_: {one.name: 0.01 for one in contenders})
    result = race(chosen(["muon", "sgd"]), RaceConfig(seconds=1.0), text, Progress())[0]
    assert sorted(result.sweep) == pytest.approx([1 / 3, 1, 3, 9, 27])
    assert result.factor == pytest.approx(9)
    assert not result.edge
    assert result.steps == 100
    assert [run.seed for run in result.runs] == [0, 1, 2, 3, 4]


def test_the_interval_is_students() -> None:
    values = [2.31, 2.45, 2.38, 2.52, 2.29]
    known = ttest_1samp(values, 0).confidence_interval(0.95)
    assert t_interval(values) == pytest.approx((known.low, known.high))


def test_differences_are_taken_seed_by_seed() -> None:
    muon, adam = [2.0, 2.5, 3.0, 2.2, 2.7], [2.21, 2.69, 3.2, 2.4, 2.91]  # seeds differ more than optimizers
    found = verdicts([planted("muon", muon), planted("adamw", adam)], target=3.0)
    known = ttest_rel(adam, muon).confidence_interval(0.95)
    assert found[1].behind == pytest.approx((known.low, known.high))
    assert found[1].words.startswith("behind muon by 0.1")
    assert found[0].behind is None


def test_equals_are_rarely_told_apart() -> None:
    rng = np.random.default_rng(0)
    names, races, wrong = list(CONTENDERS)[:4], 300, 0
    for _ in range(races):
        made = [planted(name, rng.normal(2.0, 0.1, size=4).tolist()) for name in names]
        made.sort(key=lambda one: float(np.mean(one.scores)))
        wrong += any(one.words.startswith("behind") for one in verdicts(made, 2.0))
    assert wrong <= 0.08 * races  # 5 % and what 300 races may add by chance


def test_steps_to_a_target_are_read_off_the_curve() -> None:
    run = Run(0, 1.0, [(10, 4.0), (20, 3.0), (30, 2.0)])
    assert run.steps_to(4.5) == 10
    assert run.steps_to(2.5) == 25
    assert run.steps_to(1.9) is None
    results = [planted("muon", [2.0, 2.0, 2.0]), planted("sgd", [3.0, 3.0, 3.0])]
    assert middle(results) == 3.0
    assert [one.steps_to_target for one in verdicts(results, 2.5)] == [75, None]


def test_unknown_optimizers_and_tiny_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'adamw'"):
        chosen(["muon", "adamww"])
    with pytest.raises(ConfigError, match="is no race"):
        chosen(["muon", "muon"])
    with pytest.raises(ConfigError, match="seeds"):
        RaceConfig.parse({"seeds": 2})
    (tmp_path / "short.txt").write_text("too short")
    with pytest.raises(DataError, match="bytes"):
        material(tmp_path / "short.txt")


@pytest.mark.slow
def test_the_command_prints_a_table_and_json(
    tiny_corpus: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    words = [
        "bench",
        "optimizers",
        "muon",
        "sgd",
        "--steps",
        "10",
        "--seeds",
        "3",
        "--data",
        str(tiny_corpus),
    ]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--device", "cpu"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "corpus; 10 steps per run, 3 seeds; bits per byte of held-out text"
    assert {line.split()[0] for line in lines[4:6]} == {"muon", "sgd"}
    with pytest.raises(SystemExit):
        cli.main([*words, "--device", "cpu", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found["verdicts"]] == [one["optimizer"] for one in found["results"]]
    assert all(len(one["runs"]) == 3 and len(one["sweep"]) >= 3 for one in found["results"])
