"""The training loop: the same for every objective.

```
batch <- stream.batch(step)   loss, gradient <- objective   weights <- optimizer   state -> checkpoint
```

A run is a pure function of its plan, its stream and its first weights: whatever is killed, starting
the same again goes on from the last checkpoint with the same losses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from ingot import device as machine
from ingot.checkpoint.store import CheckpointStore
from ingot.config import Config
from ingot.errors import IngotError
from ingot.objectives.objective import Objective
from ingot.optim.joint import Joint
from ingot.optim.schedules import ScheduleConfig
from ingot.progress import Progress
from ingot.train.log import MetricsLog
from ingot.train.state import TrainState
from ingot.train.step import Accumulate, Update, loss_function

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MOST_SKIPPED_IN_ROW = 10


class TrainConfig(Config):
    """The choices made for one run; a plan fixes them before step 1, and a resumed run keeps them."""

    steps: int = Field(gt=0)
    checkpoint_every: int = Field(default=100, gt=0)
    micro_batch: int | None = None
    clip: float | None = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    threads: int = Field(default=1, gt=0)
    schedule: ScheduleConfig = ScheduleConfig()


class BatchSource(Protocol):
    """What the loop needs of a stream."""

    def batch(self, step: int) -> dict[str, Tensor]:
        """Returns the batch of a step, whatever was asked before."""
        ...


class Trainer:
    """Trains a model by an objective on a stream.

    Args:
        model: in float32, on `device`; changed in place.
        objective: what to minimise.
        stream: gives the batch of any step. Where it has `numbers`, a mapping of what it saw in
            making its last batch (rewards of rollouts), they are logged with the step.
        optimizer: over the model's parameters.
        config: the run's choices.
        work: folder that survives kills: `checkpoints/` and `metrics.jsonl` live there.
        device: where the model is.
        validate: measures the model on data that it is not trained on; called at every checkpoint, its
            numbers are logged with the step. It changes nothing.

    Example:
        >>> Trainer(model, CausalLM(), stream, OptimizerConfig().build(model),
        ...         TrainConfig(steps=100), work).fit(Progress(), "training")   # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        stream: BatchSource,
        optimizer: Joint,
        config: TrainConfig,
        work: Path,
        device: str = "cpu",
        validate: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        self.config = config
        self.validate = validate
        self.stream = stream
        self.device = device
        self.state = TrainState(model, optimizer)
        work.mkdir(parents=True, exist_ok=True)
        self.store = CheckpointStore(work / "checkpoints")
        self.log = MetricsLog(work / "metrics.jsonl")
        loss = loss_function(model, objective, DTYPES[config.precision], config.compile, device)
        self.program = Accumulate(objective, loss, optimizer, config.micro_batch, config.clip)

    def fit(self, progress: Progress, what: str) -> list[dict[str, Any]]:
        """Runs from where the run stands to its last step.

        Args:
            progress: is told what is done.
            what: the work in words, for the progress bar.

        Returns:
            The log: one mapping per step.

        Raises:
            IngotError: the gradient was not finite many steps in a row.
        """
        machine.prepare_threads(self.config.threads)
        state = self.state
        resumed = self.store.newest()
        if resumed is not None:
            state.restore(resumed)
            self.log.cut(state.step)
            progress.say(f"{what}: going on after step {state.step:,} of {self.config.steps:,}")
        else:
            self.log.cut(0)
        state.model.train()
        with progress.task(what, total=self.config.steps, unit="steps") as task:
            task.at(state.step)
            while state.step < self.config.steps:
                line = self.step()
                task.at(state.step, _in_words(line))
                if self._saves_at(state.step):
                    self.store.save(state.checkpoint())
        return self.log.read()

    def step(self) -> dict[str, Any]:
        """Makes one update and returns its line of the log."""
        state, start = self.state, time.perf_counter()
        multiplier = self.config.schedule.multiplier(state.step, self.config.steps)
        batch = self.stream.batch(state.step)
        batch = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        update = self.program.update(batch, multiplier)
        self._count(update, batch)
        state.seconds += time.perf_counter() - start
        seen: Mapping[str, float] = getattr(self.stream, "numbers", {})
        line = {
            "step": state.step,
            "loss": update.loss,
            "rate": multiplier,
            "gradient_norm": update.gradient_norm,
            "tokens": int(state.weight),
            "seconds": round(state.seconds, 3),
            **update.metrics,
            **seen,
        }
        if self.validate is not None and self._saves_at(state.step):
            line |= self.validate()
        self.log.append(line)
        return line

    def _saves_at(self, step: int) -> bool:
        return step % self.config.checkpoint_every == 0 or step == self.config.steps

    def _count(self, update: Update, batch: dict[str, Tensor]) -> None:
        state = self.state
        state.step += 1
        if update.accepted:
            state.weight += update.weight
            state.skipped_in_row = 0
            return
        state.skipped += 1
        state.skipped_in_row += 1
        if state.skipped_in_row >= MOST_SKIPPED_IN_ROW:
            samples = batch["sample_ids"].tolist() if "sample_ids" in batch else "unknown"
            raise IngotError(
                f"the gradient was not finite {state.skipped_in_row} times in a row (samples {samples})",
                where=f"step {state.step}",
                fix="lower the learning rate or use precision fp32",
            )


def _in_words(line: dict[str, Any]) -> str:
    """The numbers that matter while watching."""
    words = [f"loss {line['loss']:.3f}"]
    words += [f"{name} {line[name]:.2f}" for name in ("reward", "success") if name in line]
    if line["seconds"] > 0:
        words.append(f"{line['tokens'] / line['seconds']:,.0f} tokens/s")
    return "  ".join(words)
