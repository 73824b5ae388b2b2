"""A run that goes on must find what it began with: another model, tokenizer or corpus is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ingot.checkpoint.store import Checkpoint, CheckpointStore
from ingot.errors import IngotError
from ingot.pipeline import Pipeline
from ingot.progress import Progress
from ingot.stages.prepare import Prepare, PrepareConfig
from ingot.stages.pretrain import Pretrain, PretrainConfig
from ingot.stages.tokenizer import TrainTokenizer, TrainTokenizerConfig


class Stopped(BaseException):
    pass


@pytest.fixture
def half_done(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known_speed: None
) -> Callable[[], None]:
    """Begins a pretraining in `tmp_path/run`, stopped after its first checkpoint; called, it goes on."""
    config = PretrainConfig(minutes=0.05, depth=1, context=32, batch_size=2, compile=False)
    stages = [
        Prepare(PrepareConfig(data=str(tiny_corpus), near_duplicates=1.0)),
        TrainTokenizer(TrainTokenizerConfig(vocabulary=384)),
        Pretrain(config),
    ]

    def go_on() -> None:
        Pipeline(stages, tmp_path / "run").run(Progress())

    def save_and_stop(store: CheckpointStore, checkpoint: Checkpoint) -> None:
        save(store, checkpoint)
        raise Stopped

    save = CheckpointStore.save
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "save", save_and_stop)
        with pytest.raises(Stopped):
            go_on()
    return go_on


def refusal(go_on: Callable[[], None]) -> str:
    with pytest.raises(IngotError) as refused:
        go_on()
    assert refused.value.exit_code == 2
    return str(refused.value)


def test_another_model_another_corpus_another_tokenizer(
    half_done: Callable[[], None], tmp_path: Path
) -> None:
    (work,) = (tmp_path / "run").glob("work/pretrain-*")
    log = (work / "metrics.jsonl").read_text()

    plan = (work / "plan.json").read_text()
    wider = json.loads(plan)
    wider["model"]["feed_forward"] += 64
    (work / "plan.json").write_text(json.dumps(wider))
    text = refusal(half_done)
    old = json.loads(plan)["model"]["feed_forward"]
    assert f"[{old}, " in text or f", {old}]" in text
    assert f"[{old + 64}, " in text or f", {old + 64}]" in text
    (work / "plan.json").write_text(plan)

    ids = tmp_path / "run" / "tokenizer@1" / "tokens" / "train.bin"
    tokens = ids.read_bytes()
    ids.write_bytes(np.frombuffer(tokens, "<u2")[::-1].tobytes())
    text = refusal(half_done)
    assert "the checkpoint has data" in text and "this run has" in text
    ids.write_bytes(tokens)

    path = tmp_path / "run" / "tokenizer@1" / "tokenizer.json"
    tokenizer = path.read_text()
    path.write_text(tokenizer.replace('"version"', ' "version"', 1))
    text = refusal(half_done)
    assert "the tokenizer changed" in text and "tokenizer@1 has" in text
    path.write_text(tokenizer)

    assert (work / "metrics.jsonl").read_text() == log  # none of them made a step
    half_done()
    assert (tmp_path / "run" / "base@1").exists()
