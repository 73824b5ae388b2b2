"""The settings of a training: what reaches the trainer, what is refused, what fits, what changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ingot.artifact import read
from ingot.errors import ConfigError, IngotError, ResourceError
from ingot.models.decoder import DecoderConfig
from ingot.objectives.causal import CausalLM
from ingot.objectives.objective import Batch
from ingot.pipeline import Outlook, Pipeline
from ingot.progress import Progress
from ingot.stages import fitting
from ingot.stages.align import Align, AlignConfig
from ingot.stages.finetune import Finetune, FinetuneConfig
from ingot.stages.fitting import fitting_rows
from ingot.stages.prepare import Prepare, PrepareConfig
from ingot.stages.pretrain import Pretrain, PretrainConfig
from ingot.stages.tokenizer import TrainTokenizer, TrainTokenizerConfig
from ingot.stages.training import TrainingConfig
from ingot.train.trainer import TrainConfig

ALL_CHOSEN: dict[str, Any] = {
    "precision": "fp32",
    "micro_batch": 1,
    "clip": 0.5,
    "guard": {"sigmas": 9.0},
    "ema": 0.9,
    "patience": 50,
    "sharpness": 0.01,
    "recompute": "full",
    "watchdog": 99.0,
    "trackers": ["tensorboard"],
    "optimizer": {"name": "adamw", "rate": 0.002},
    "schedule": {"kind": "cosine"},
}


class Told(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def outlook(world: int = 1, device: str = "cpu", **settings: Any) -> Outlook:
    return Outlook(world, device, settings)


def stages(corpus: Path, **changes: Any) -> list[Any]:
    config = {"minutes": 0.05, "depth": 1, "context": 32, "batch_size": 2, "compile": False, **changes}
    return [
        Prepare(PrepareConfig(data=str(corpus), near_duplicates=1.0)),
        TrainTokenizer(TrainTokenizerConfig(vocabulary=384)),
        Pretrain(PretrainConfig.parse(config)),
    ]


def test_defaults_are_the_trainers_own() -> None:
    ours = TrainingConfig().train_config("cpu", 0, steps=10)
    usual = {"precision": ours.precision, "threads": ours.threads}
    assert ours == TrainConfig(steps=10, **usual)


@pytest.mark.usefixtures("known_speed")
def test_every_setting_reaches_the_trainer_and_the_plan(tiny_corpus: Path, tmp_path: Path) -> None:
    *_, base = Pipeline(stages(tiny_corpus, **ALL_CHOSEN), tmp_path / "run").run(Progress(), seed=3)
    plan = json.loads((base.path / "plan.json").read_text())["train"]
    for name, value in ALL_CHOSEN.items():
        if name == "guard":
            assert plan[name]["sigmas"] == 9.0
        elif name == "schedule":
            assert plan[name]["kind"] == "cosine"
        elif name not in ("trackers", "optimizer"):
            assert plan[name] == value, name
    assert plan["seed"] == 3
    assert list((tmp_path / "run" / "tracking" / "tensorboard").rglob("events*"))
    log = [json.loads(line) for line in (base.path / "metrics.jsonl").read_text().splitlines()]
    assert log[-1]["validation"] < 6.0


@pytest.mark.usefixtures("known_speed")
def test_how_a_training_is_watched_and_shared_does_not_make_it_another(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    Pipeline(stages(tiny_corpus), tmp_path / "run").run(Progress())
    changes = {"trackers": ["tensorboard"], "watchdog": None, "recompute": "full"}
    *_, base = Pipeline(stages(tiny_corpus, **changes), tmp_path / "run").run(Progress())
    assert base.address == "base@1"
    told = Told()
    *_, other = Pipeline(stages(tiny_corpus, ema=0.9, **changes), tmp_path / "run").run(told)
    assert other.address == "base@2"
    assert any(line.endswith("base@1 stays (ema None -> 0.9)") for line in told.lines)


def test_a_run_goes_on_with_the_watchdog_of_now() -> None:
    planned = TrainingConfig(watchdog=5.0, ema=0.9).train_config("cpu", 0, steps=10)
    now = TrainingConfig(watchdog=None, recompute="full", ema=0.5).going_on(planned)
    assert (now.watchdog, now.recompute, now.ema) == (None, "full", 0.9)


REFUSED: list[tuple[dict[str, Any], Outlook, list[str]]] = [
    ({"micro_batch": 20}, outlook(), ["pretrain.micro_batch", "20", "16"]),
    ({"batch_size": 10}, outlook(world=4), ["pretrain.batch_size", "10", "4 ranks"]),
    ({"precision": "tf32"}, outlook(), ["pretrain.precision", "tf32", "cpu"]),
    ({"parallel": {"data": "fsdp", "copies": 3}}, outlook(world=4), ["pretrain.parallel.copies", "4", "3"]),
]


@pytest.mark.parametrize(("changes", "seen", "words"), REFUSED)
def test_what_cannot_work_is_refused_beforehand(
    changes: dict[str, Any], seen: Outlook, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        Pretrain(PretrainConfig.parse(changes)).check(seen)
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_a_missing_tracker_is_refused_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ResourceError, match="'mlflow' is not installed"):
        Pretrain(PretrainConfig.parse({"trackers": "mlflow"})).check(outlook())


def test_lengths_that_the_model_has_no_positions_for_are_refused_beforehand() -> None:
    model = PretrainConfig(context=128)
    with pytest.raises(ConfigError, match="context of 256 tokens is longer than the model's 128 positions"):
        Finetune(FinetuneConfig(context=256)).check(outlook(pretrain=model))
    with pytest.raises(ConfigError, match=r"answers of 160 tokens .* 128 positions"):
        Align(AlignConfig()).check(outlook(pretrain=model))
    Finetune(FinetuneConfig(context=128)).check(outlook(pretrain=model))
    Align(AlignConfig(answer_tokens=64)).check(outlook(pretrain=model))


def test_a_check_comes_before_all_work(tiny_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="micro-batch of 3 rows is larger than the batch of 2"):
        Pipeline(stages(tiny_corpus, micro_batch=3), tmp_path / "run").run(Progress())
    assert not (tmp_path / "run").exists()


MODEL = DecoderConfig(
    vocabulary=64, width=32, layers=2, heads=2, kv_heads=1, head_width=16, feed_forward=64, context=32
)
TRAIN = TrainConfig(steps=1)


def rows(count: int) -> Batch:
    ids = torch.randint(0, 64, (count, 33), generator=torch.Generator().manual_seed(0))
    return {"inputs": ids[:, :-1].contiguous(), "targets": ids[:, 1:].contiguous()}


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says how many bytes are free, whatever the machine has."""

    def say(count: int) -> None:
        monkeypatch.setattr(fitting, "free_memory", lambda device, reserved=0: count)

    return say


