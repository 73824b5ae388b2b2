"""What a person may choose of a training, whatever it trains; and what of that cannot work here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from ingot import device as machine
from ingot.config import Config
from ingot.errors import ConfigError, did_you_mean
from ingot.optim.joint import OptimizerConfig
from ingot.optim.schedules import ScheduleConfig
from ingot.parallel.apply import ParallelConfig
from ingot.pipeline import Context, Outlook
from ingot.report.live import LivePage
from ingot.train.guard import GuardConfig
from ingot.train.hooks import Hook
from ingot.train.precision import Name
from ingot.train.trackers import TRACKERS, tracker
from ingot.train.trainer import TrainConfig

TRACKING = "tracking"
"""Folder of a run that trackers write to; it outlives the work folder."""

PAGE = "page"
"""The tracker that draws the run as a page while it goes."""

INDIFFERENT = ("trackers", "watchdog", "stop_hung", "recompute", "parallel")
"""Settings that do not decide what is trained: a run may go on with others than it began with."""

_ANY_STEPS = 2**40


class TrainingConfig(Config):
    """The settings of every training stage.

    Args:
        optimizer: which, its learning rates, and exceptions by name (docs/optimizers.md).
        schedule: of the learning rates.
        freeze: patterns over the names of weights that keep their values (`embedding*`, `blocks.[01].*`).
        precision: of matrix products: fp32, tf32, bf16 or fp16; None is bf16 where it is fast, else fp32.
        micro_batch: rows that run at once; None is the stage's usual number, "fit" what memory allows.
        clip: largest norm of the gradient, or None.
        guard: when to refuse an update.
        ema: decay of an average of the weights, which becomes the result; or None.
        patience: checkpoints without improvement on held-out text after which the training ends with its
            best weights; or None.
        sharpness: rho of sharpness-aware minimisation (SAM), which doubles the time of a step; or None.
        recompute: activation checkpointing, "full" or "selective": less memory for more time; or None.
        parallel: how several processes share the training (docs/parallel.md).
        watchdog: seconds without a sign of life after which all stacks are written out, or None.
        stop_hung: whether a process that hangs then ends (exit code 75), for a scheduler to start it again.
        trackers: who is told besides `metrics.jsonl`: page (live, tracking/*.html), tensorboard,
            wandb, mlflow, trackio.
    """

    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    freeze: tuple[str, ...] = ()
    precision: Name | None = None
    micro_batch: int | Literal["fit"] | None = None
    clip: float | None = Field(default=1.0, gt=0)
    guard: GuardConfig = GuardConfig()
    ema: float | None = Field(default=None, gt=0, lt=1)
    patience: int | None = Field(default=None, gt=0)
    sharpness: float | None = Field(default=None, gt=0)
    recompute: Literal["full", "selective"] | None = None
    parallel: ParallelConfig = ParallelConfig()
    watchdog: float | None = Field(default=600.0, gt=0)
    stop_hung: bool = False
    trackers: tuple[str, ...] = ()

    @field_validator("micro_batch", mode="before")
    @classmethod
    def _some_rows(cls, rows: Any) -> Any:
        if rows not in (None, "fit") and not (isinstance(rows, int) and rows > 0):
            raise ValueError("give 1 row or more, or 'fit'")
        return rows

    @field_validator("freeze", mode="before")
    @classmethod
    def _patterns(cls, patterns: Any) -> Any:
        """Lets a recipe write one pattern without a list around it."""
        return (patterns,) if isinstance(patterns, str) else () if patterns is None else patterns

    @field_validator("trackers", mode="before")
    @classmethod
    def _known_trackers(cls, names: Any) -> Any:
        listed = [names] if isinstance(names, str) else names
        for name in listed or ():
            if name not in (PAGE, *TRACKERS):
                raise ValueError(f"no tracker has this name; {did_you_mean(str(name), (PAGE, *TRACKERS))}")
        return () if listed is None else listed

    def train_config(self, device: str, seed: int, **planned: Any) -> TrainConfig:
        """Returns the choices of a run: what was asked for, and what was planned.

        Args:
            device: where to train.
            seed: of the run.
            planned: `steps`, and what else the plan decides (`micro_batch`, `compile`, ...).
        """
        rows = self.micro_batch if isinstance(self.micro_batch, int) else None
        chosen: dict[str, Any] = {
            "precision": self.precision or usual_precision(device),
            "micro_batch": rows,
            "threads": machine.threads(),
            "seed": seed,
        }
        same = ("schedule", "clip", "guard", "ema", "patience", "sharpness", *INDIFFERENT[1:])
        chosen |= {name: getattr(self, name) for name in same}
        return TrainConfig(**(chosen | planned))

    def going_on(self, planned: TrainConfig) -> TrainConfig:
        """Returns what was planned before step 1, with the choices of now where they may differ."""
        return planned.model_copy(update={name: getattr(self, name) for name in INDIFFERENT[1:]})

    def hooks(self, context: Context) -> list[Hook]:
        """Returns the trackers, writing to the run folder."""
        folder = context.folder.parent / TRACKING
        return [LivePage(folder) if name == PAGE else tracker(name, folder) for name in self.trackers]

    def check(self, stage: str, batch_size: int, outlook: Outlook, validated: bool = True) -> None:
        """Refuses what cannot work, before anything is computed.

        Args:
            stage: whose settings these are.
            batch_size: rows of the global batch.
            outlook: the processes and the device.
            validated: whether the stage can measure the model on held-out data.

        Raises:
            ConfigError: names both values that do not go together.
            ResourceError: a tracker's library is not installed.
        """
        if isinstance(self.micro_batch, int) and self.micro_batch > batch_size:
            what = f"a micro-batch of {self.micro_batch} rows is larger than the batch of {batch_size}"
            raise ConfigError(what, where=f"{stage}.micro_batch", fix=f"use {batch_size} or less")
        try:
            train = self.train_config(outlook.device, 0, steps=_ANY_STEPS)
            train.check(batch_size, outlook.world, outlook.device, validated)
            self.parallel.grid(outlook.world)
        except ConfigError as error:
            key = (error.where or "").removeprefix("train.")
            raise ConfigError(error.what, where=f"{stage}.{key}", fix=error.fix) from None
        for name in set(self.trackers) - {PAGE}:
            tracker(name, Path(TRACKING))


def usual_precision(device: str) -> Literal["fp32", "bf16"]:
    """Returns the name of the number type that matrix products run best in here."""
    return "bf16" if machine.has_fast_bf16(device) else "fp32"
