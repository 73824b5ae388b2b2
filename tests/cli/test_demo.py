"""The main job, small: two commands from text to a model; kills and changes on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ingot.artifact import artifacts, verify

STAGES = ["prepare", "tokenizer", "pretrain", "finetune", "align", "compress", "evaluate", "report"]


def ingot(*arguments: object, **more) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ingot", *[str(one) for one in arguments]]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, **more)


def settings(corpus: Path, out: Path) -> list[str]:
    """A smaller setting than --quick in everything but its minutes, which the planner needs."""
    smaller = ["pretrain.context=128", "pretrain.batch_size=4", "tokenizer.vocabulary=512"]
    return ["run", "demo", "--quick", *smaller, f"data={corpus}", "--out", str(out)]


@pytest.mark.slow
def test_the_demo_killed_again_and_again_still_arrives(tiny_corpus: Path, tmp_path: Path) -> None:
    out, chance = tmp_path / "run", random.Random(0)
    command = [sys.executable, "-m", "ingot", *settings(tiny_corpus, out)]
    for _ in range(6):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(chance.uniform(3, 9))
            process.send_signal(signal.SIGKILL)
        for one in artifacts(out) if out.exists() else []:
            assert verify(one.path) == []
    done = ingot(*settings(tiny_corpus, out))
    assert done.returncode == 0, done.stderr
    made = artifacts(out)
    assert [one.record.stage for one in made] == STAGES
    assert [one.version for one in made] == [1] * len(STAGES)
    assert verify(out) == []
    assert sorted(path.name for path in out.iterdir() if "@" not in path.name) == [
        "lock",
        "recipe.yaml",
        "report.html",
    ]
    again = ingot(*settings(tiny_corpus, out), "--json")
    assert [one["address"] for one in json.loads(again.stdout)["artifacts"]] == [one.address for one in made]
    assert again.stderr.count("is up to date") == len(STAGES)

    generated = ingot("generate", out, "def ", "--max-new-tokens", 5, "--seed", 1, "--model", "base")
    assert generated.returncode == 0, generated.stderr
    chatted = ingot("chat", out, "--max-new-tokens", 5, "--model", "int8", input="hello\n")
    assert chatted.returncode == 0, chatted.stderr
    evaluated = json.loads(ingot("evaluate", out, "--json").stdout)
    assert {"base@1", "int8@1"} <= set(evaluated)

    changed = ingot(*settings(tiny_corpus, out), "finetune.minutes=0.05")
    assert changed.returncode == 0, changed.stderr
    assert "making finetuned@2, finetuned@1 stays" in changed.stderr
    assert {"base@1", "finetuned@1", "finetuned@2", "report@2"} <= {one.address for one in artifacts(out)}
    assert verify(out) == []

    weights = bytearray((out / "base@1" / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (out / "base@1" / "model.safetensors").write_bytes(weights)
    found = ingot("artifacts", "verify", out)
    assert (found.returncode, found.stdout) == (
        1,
        "pretrain: base@1: model.safetensors: changed since it was made\n",
    )


@pytest.mark.slow
def test_a_second_run_in_the_same_folder_is_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "ingot", *settings(tiny_corpus, out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        first.stderr.readline()
        second = ingot(*settings(tiny_corpus, out))
        first.kill()
    assert second.returncode == 2
    assert f"process {first.pid} is working in this folder" in second.stderr


@pytest.mark.slow
def test_a_corpus_file_that_changed_is_named(tiny_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = ingot("train", "pretrain", "--quick", f"data={tiny_corpus}", "--until", "tokenizer", "--out", out)
    assert done.returncode == 0, done.stderr
    page = tiny_corpus / "pages" / "add.md"
    page.write_text(page.read_text().replace("Add", "add"), encoding="utf-8")
    found = ingot("artifacts", "verify", out)
    assert found.returncode == 1
    assert found.stdout == f"prepare: corpus@1: {page}: the input changed since it was read\n"


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("MAKE_DEMO") != "1", reason="installs packages; run with MAKE_DEMO=1")
def test_two_commands_in_a_fresh_clone(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    subprocess.run(["git", "clone", "-q", str(root), str(tmp_path / "clone")], check=True)
    done = subprocess.run(["make", "demo", "MINUTES=1"], cwd=tmp_path / "clone", check=False)
    assert done.returncode == 0
    assert (tmp_path / "clone" / "runs" / "demo" / "report.html").exists()
