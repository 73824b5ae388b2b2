"""Every training stage, killed with SIGKILL at random instants, ends with the losses of a whole run.

A plan depends on how fast the machine is at the moment, so both runs get the same one: that of the
whole run, laid where an interrupted stage would have left it.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ingot.artifact import read, verify

SETTINGS = [
    "run",
    "demo",
    "--quick",
    "minutes=0.4",
    "pretrain.context=128",
    "pretrain.batch_size=4",
    "tokenizer.vocabulary=512",
    "finetune.epochs=20",
]
TRAINED = {"base": "pretrain", "finetuned": "finetune", "aligned": "align"}


def start(corpus: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ingot", *SETTINGS, f"data={corpus}", "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_losses_of_killed_stages_are_those_of_whole_ones(tiny_corpus: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert start(tiny_corpus, whole).wait(timeout=600) == 0
    chance = random.Random(0)
    later = ["base", "finetuned", "aligned", "int8", "evaluation", "report"]
    for name, stage in TRAINED.items():
        made = read(whole / f"{name}@1")
        assert made.record.left_out is None
        killed = tmp_path / f"killed-{name}"
        shutil.copytree(whole, killed)
        for gone in later[later.index(name) :]:
            shutil.rmtree(killed / f"{gone}@1")
        work = killed / "work" / f"{stage}-{made.record.key[:12]}"
        work.mkdir(parents=True)
        shutil.copy(made.path / "plan.json", work)
        kills = 0
        while not (killed / f"{name}@1").exists():
            process = start(tiny_corpus, killed)
            log = work / "metrics.jsonl"
            before = len(log.read_text().splitlines()) if log.exists() else 0
            wanted = before + chance.randint(1, max(2, len(losses(made.path)) // 3))
            while process.poll() is None and not (killed / f"{name}@1").exists():
                if log.exists() and len(log.read_text().splitlines()) >= wanted and kills < 4:
                    time.sleep(chance.random() * 0.05)
                    kills += 1
                    break
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert kills >= 1, name
        assert losses(killed / f"{name}@1") == losses(made.path), name
        assert verify(killed) == []