def fit(asked: Any, told: Progress | None = None) -> int | None:
    return fitting_rows(
        "pretrain", MODEL, MODEL.build, CausalLM(), rows(8), asked, TRAIN, "cpu", told or Progress()
    )


def test_fit_chooses_what_memory_allows_and_says_so(free: Callable[[int], None]) -> None:
    free(10**12)
    assert fit("fit") == 8
    chosen = []
    for count in (500_000, 900_000, 2_000_000):
        free(count)
        told = Told()
        chosen.append(fit("fit", told))
        assert f"pretrain runs {chosen[-1]} of 8 rows at once" in told.lines[0]
    assert chosen == sorted(chosen) and chosen[0] < 8


def test_without_fit_what_does_not_fit_is_refused_before_step_1(free: Callable[[int], None]) -> None:
    free(10**12)
    assert (fit(None), fit(4)) == (None, 4)
    free(600_000)
    for asked in (None, 8):
        with pytest.raises(IngotError) as refused:
            fit(asked)
        text = str(refused.value)
        assert text.startswith("pretrain.micro_batch: a micro-batch of 8 needs")
        assert "0.6 MB are free" in text and "--fit would choose" in text


@pytest.mark.usefixtures("known_speed")
def test_a_schedule_longer_than_the_run_is_refused_before_step_1(tiny_corpus: Path, tmp_path: Path) -> None:
    slow = {"kind": "linear", "warmup_steps": 10**6}
    with pytest.raises(ConfigError, match=r"warmup \(1,000,000\) .* longer than the run of"):
        Pipeline(stages(tiny_corpus, schedule=slow), tmp_path / "run").run(Progress())
    assert not list((tmp_path / "run").glob("work/*/metrics.jsonl"))
    assert read(tmp_path / "run" / "tokenizer@1").record.left_out is None
