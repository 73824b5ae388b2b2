"""What the stages that learn from examples share: settings, the number of steps, the training, the figures.

```
examples or text -> rows -> RowStream -> [ plan, Trainer ] -> folder -> figures beside simple baselines
```
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from ingot import device as machine
from ingot.atomic import publish
from ingot.data.labelled.batches import RowStream
from ingot.evaluate.scores import Score
from ingot.objectives.objective import Batch, Objective
from ingot.optim.joint import OptimizerConfig
from ingot.optim.schedules import ScheduleConfig
from ingot.pipeline import Context, Outlook
from ingot.stages.training import TrainingConfig
from ingot.stages.tuning import PLAN, kept_plan, late, time_update
from ingot.tokenizer.tokenizer import Tokenizer
from ingot.tokenizer.training import TokenizerConfig
from ingot.train.log import as_text
from ingot.train.trainer import DTYPES, TrainConfig, Trainer

T = TypeVar("T")

AT_ONCE = 64
"""Rows that are measured on at once."""

_MEASURED = 3
_CHECKPOINT_SECONDS = 30.0


class LearningConfig(TrainingConfig):
    """The settings of a stage that learns from examples; see `TrainingConfig` for what all training has.

    Args:
        minutes: for the training, at most; the number of steps is chosen to fit.
        epochs: passes over the rows at most.
        batch_size: rows per step.
        context: tokens of a row at most.
        vocabulary: entries of the tokenizer, where one is learnt.
        tokenizer: its kind and settings (docs/tokenizers.md).
        width: of the model, where one is begun.
        layers: of the model, where one is begun.
        dropout: on embeddings and on what each part adds, in training.
        tried: held-out rows that are measured on, at most; they are spread over all.
    """

    minutes: float = Field(default=3.0, gt=0)
    epochs: float = Field(default=10.0, gt=0)
    batch_size: int = Field(default=32, gt=0)
    context: int = Field(default=128, ge=16, multiple_of=8)
    vocabulary: int = Field(default=8192, ge=300)
    tokenizer: TokenizerConfig = TokenizerConfig(kind="wordpiece")
    width: int = Field(default=192, ge=32, multiple_of=32)
    layers: int = Field(default=4, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    tried: int = Field(default=2000, gt=0)
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig(warmup=0.05, decay=0.95)

    def refuse(self, stage: str, outlook: Outlook) -> None:
        """Refuses what cannot work; the stages call it from their `check`.

        Early stopping is refused too: nothing may be chosen by the held-out part.

        Raises:
            ConfigError: names both values that do not go together.
        """
        self.check(stage, self.batch_size, outlook, validated=False)


def capped(context: Context, texts: Iterable[str], megabytes: float, side: str) -> list[str]:
    """Returns the first texts, up to so many millions of characters, and notes where that is not all."""
    kept: list[str] = []
    room = int(1e6 * megabytes)
    for text in texts:
        if room <= 0:
            context.notes.append(f"Only the first {megabytes:g} MB of the {side} text are used.")
            break
        kept.append(text[:room])
        room -= len(text)
    return kept


def spread(rows: Sequence[T], most: int) -> list[T]:
    """Returns some of the rows, evenly spread, since files are often sorted; all where they are few.

    Example:
        >>> spread(range(10), 4)
        [0, 2, 5, 7]
    """
    return list(rows) if len(rows) <= most else [rows[len(rows) * place // most] for place in range(most)]


class Fitted(NamedTuple):
    """What a training left: its plan, and one mapping per step."""

    plan: dict[str, Any]
    log: list[dict[str, Any]]


def learnt_tokenizer(context: Context, config: LearningConfig, texts: Iterable[str]) -> Tokenizer:
    """Learns a tokenizer from texts, or returns that of an earlier start."""
    kept = context.work / "tokenizer"
    if not kept.exists():
        with context.progress.task("learning the vocabulary", config.vocabulary, "entries") as task:
            tokenizer = Tokenizer.train(texts, config.vocabulary, task, config.tokenizer)
        with publish(kept) as folder:
            tokenizer.save(folder)
    return Tokenizer.load(kept)


def fit(
    context: Context,
    config: LearningConfig,
    what: str,
    model: nn.Module,
    objective: Objective,
    stream: RowStream,
) -> Fitted:
    """Trains a model for the minutes or the epochs that are given, whichever ends first.

    Args:
        context: of the stage.
        config: its settings.
        what: the work in words.
        model: changed in place; on the device at the end.
        objective: to minimise.
        stream: of rows to learn from.
    """
    model.to(context.device)
    plan = kept_plan(context.work, lambda: _plan(context, config, model, objective, stream))
    train = TrainConfig.parse(plan["train"], where=context.work / PLAN)
    trainer = Trainer(
        model,
        objective,
        stream,
        config.optimizer.build(model, DTYPES[train.precision]),
        config.going_on(train),
        context.work,
        context.device,
        hooks=config.hooks(context),
    )
    log = trainer.fit(context.progress, what)
    model.eval()
    return Fitted(plan, log)


def _plan(
    context: Context, config: LearningConfig, model: nn.Module, objective: Objective, stream: RowStream
) -> dict[str, Any]:
    """Measures a few updates and chooses the number of steps."""
    most = max(1, round(config.epochs * stream.batches_per_epoch))
    train = config.train_config(context.device, context.seed, steps=most)
    stopwatch = time_update(model, objective, config.optimizer, train, context.device)
    spread = np.linspace(0, stream.batches_per_epoch - 1, _MEASURED + 1).astype(int).tolist()
    stopwatch(stream.batch(spread[0]))  # the first is slower than all others
    seconds = sum(stopwatch(stream.batch(step)) for step in spread[1:]) / _MEASURED
    steps = max(1, min(most, int(60 * config.minutes / seconds)))
    every = max(10, min(-(-steps // 8), round(_CHECKPOINT_SECONDS / seconds)))
    return {
        "train": train.model_copy(update={"steps": steps, "checkpoint_every": every}).plain(),
        "most_steps": most,
        "expected_seconds": round(steps * seconds, 1),
        "measured": {"seconds_per_step": round(seconds, 5), "updates": _MEASURED},
    }


def each(
    model: nn.Module, batches: Sequence[Batch], look: Callable[[Batch], Any], context: Context, what: str
) -> list[Any]:
    """Looks at held-out batches with a trained model.

    Args:
        model: in evaluation mode.
        batches: held out.
        look: is called with each, on the device.
        context: of the stage.
        what: the work in words.

    Returns:
        What `look` returned, in order.
    """
    found = []
    with torch.inference_mode(), context.progress.task(what, len(batches), "batches") as task:
        for batch in batches:
            found.append(look({name: value.to(context.device) for name, value in batch.items()}))
            task.advance(1)
    return found


def write_training(context: Context, model: nn.Module, tokenizer: Tokenizer, fitted: Fitted) -> None:
    """Writes what belongs to every trained model's folder but the model, and fills the metrics."""
    tokenizer.save(context.folder)
    (context.folder / PLAN).write_text(json.dumps(fitted.plan, indent=2) + "\n", encoding="utf-8")
    lines = "".join(map(as_text, fitted.log))
    (context.folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    context.metrics |= {
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": len(fitted.log),
        "seconds": fitted.log[-1]["seconds"],
        "loss": late(fitted.log, "loss"),
        "peak_memory": machine.peak_memory(),
    }


def write_scores(
    context: Context, task: str, scores: Sequence[Score], details: dict[str, Any] | None = None
) -> None:
    """Writes `evaluation.json`, and says the figures: to the record, to the report and to who watches.

    Args:
        context: of the stage.
        task: what was measured.
        scores: the main one first.
        details: anything else for the file.
    """
    found = {score.measure: score.plain(context.seed) for score in scores}
    evaluation = {"task": task, "scores": found, **(details or {}), "machine": machine.describe()}
    text = json.dumps(evaluation, indent=2, ensure_ascii=False) + "\n"
    (Path(context.folder) / "evaluation.json").write_text(text, encoding="utf-8")
    for score in scores:
        context.metrics[score.measure.replace(" ", "_")] = round(score.value, 5)
        words = score.words(context.seed)
        context.notes.append(words)
        context.progress.say(words)
