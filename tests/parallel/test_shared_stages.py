"""A pipeline carried out by several ranks: trained together, all else by the lead; the same as by one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from spawn import Crew as Processes

from ingot.artifact import read, verify
from ingot.optim.joint import OptimizerConfig
from ingot.parallel.apply import ParallelConfig
from ingot.parallel.ranks import Ranks
from ingot.parallel.turns import Crew
from ingot.pipeline import Context, Pipeline
from ingot.progress import Progress
from ingot.stages.finetune import Finetune, FinetuneConfig
from ingot.stages.prepare import Prepare, PrepareConfig
from ingot.stages.pretrain import Pretrain, PretrainConfig
from ingot.stages.tokenizer import TrainTokenizer, TrainTokenizerConfig
from ingot.train.planner import shape

STEPS = 12


class Planned(Pretrain):
    """Pretraining by a plan that no clock has a part in; only the lead may be asked for it."""

    def plan(self, context: Context) -> dict[str, Any]:
        assert context.crew.lead
        train = self.config.train_config(context.device, context.seed, steps=STEPS, threads=1)
        model = shape(1, 320, self.config.context)
        return {
            "model": model.plain(),
            "train": train.model_copy(update={"checkpoint_every": 5}).plain(),
            "batch_size": self.config.batch_size,
        }


class PlannedFinetune(Finetune):
    def _plan(self, model: Any, stream: Any, context: Context, started: float) -> dict[str, Any]:
        assert context.crew.lead
        train = self.config.train_config(context.device, context.seed, steps=STEPS, threads=1)
        return {"train": train.model_copy(update={"checkpoint_every": 5}).plain()}


def write_modules(folder: Path) -> Path:
    folder.mkdir()
    chance = random.Random(0)
    words = ["sum", "part", "size", "name", "list", "word", "line", "page", "room", "door", "path", "node"]
    for number in range(24):
        functions = []
        for index in range(12):
            a, b, c = chance.sample(words, 3)
            functions.append(
                f"def {a}_{b}_{number}({c}, {b}):\n"
                f'    """Return the {a} of {b} {number} and {c} {index}."""\n'
                f"    {a} = {c} + {b} * {chance.randrange(1000)}\n"
                f"    return {a}\n"
            )
        (folder / f"module{number}.py").write_text("\n\n".join(functions))
    return folder


def carry_out(ranks: Ranks, data: Path, out: Path, kind: str) -> list[str]:
    """Carries the pipeline out, and returns the addresses of what was made."""
    gentle = OptimizerConfig(name="sgd", rate=0.05)
    chosen: dict[str, Any] = {"optimizer": gentle, "precision": "fp32", "parallel": ParallelConfig(data=kind)}
    pretrain = PretrainConfig(context=128, batch_size=4, micro_batch=1, patience=100, **chosen)
    stages: list[Any] = [
        Prepare(PrepareConfig(data=str(data), heldout=0.2)),
        TrainTokenizer(TrainTokenizerConfig(vocabulary=320)),
        Planned(pretrain),
        PlannedFinetune(FinetuneConfig(batch_size=4, answer_tokens=100, patience=100, **chosen)),
    ]
    made = Pipeline(stages, out).run(Progress(), crew=Crew(ranks))
    again = Pipeline(stages, out).run(Progress(), crew=Crew(ranks))
    assert made == again
    return [one.address for one in made]


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_ranks_make_what_one_makes(crew: Processes, tmp_path: Path) -> None:
    data = write_modules(tmp_path / "data")
    addresses = ["corpus@1", "tokenizer@1", "base@1", "finetuned@1"]
    assert crew.run(1, carry_out, data, tmp_path / "one", "ddp") == [addresses]
    for kind in ("ddp", "fsdp"):
        assert crew.run(2, carry_out, data, tmp_path / kind, kind) == 2 * [addresses]
        assert verify(tmp_path / kind) == []
        for name in ("base@1", "finetuned@1"):
            alone, shared = log(tmp_path / "one" / name), log(tmp_path / kind / name)
            assert [line["samples"] for line in alone] == [line["samples"] for line in shared]
            for key, tolerance in (("loss", 1e-6), ("gradient_norm", 1e-5)):
                ours, theirs = (torch.tensor([line[key] for line in side]) for side in (alone, shared))
                assert ((ours - theirs) / ours).abs().max() <= tolerance, (kind, name, key)
            assert abs(alone[-1]["validation"] - shared[-1]["validation"]) <= 1e-6 * alone[-1]["validation"]
            weights = (load_file(tmp_path / run / name / "model.safetensors") for run in ("one", kind))
            ours, theirs = weights
            assert ours.keys() == theirs.keys()
            assert max((ours[key] - theirs[key]).abs().max() for key in ours) <= 1e-5
            assert read(tmp_path / kind / name).record.metrics["ranks"] == 2
    keys = {read(tmp_path / run / "base@1").record.key for run in ("one", "ddp", "fsdp")}
    assert len(keys) == 1  # how the work was shared does not make it other work


RECIPE = """
name: tiny
minutes: 0.05
stages:
  prepare: {{data: {data}}}
  tokenizer: {{vocabulary: 320}}
  pretrain: {{share: 1.0, depth: 1, context: 32, batch_size: 4, compile: false}}
"""


@pytest.mark.slow
def test_the_command_under_torchrun(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.format(data=write_modules(tmp_path / "data")))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "-m", "ingot"]
    command += ["train", str(recipe), "--out", str(tmp_path / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is ready") == 1
    assert done.stderr.count("pretrain: made base@1") == 1
    assert verify(tmp_path / "run") == []
    refused = [*command, "pretrain.batch_size=5"]
    done = subprocess.run(refused, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "a global batch of 5 rows cannot be shared evenly by 2 ranks" in done.stderr
