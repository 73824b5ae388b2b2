"""What the pretraining's plan predicts is written before its first step and is read by the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ingot.artifact import read
from ingot.pipeline import Context, Pipeline
from ingot.progress import Progress
from ingot.report.facts import gather
from ingot.report.plan import outcomes
from ingot.stages.prepare import Prepare, PrepareConfig
from ingot.stages.pretrain import Pretrain, PretrainConfig
from ingot.stages.tokenizer import TrainTokenizer, TrainTokenizerConfig
from ingot.train.trainer import Trainer


class Stopped(Exception):
    """The run was cut off before its first step."""


def test_predictions_are_kept_before_step_1_and_compared_after_the_last(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PretrainConfig(minutes=0.1, depth=1, context=32, batch_size=2, compile=False)
    run, kept = tmp_path / "run", {}
    works: list[Path] = []
    fit, stage_run = Trainer.fit, Pretrain.run

    def stopped(self: Trainer, *arguments: object, **options: object) -> None:
        raise Stopped

    def watched(self: Pretrain, context: Context) -> None:
        works.append(context.work)
        stage_run(self, context)

    stages = [
        Prepare(PrepareConfig(data=str(tiny_corpus), near_duplicates=1.0)),
        TrainTokenizer(TrainTokenizerConfig(vocabulary=384)),
        Pretrain(config),
    ]
    monkeypatch.setattr(Pretrain, "run", watched)
    monkeypatch.setattr(Trainer, "fit", stopped)
    with pytest.raises(Stopped):
        Pipeline(stages, run).run(Progress())
    kept = json.loads((works[0] / "plan.json").read_text())["predicted"]
    monkeypatch.setattr(Trainer, "fit", fit)
    made = Pipeline(stages, run).run(Progress())
    base = read(run / "base@1")
    plan = json.loads((base.path / "plan.json").read_text())
    assert plan["predicted"] == kept
    assert kept["tokens"] == plan["train"]["steps"] * 2 * 32 == base.record.metrics["tokens"]
    assert kept["seconds"] == plan["expected_seconds"]
    low, high = kept["bits_per_byte"]["interval"]
    assert low < kept["bits_per_byte"]["value"] < high and "another text" in kept["bits_per_byte"]["basis"]
    assert kept["memory"] > 10**7
    names = [one.record.stage for one in made]
    rows = {row.what: row for row in outcomes(gather(dict(zip(names, made, strict=True)), run))}
    assert rows["tokens"].verdict == "as predicted"
    assert {"time of training", "tokens per second", "memory at most"} <= rows.keys()
