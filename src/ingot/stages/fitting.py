"""The micro-batch: chosen by what memory allows, or refused before step 1 where it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn

from ingot.errors import IngotError
from ingot.models.decoder import DecoderConfig
from ingot.objectives.objective import Batch, Objective
from ingot.parallel.apply import ParallelConfig, parallelize
from ingot.parallel.ranks import ALONE
from ingot.progress import Progress
from ingot.train.fit import check_micro_batch, free_memory, largest_micro_batch, trial
from ingot.train.memory import update_memory
from ingot.train.step import loss_function
from ingot.train.trainer import DTYPES, TrainConfig

CERTAIN = 0.5
"""Share of the free memory below which the estimate (good within a quarter) is believed without a trial."""


def fitting_rows(
    stage: str,
    model: DecoderConfig,
    build: Callable[[], nn.Module],
    objective: Objective,
    batch: Batch,
    asked: int | Literal["fit"] | None,
    config: TrainConfig,
    device: str,
    progress: Progress,
) -> int | None:
    """Returns the micro-batch to train with.

    Args:
        stage: to name in what is said.
        model: its sizes.
        build: makes a model to try, on `device`; called only where a trial is needed.
        objective: whose forward and backward pass is tried.
        batch: the largest of the run: this process's rows.
        asked: rows, all of them (None), or "fit".
        config: precision and recomputation of the run.
        device: where to train.
        progress: told what was chosen.

    Raises:
        ResourceError: what was asked for does not fit, or nothing does; names both sizes.
    """
    rows = len(next(iter(batch.values())))
    needed = update_memory(model, rows if asked in (None, "fit") else int(asked), config.precision)
    limit = free_memory(device, reserved=needed.optimizer + needed.work)
    if asked != "fit" and needed.total < CERTAIN * limit:
        return asked
    tried = build().train()
    learner = parallelize(tried, ParallelConfig(), ALONE, recompute=config.recompute)
    forward = loss_function(learner, objective, DTYPES[config.precision], False, device)
    try_rows = trial(tried, forward, batch, device, limit)
    try:
        if asked != "fit":
            check_micro_batch(try_rows, asked or rows, rows, limit)
            return asked
        chosen = largest_micro_batch(try_rows, rows, limit)
    except IngotError as error:
        error.where = f"{stage}.micro_batch"
        raise
    progress.say(
        f"fit: {stage} runs {chosen} of {rows} rows at once; {limit / 1e9:.1f} GB are free for them "
        f"({stage}.micro_batch={chosen})"
    )
    return chosen
