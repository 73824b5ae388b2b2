"""What the stages that go on training a model share: its parent, a kept plan, and the folder at the end."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ingot import device as machine
from ingot.allocator import keep_freed_memory
from ingot.atomic import write_atomic
from ingot.models import huggingface
from ingot.models.decoder import Decoder
from ingot.objectives.objective import Batch, Objective
from ingot.optim.joint import OptimizerConfig
from ingot.pipeline import Context, LeftOut
from ingot.tokenizer.tokenizer import Tokenizer
from ingot.train.repeatable import repeatable
from ingot.train.step import Accumulate, loss_function
from ingot.train.trainer import DTYPES, TrainConfig

PLAN = "plan.json"


def load_parent(context: Context, stage: str) -> tuple[Decoder, Tokenizer]:
    """Loads what an earlier stage made, in float32, to train it further.

    Raises:
        LeftOut: that stage was left out.
    """
    parent = context.parents[stage]
    if parent.record.left_out is not None:
        raise LeftOut(f"there is no model to start from: stage '{stage}' was left out")
    model = huggingface.load(parent.path, dtype=torch.float32, device=context.device)
    return model, Tokenizer.load(parent.path)


def kept_plan(work: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns the plan of an earlier start where there is one; else makes it and keeps it.

    A plan counts steps, never seconds, so a run that goes on later ends where it was going.
    """
    path = work / PLAN
    if not path.exists():
        write_atomic(path, json.dumps(make(), indent=2) + "\n")
    plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return plan


def precision(device: str) -> Literal["fp32", "bf16"]:
    """Returns the name of the number type that matrix products run best in here."""
    return "bf16" if machine.has_fast_bf16(device) else "fp32"


def time_update(
    model: Decoder, objective: Objective, optimizer: OptimizerConfig, config: TrainConfig, device: str
) -> Callable[[Batch], float]:
    """Returns a stopwatch for updates that leaves the model as it is: a copy learns in its place.

    Returns:
        A function that makes one update with a batch and returns its seconds.
    """
    model = copy.deepcopy(model).train()
    machine.prepare_threads(config.threads)
    keep_freed_memory()
    dtype = DTYPES[config.precision]
    forward = loss_function(model, objective, dtype, config.compile, device)
    program = Accumulate(objective, forward, optimizer.build(model, dtype), config.micro_batch, config.clip)

    def seconds(batch: Batch) -> float:
        start = time.perf_counter()
        with repeatable(device):
            program.update({name: value.to(device) for name, value in batch.items()}, multiplier=1.0)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return seconds


def write_model(
    context: Context, model: Decoder, tokenizer: Tokenizer, plan: dict[str, Any], log: list[dict[str, Any]]
) -> None:
    """Fills the artifact's folder: the model, its tokenizer, the plan and the log; and the metrics.

    Args:
        context: of the stage.
        model: as trained.
        tokenizer: of the model.
        plan: what was chosen before step 1.
        log: one mapping per step.
    """
    special = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.special["<|im_end|>"],
        "pad_token_id": tokenizer.pad_id,
    }
    huggingface.save(context.folder, model, special=special)
    tokenizer.save(context.folder)
    (context.folder / PLAN).write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
    lines = "".join(json.dumps(line) + "\n" for line in log)
    (context.folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    seconds = log[-1]["seconds"]
    context.metrics |= {
        "parameters": model.parameter_count(),
        "steps": len(log),
        "tokens": log[-1]["tokens"],
        "seconds": seconds,
        "tokens_per_second": round(log[-1]["tokens"] / seconds, 1) if seconds else 0.0,
        "loss": late(log, "loss"),
        "peak_memory": machine.peak_memory(),
    }


def early(log: list[dict[str, Any]], name: str) -> float:
    """Returns the mean of a number over the first tenth of the steps."""
    return _mean(log[: _tenth(log)], name)


def late(log: list[dict[str, Any]], name: str) -> float:
    """Returns the mean of a number over the last tenth of the steps."""
    return _mean(log[-_tenth(log) :], name)


def _tenth(log: list[dict[str, Any]]) -> int:
    return max(1, len(log) // 10)


def _mean(lines: list[dict[str, Any]], name: str) -> float:
    return round(float(np.mean([line[name] for line in lines])), 6)
