"""What the stages that train share: the parent model, a kept plan, a stopwatch, and the folder at the end."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ingot import device as machine
from ingot.allocator import keep_freed_memory
from ingot.artifact import Artifact
from ingot.atomic import write_atomic
from ingot.errors import ArtifactError
from ingot.models import huggingface
from ingot.models.decoder import Decoder
from ingot.models.foresight import Foresight
from ingot.objectives.objective import Batch, Objective
from ingot.optim import shards
from ingot.optim.joint import OptimizerConfig
from ingot.parallel.apply import ParallelConfig, parallelize
from ingot.parallel.ranks import ALONE, Ranks, join
from ingot.pipeline import Context, LeftOut
from ingot.record import file_hash
from ingot.tokenizer.tokenizer import Tokenizer
from ingot.train.log import as_text
from ingot.train.precision import Scaler, autocast, products
from ingot.train.repeatable import repeatable
from ingot.train.sharpness import SharpnessAware
from ingot.train.step import Accumulate, StepProgram, loss_function
from ingot.train.trainer import DTYPES, TrainConfig

PLAN = "plan.json"
TOKENIZER = "tokenizer.json"


def load_parent(context: Context, stage: str) -> tuple[Decoder, Tokenizer]:
    """Loads what an earlier stage made, in float32, to train it further.

    Raises:
        LeftOut: that stage was left out.
        ArtifactError: the tokenizer is not the one that the model was trained with.
    """
    parent = context.parents[stage]
    if parent.record.left_out is not None:
        raise LeftOut(f"there is no model to start from: stage '{stage}' was left out")
    tokenizer = load_tokenizer(parent)
    model = huggingface.load(parent.path, dtype=torch.float32, device=context.device)
    if tokenizer.vocab_size != model.config.vocabulary:
        what = f"the tokenizer has {tokenizer.vocab_size} entries, the model {model.config.vocabulary}"
        raise ArtifactError(what, where=parent.path, fix=f"delete {parent.path} to have it made again")
    return model, tokenizer


def can_chat(tokenizer: Tokenizer, parent: Artifact) -> None:
    """Refuses a tokenizer in which messages cannot be told apart.

    Raises:
        ArtifactError: says how to add the tokens.
    """
    missing = [role for role in ("start", "end") if role not in tokenizer.parts.roles]
    if missing:
        what = f"its tokenizer has no control token for the {' and the '.join(missing)} of a message"
        fix = "add them to the base model: ingot model extend DIR --chat"
        raise ArtifactError(what, where=parent.path, fix=fix)


def load_tokenizer(parent: Artifact) -> Tokenizer:
    """Loads the tokenizer of an artifact, which must be as it was made: token ids mean nothing to another.

    Raises:
        ArtifactError: the file was changed since.
    """
    path = parent.path / TOKENIZER
    made, now = parent.record.files.get(TOKENIZER, ""), file_hash(path) if path.is_file() else "none"
    if made != now:
        what = (
            f"the tokenizer changed: its hash is {now[:12]}, the record of {parent.address} has {made[:12]}"
        )
        raise ArtifactError(what, where=path, fix=f"delete {parent.path} to have it made again")
    return Tokenizer.load(parent.path)


def ranks_of(context: Context) -> Ranks:
    """Returns this process and those that share the stage with it."""
    return join(context.device) if context.crew.world > 1 else ALONE


def shared_plan(context: Context, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns the kept plan; of several processes the lead measures and decides, the others are told."""
    return context.crew.by_lead(lambda: kept_plan(context.work, make))


