"""The choices made for one run of training, and which of them cannot go together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ingot.config import Config
from ingot.errors import ConfigError
from ingot.optim.schedules import ScheduleConfig
from ingot.parallel.apply import ParallelConfig
from ingot.train.guard import GuardConfig
from ingot.train.precision import Name

KEPT = ("threads", "compile", "precision", "micro_batch")
"""Choices that change the last bits of a loss: a resumed run keeps those that it began with."""


class TrainConfig(Config):
    """The choices made for one run; a plan fixes them before step 1, and a resumed run keeps them.

    Args:
        steps: of the run.
        checkpoint_every: steps between checkpoints, at which the model is also validated.
        micro_batch: rows that run at once; None is all of this process's.
        clip: largest norm of the gradient, or None.
        precision: of matrix products (ingot.train.precision).
        compile: whether torch.compile fuses the forward and backward pass.
        threads: of the CPU.
        schedule: of the learning rates.
        guard: when to refuse an update.
        ema: decay of an average of the weights, which is validated and becomes the result; or None.
        patience: checkpoints without improvement after which the run ends with its best weights; or None.
        sharpness: rho of sharpness-aware minimisation, which doubles the time of a step; or None.
        recompute: activation checkpointing: less memory for more time.
        seed: of what a model draws at random.
        parallel: how several processes share the run.
        watchdog: seconds without a sign of life after which the stacks are written out, or None.
        stop_hung: whether a process that hangs then ends (exit code 75), for a scheduler to start it again.
    """

    steps: int = Field(gt=0)
    checkpoint_every: int = Field(default=100, gt=0)
    micro_batch: int | None = Field(default=None, gt=0)
    clip: float | None = Field(default=1.0, gt=0)
    precision: Name = "fp32"
    compile: bool = False
    threads: int = Field(default=1, gt=0)
    schedule: ScheduleConfig = ScheduleConfig()
    guard: GuardConfig = GuardConfig()
    ema: float | None = Field(default=None, gt=0, lt=1)
    patience: int | None = Field(default=None, gt=0)
    sharpness: float | None = Field(default=None, gt=0)
    recompute: Literal["full", "selective"] | None = None
    seed: int = 0
    parallel: ParallelConfig = ParallelConfig()
    watchdog: float | None = Field(default=600.0, gt=0)
    stop_hung: bool = False

    def check(self, batch_size: int | None, ranks: int, device: str, validated: bool) -> None:
        """Refuses what cannot work, before anything is computed.

        Args:
            batch_size: rows of the global batch, where it is known.
            ranks: processes that share it.
            device: where the model is.
            validated: whether something measures the model at checkpoints.

        Raises:
            ConfigError: names both values that do not go together.
        """
        self.schedule.check(self.steps)
        if self.precision == "tf32" and not device.startswith("cuda"):
            what = f"precision tf32 needs CUDA, the device is {device}"
            raise ConfigError(what, where="train.precision", fix="use fp32, or bf16 where it is fast")
        if self.patience is not None and not validated:
            what = f"patience is {self.patience} checkpoints, but nothing is validated"
            raise ConfigError(what, where="train.patience", fix="give a validation, or no patience")
        if batch_size is not None and batch_size % ranks:
            what = f"a global batch of {batch_size} rows cannot be shared evenly by {ranks} ranks"
            raise ConfigError(what, where="batch_size", fix=f"use a multiple of {ranks}")
