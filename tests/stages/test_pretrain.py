"""Stage pretrain on a tiny corpus: plans, trains, and leaves a folder that transformers loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ingot.artifact import read, verify
from ingot.errors import IngotError
from ingot.models import huggingface
from ingot.pipeline import Pipeline
from ingot.progress import Progress
from ingot.stages.prepare import Prepare, PrepareConfig
from ingot.stages.pretrain import Pretrain, PretrainConfig
from ingot.stages.tokenizer import TrainTokenizer, TrainTokenizerConfig
from ingot.tokenizer.tokenizer import Tokenizer


def pipeline(corpus: Path, run: Path, **changes: object) -> Pipeline:
    config = {"minutes": 0.1, "depth": 1, "context": 32, "batch_size": 2, "compile": False, **changes}
    return Pipeline(
        [
            Prepare(PrepareConfig(data=str(corpus), near_duplicates=1.0)),
            TrainTokenizer(TrainTokenizerConfig(vocabulary=384)),
            Pretrain(PretrainConfig.parse(config)),
        ],
        run,
    )


@pytest.fixture
def run(tiny_corpus: Path, tmp_path: Path) -> Path:
    pipeline(tiny_corpus, tmp_path / "run").run(Progress())
    return tmp_path / "run"


def test_the_base_model_is_whole(run: Path) -> None:
    base = read(run / "base@1")
    assert base.record.metrics["parameters"] == huggingface.load(base.path).parameter_count()
    log = [json.loads(line) for line in (base.path / "metrics.jsonl").read_text().splitlines()]
    plan = json.loads((base.path / "plan.json").read_text())
    assert len(log) == plan["train"]["steps"] >= 20
    assert log[-1]["tokens"] == len(log) * 2 * 32
    assert log[-1]["loss"] < log[0]["loss"]
    assert verify(run) == []
    assert not (run / "work").exists() or not any((run / "work").iterdir())

    tokenizer = Tokenizer.load(base.path)
    theirs = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    ids = [tokenizer.bos_id, *tokenizer.encode("def read_lines(lines):")]
    assert AutoTokenizer.from_pretrained(base.path)("def read_lines(lines):").input_ids == ids[1:]
    ours = huggingface.load(base.path)
    with torch.no_grad():
        difference = theirs(torch.tensor([ids])).logits - ours(torch.tensor([ids])).logits
    assert difference.abs().max() <= 1e-4


def test_the_same_command_again_does_nothing_and_other_settings_make_version_two(
    run: Path, tiny_corpus: Path
) -> None:
    before = (run / "base@1" / "artifact.json").stat().st_mtime_ns
    assert [a.address for a in pipeline(tiny_corpus, run).run(Progress())][-1] == "base@1"
    assert (run / "base@1" / "artifact.json").stat().st_mtime_ns == before
    assert [a.address for a in pipeline(tiny_corpus, run, batch_size=4).run(Progress())] == [
        "corpus@1",
        "tokenizer@1",
        "base@2",
    ]


def test_minutes_too_few_for_any_model_are_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="too few"):
        pipeline(tiny_corpus, tmp_path / "run", minutes=1e-5).run(Progress())
    assert not (tmp_path / "run" / "base@1").exists()