def kept_plan(work: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns the plan of an earlier start where there is one; else makes it and keeps it.

    A plan counts steps, never seconds, so a run that goes on later ends where it was going.
    """
    path = work / PLAN
    if not path.exists():
        write_atomic(path, json.dumps(make(), indent=2) + "\n")
    plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return plan


def time_update(
    model: nn.Module, objective: Objective, optimizer: OptimizerConfig, config: TrainConfig, device: str
) -> Callable[[Batch], float]:
    """Returns a stopwatch for updates that leaves the model as it is: a copy learns in its place.

    Returns:
        A function that makes one update with a batch and returns its seconds.
    """
    model = copy.deepcopy(model).train()
    machine.prepare_threads(config.threads)
    keep_freed_memory()
    dtype = DTYPES[config.precision]
    joint = optimizer.build(model, dtype)
    learner = parallelize(model, ParallelConfig(), ALONE, recompute=config.recompute)
    forward = loss_function(learner, objective, dtype, config.compile, device)
    scaler = Scaler() if config.precision == "fp16" else None
    usual = Accumulate(objective, forward, joint, config.micro_batch, config.clip, scaler=scaler)
    program: StepProgram = usual
    if config.sharpness is not None:
        program = SharpnessAware(usual.gradients, joint, config.sharpness, config.clip)

    def seconds(batch: Batch) -> float:
        start = time.perf_counter()
        with repeatable(device), products(config.precision):
            program.update({name: value.to(device) for name, value in batch.items()}, multiplier=1.0)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return seconds


def validation(
    model: nn.Module, objective: Objective, batches: Sequence[Batch], dtype: torch.dtype, device: str
) -> Callable[[], dict[str, float]] | None:
    """Returns a quick look at held-out data, or None where there is none.

    The exact figure is the evaluation's; this one shows the course of the training, and whether the
    model begins to learn its training text by heart.

    Args:
        model: looked at, not changed.
        objective: whose loss is taken.
        batches: held out.
        dtype: of the matrix products.
        device: where the model is.

    Returns:
        A function that gives `validation`, the loss per counted item (nats per token).
    """
    weight = sum(objective.weight(batch) for batch in batches)

    @torch.no_grad()
    def look() -> dict[str, float]:
        total = 0.0
        model.eval()
        with autocast(dtype, device):
            for batch in batches:
                part = {name: value.to(device) for name, value in batch.items()}
                total += float(objective.loss(model, part).sum)
        model.train()
        return {"validation": total / weight}

    return look if weight > 0 else None


def write_model(
    context: Context,
    model: Decoder | Foresight,
    tokenizer: Tokenizer,
    plan: dict[str, Any],
    log: list[dict[str, Any]],
) -> None:
    """Fills the artifact's folder: the model, its tokenizer, the plan and the log; and the metrics.

    All processes of a crew call this; the lead writes.

    Args:
        context: of the stage.
        model: as trained, whole or cut over the ranks; heads that looked ahead are left behind.
        tokenizer: of the model.
        plan: what was chosen before step 1.
        log: one mapping per step; none where nothing was trained.
    """
    model = whole(model)
    if not context.crew.lead:
        return
    huggingface.save(context.folder, model, special=role_ids(tokenizer))
    tokenizer.save(context.folder)
    (context.folder / PLAN).write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
    lines = "".join(map(as_text, log))
    (context.folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    context.metrics |= {"parameters": model.parameter_count(), "steps": len(log), "tokens": 0}
    if not log:
        return
    seconds = log[-1]["seconds"]
    context.metrics |= {
        "tokens": log[-1]["tokens"],
        "seconds": seconds,
        "tokens_per_second": round(log[-1]["tokens"] / seconds, 1) if seconds else 0.0,
        "loss": late(log, "next_token" if "next_token" in log[-1] else "loss"),
        "peak_memory": machine.peak_memory(),
    }
    if context.crew.world > 1:
        context.metrics["ranks"] = context.crew.world


def role_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Returns the ids by role that a model's folder names: BOS, the end of an answer, padding."""
    roles = tokenizer.parts.roles
    played = {"bos": "bos", "eos": "end" if "end" in roles else "eos", "pad": "pad"}
    return {f"{name}_token_id": tokenizer.role_id(role) for name, role in played.items() if role in roles}


def whole(model: Decoder | Foresight) -> Decoder:
    """Returns the model with all of its weights in this process; every rank calls this."""
    model = model.decoder if isinstance(model, Foresight) else model
    state = model.state_dict()
    if not any(map(shards.is_spread, state.values())):
        return model
    gathered = Decoder(model.config)
    gathered.load_state_dict({name: shards.whole(tensor) for name, tensor in state.items()})
    return gathered


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
