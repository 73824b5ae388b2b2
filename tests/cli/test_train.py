"""`ingot train` and `ingot compare`: looks before a training, refusals, signals, two runs side by side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ingot import recipes
from ingot.artifact import verify
from ingot.progress import Progress
from ingot.stages import pretrain
from ingot.stages.measuring import Speed
from ingot.train.planner import Proposal, shape

RECIPE = """
name: tiny
minutes: 0.06
stages:
  prepare: {{data: {data}}}
  tokenizer: {{vocabulary: 384}}
  pretrain: {{share: 1.0, depth: 1, context: 32, batch_size: 2, compile: false}}
"""


@pytest.fixture(autouse=True)
def known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has pretraining in this process find that one layer suits, and about 60 steps, however busy it is."""

    def offer(config: pretrain.PretrainConfig, tokens: int, vocabulary: int, *where: object) -> object:
        return Proposal(shape(1, vocabulary, config.context), tokens, 1.0, 2.0), 1e9

    monkeypatch.setattr(pretrain, "offer", offer)
    monkeypatch.setattr(pretrain.Trial, "seconds_per_step", lambda self, compiled: Speed(compiled, 0.05))


@pytest.fixture
def recipe(tiny_corpus: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE.format(data=tiny_corpus))
    return path


MISTAKES = {
    "two looks at once": (["--find-lr", "--profile"], ["--find-lr", "--profile"]),
    "a plot of nothing": (["--plot", "x.png"], ["--plot x.png", "add --find-lr"]),
    "a picture of no kind": (["--find-lr", "--plot", "x.gif"], ["'.gif'", ".png"]),
    "unknown optimizer": (["pretrain.optimizer.name=adamv"], ["'adamv'", "did you mean 'adam'"]),
    "unknown schedule": (["pretrain.schedule.kind=cosin"], ["'cosin'", "did you mean 'cosine'"]),
    "unknown tracker": (["pretrain.trackers=tensorbord"], ["tensorbord", "did you mean 'tensorboard'"]),
    "unknown precision": (["pretrain.precision=fp64"], ["'fp64'", "'fp32'"]),
    "unknown guard setting": (["pretrain.guard.sigmaz=4"], ["sigmaz", "did you mean 'sigmas'"]),
    "tf32 without CUDA": (["pretrain.precision=tf32", "--device", "cpu"], ["tf32", "cpu"]),
    "micro-batch larger than the batch": (["pretrain.micro_batch=3"], ["3 rows", "batch of 2"]),
    "a micro-batch that is none": (["pretrain.micro_batch=most"], ["'most'", "1 row or more, or 'fit'"]),
    "parallelism that comes later": (["pretrain.parallel.tensor=2"], ["tensor is 2", "comes later"]),
    "a recipe without pretraining": (["--until", "prepare", "--find-lr", "{without}"], ["'pretrain'"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused_before_any_work(run, recipe: Path, tmp_path: Path, name: str) -> None:
    without = tmp_path / "without.yaml"
    without.write_text("stages: {prepare: }\n")
    arguments, words = MISTAKES[name]
    file = without if arguments[-1] == "{without}" else recipe
    given = [one for one in arguments if one != "{without}"]
    outcome = run("train", file, *given, "--out", tmp_path / "run")
    assert outcome.status == 2
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: ") and all(word in last for word in words), last
    assert outcome.err.count("error:") == 1
    assert not (tmp_path / "run").exists()


def test_a_training_by_several_processes_is_not_tried_out(
    run, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    outcome = run("train", recipe, "--profile")
    assert outcome.status == 2 and "2 processes" in outcome.err


def test_looks_before_the_training_leave_no_model(run, recipe: Path, tmp_path: Path) -> None:
    plot = tmp_path / "rates.svg"
    outcome = run("train", recipe, "--find-lr", "--plot", plot, "--out", tmp_path / "run")
    assert outcome.status == 0, outcome.err
    assert "multiply the rates by" in outcome.out and "<svg" in plot.read_text()
    suggested = outcome.out.split("try it:  ")[1].split()
    assert suggested[:3] == ["ingot", "train", str(recipe)]
    assert [word.partition("=")[0] for word in suggested[3:]] == [
        f"pretrain.optimizer.{name}_rate" for name in ("matrix", "embedding", "head", "norm")
    ]
    outcome = run("train", recipe, "--profile", "--json", "--out", tmp_path / "run")
    assert outcome.status == 0, outcome.err
    found = json.loads(outcome.out)
    assert sum(one["share"] for one in found["operations"]) == pytest.approx(1)
    assert found["tokens_per_second"] > 0 and found["peak_memory"] > 10**7
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["corpus@1", "lock", "tokenizer@1"]


def test_two_trainings_side_by_side(run, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run("train", recipe, "pretrain.optimizer.name=adamw", "--fit", "--out", out).status == 0
    again = run("train", recipe, "pretrain.optimizer.name=lion", "--fit", "--out", out)
    assert again.status == 0
    assert "fit: pretrain runs 2 of 2 rows at once" in again.err
    outcome = run("compare", out / "base@1", out / "base@2")
    assert outcome.status == 0
    assert "optimizer.name" in outcome.out and "adamw -> lion" in outcome.out
    assert "part at step" in outcome.out
    found = json.loads(run("compare", out / "base@1", out, "--json").out)
    assert found["settings"]["optimizer.name"] == ["adamw", "lion"]
    nothing = run("compare", out / "base@1", tmp_path / "absent")
    assert nothing.status == 2 and "absent" in nothing.err
    untrained = run("compare", out / "base@1", out / "corpus@1")
    assert untrained.status == 2 and "error: " in untrained.err


SCRIPT = """
from pathlib import Path

from ingot.pipeline import Pipeline
from ingot.progress import Progress
from ingot.stages.prepare import Prepare, PrepareConfig
from ingot.stages.pretrain import Pretrain, PretrainConfig
from ingot.stages.tokenizer import TrainTokenizer, TrainTokenizerConfig

stages = [
    Prepare(PrepareConfig(data=DATA)),
    TrainTokenizer(TrainTokenizerConfig(vocabulary=384)),
    Pretrain(PretrainConfig(minutes=0.06, depth=1, context=32, batch_size=2, compile=False)),
]
Pipeline(stages, Path(OUT)).run(Progress())
"""


def test_command_recipe_and_script_are_one_training(
    run, recipe: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain.Pretrain, "_left", lambda self, start: 3.0)  # of 3.6 seconds, every time
    assert run("train", recipe, "--out", tmp_path / "command", "--device", "cpu").status == 0
    recipes.run(recipes.load(str(recipe)), tmp_path / "recipe", Progress())
    assert len(SCRIPT.strip().splitlines()) <= 20
    exec(SCRIPT, {"DATA": str(tiny_corpus), "OUT": str(tmp_path / "script")})
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / way / "base@1/metrics.jsonl").open()]
        for way in ("command", "recipe", "script")
    ]
    assert len(losses[0]) == 60
    assert losses[0] == losses[1] == losses[2]


def start(recipe: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ingot", "train", str(recipe), "minutes=0.2", "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for_steps(out: Path, process: subprocess.Popen[str], steps: int) -> None:
    end = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < end:
        if any(len(path.read_text().splitlines()) >= steps for path in out.glob("work/*/metrics.jsonl")):
            return
        time.sleep(0.02)


@pytest.mark.slow
def test_signals_end_a_training_in_good_order(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(recipe, out)
    wait_for_steps(out, process, 5)
    process.terminate()
    _, words = process.communicate(timeout=300)
    assert process.returncode == 143
    assert "interrupted: " in words and "run the same command again to go on" in words
    (work,) = out.glob("work/pretrain-*")
    status = json.loads((work / "status.json").read_text())
    assert status["status"] == "interrupted" and status["step"] >= 5
    listed = subprocess.run(
        [sys.executable, "-m", "ingot", "artifacts", "list", str(out)], capture_output=True, text=True
    )
    assert f"pretrain: interrupted after step {status['step']:,}" in listed.stdout

    process = start(recipe, out)
    wait_for_steps(out, process, status["step"] + 5)
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=300)
    assert process.returncode in (130, 0)
    assert "Traceback" not in words
    if process.returncode:
        assert words.splitlines()[-1] == "interrupted; the same command goes on from here"
        assert start(recipe, out).wait(timeout=300) == 0
    assert verify(out) == []
    assert "It was interrupted" in (out / "base@1" / "artifact.json").read_text()
