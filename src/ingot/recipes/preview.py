"""What a recipe would do, before it does it: stages to make and to skip, the model, its loss, its price."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ingot.pipeline import Decision, Stage

if TYPE_CHECKING:
    from ingot.stages.pretrain import PretrainConfig
    from ingot.train.budget import Budget
    from ingot.train.planner import Proposal

BYTES_PER_TOKEN = 3.0
"""Of a corpus that has not been tokenized yet; only an estimate of its tokens rests on it."""

NEGLIGIBLE = 0.8
"""A smaller factor of the learning rates is worth a change of the recipe."""

LAWS_MEET = 1e18
"""FLOPs at which the published law and its refit ask for the same size."""

FREE_EPOCHS = 4
"""So often a text can be seen as if it were new each time: Muennighoff et al. 2023, arXiv 2305.16264."""


def rows(stages: Sequence[Stage], decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """Returns one mapping per stage: stage, does ("make" or "skip"), artifact, minutes, why."""
    table = []
    for stage, decision in zip(stages, decisions, strict=True):
        minutes = stage.config.plain().get("minutes")
        table.append(
            {
                "stage": decision.stage,
                "does": "make" if decision.artifact is None else "skip",
                "artifact": decision.address,
                "minutes": None if minutes is None else round(minutes, 2),
                "why": decision.why or "up to date",
            }
        )
    return table


def size(
    stages: Sequence[Stage], decisions: Sequence[Decision], device: str, budget: Budget | None = None
) -> dict[str, Any] | None:
    """Returns the model that the planner would choose now, and what can be said of it beforehand.

    Without a named device this machine is measured for a few seconds.

    Args:
        stages: of the recipe.
        decisions: what the pipeline would do with them.
        device: of this machine, where no other is named.
        budget: a device that is not here, and prices.

    Returns:
        Layers, width, parameters, tokens, steps, the batch and rates that suit them, the expected bits per
        byte with their interval, memory, seconds and cost; of a model that is made already, or goes on from
        somebody's, its parameters and tokens; None without a pretraining.

    Raises:
        ResourceError: the minutes suffice for no model.
    """
    by_name = {stage.name: stage for stage in stages}
    made = {one.stage: one.artifact.record for one in decisions if one.artifact is not None}
    if "pretrain" not in by_name or "tokenizer" not in by_name:
        return None
    if "pretrain" in made:
        return {
            "parameters": made["pretrain"].metrics["parameters"],
            "tokens": made["pretrain"].metrics["tokens"],
        }
    if "tokenizer" in made:
        unique = int(made["tokenizer"].metrics["tokens"])
        vocabulary = int(made["tokenizer"].metrics["vocabulary"])
    else:
        unique = int(_bytes(by_name, made) / BYTES_PER_TOKEN)
        vocabulary = int(by_name["tokenizer"].config.plain()["vocabulary"])
    config: PretrainConfig = by_name["pretrain"].config  # type: ignore[assignment]
    if config.base is not None:
        from ingot.stages.base import sizes
        from ingot.train.planner import parameter_count

        model = sizes(config.base, config.context, config.stretch)
        return {"parameters": parameter_count(model), "tokens": unique}
    from ingot.stages.measuring import offer
    from ingot.train.budget import Budget

    budget = budget or Budget()
    own_text = "prepare" in by_name and by_name["prepare"].config.plain().get("data") is not None
    rate = budget.flops_per_second()
    if rate is None:
        proposal, rate = offer(config, unique, vocabulary, device)
    else:
        proposal = _elsewhere(config, rate, unique, vocabulary)
    minutes = [stage.config.plain().get("minutes") or 0.0 for stage in stages]
    return _outlook(config, proposal, rate, unique, own_text, device, budget, 60 * sum(minutes))


def advice(config: PretrainConfig, flops: float) -> list[str]:
    """Returns changes of the recipe that suit a compute budget, as `a.b=c` texts; mostly none.

    Args:
        config: as the recipe has it.
        flops: of the whole pretraining.
    """
    from ingot.train.planner import batch_tokens, rate_factor

    changes = []
    wanted, factor = batch_tokens(flops) / config.context, rate_factor(flops)
    if not 0.5 <= wanted / config.batch_size <= 2:
        changes.append(f"pretrain.batch_size={_power_of_two(wanted)}")
    if factor < NEGLIGIBLE:
        for name, rate in config.optimizer.plain().items():
            if name.endswith("_rate") and rate:
                changes.append(f"pretrain.optimizer.{name}={rate * factor:.3g}")
    return changes


def _outlook(
    config: PretrainConfig,
    proposal: Proposal,
    rate: float,
    unique: int,
    own_text: bool,
    device: str,
    budget: Budget,
    seconds: float,
) -> dict[str, Any]:
    from ingot.stages.training import usual_precision
    from ingot.train import memory, planner
    from ingot.train.forecast import forecast

    model, tokens = proposal.model, proposal.tokens
    per_token = planner.training_flops_per_token(model)
    changes = advice(config, per_token * tokens)
    if budget.device is not None and config.depth is None:
        changes.insert(0, f"pretrain.depth={model.layers}")
    rows = config.batch_size
    for change in changes:
        if change.startswith("pretrain.batch_size="):
            rows = int(change.partition("=")[2])
    kind = config.precision or (usual_precision(device) if budget.device is None else "bf16")
    here = -(-rows // budget.gpus)
    micro = min(here, config.micro_batch) if isinstance(config.micro_batch, int) else here
    if budget.device is not None:
        micro = memory.rows_that_fit(model, here, budget.device.memory, kind, budget.gpus) or 1
    needed = memory.update_memory(model, micro, kind, config.optimizer.matrix_rate > 0, budget.gpus)
    expected = forecast(planner.matrix_parameters(model), tokens, unique, own_text)
    given = 60 * config.minutes
    needed_seconds = min(given, tokens * per_token / rate)
    cost = budget.cost(seconds - given + needed_seconds)
    return {
        "layers": model.layers,
        "width": model.width,
        "context": model.context,
        "parameters": planner.parameter_count(model),
        "tokens": tokens,
        "epochs": round(proposal.epochs, 2),
        "steps": tokens // (rows * model.context),
        "batch_size": rows,
        "micro_batch": micro,
        "gflops_per_second": round(rate / 1e9, 1),
        "tokens_per_second": round(rate / per_token, 1),
        "seconds": round(needed_seconds, 1),
        "bits_per_byte": expected.plain(),
        "memory": {**needed._asdict(), "total": needed.total},
        "changes": changes,
        "budget": budget.plain(),
        "dollars": None if cost is None else round(cost, 2),
        "doubts": _doubts(proposal, unique, needed.total, budget),
    }


def _doubts(proposal: Proposal, unique: int, needed: int, budget: Budget) -> list[str]:
    """What the reader should know before trusting the numbers."""
    from ingot import device as machine
    from ingot.train.budget import SHARE_OF_PEAK, SHARE_RANGE
    from ingot.train.law import counted_tokens
    from ingot.train.planner import MOST_EPOCHS

    doubts = []
    if proposal.epochs > FREE_EPOCHS:
        worth = counted_tokens(proposal.tokens, unique)
        doubts.append(
            f"the text is seen {proposal.epochs:,.1f} times and is worth {worth / 1e6:,.1f} M new tokens: "
            "more text (data=DIR) would serve better than more time"
        )
    if proposal.epochs >= MOST_EPOCHS:
        doubts.append(
            f"{MOST_EPOCHS} times the text is all that is of use; the rest of the time is not needed"
        )
    if budget.device is not None:
        low, high = (share / SHARE_OF_PEAK for share in SHARE_RANGE)
        doubts.append(
            f"{budget.device.name} is not here: {SHARE_OF_PEAK:.0%} of its dense bf16 peak is assumed, so "
            f"{low:.1f} to {high:.1f} times the speed is possible, and less for a model narrower than 1,024"
        )
    room = machine.memory() if budget.device is None else budget.device.memory
    if needed > room:
        fix = "set a smaller pretrain.batch_size"
        doubts.append(f"an update needs {needed / 1e9:.1f} GB and there are {room / 1e9:.1f}: {fix}")
    return doubts


def _elsewhere(config: PretrainConfig, rate: float, unique: int, vocabulary: int) -> Proposal:
    """The size for a device that is not here; where the refitted law was fitted, it chooses."""
    from ingot.train.law import BESIROGLU, HOFFMANN
    from ingot.train.planner import propose_for_text

    seconds = 60 * config.minutes
    return propose_for_text(
        seconds=seconds,
        flops=rate,
        unique=unique,
        vocabulary=vocabulary,
        context=config.context,
        depth=config.depth,
        law=BESIROGLU if rate * seconds >= LAWS_MEET else HOFFMANN,
    )


def _power_of_two(value: float) -> int:
    return 2 ** max(0, round(math.log2(value)))


def _bytes(stages: dict[str, Stage], made: dict[str, Any]) -> int:
    if "prepare" in made:
        return int(made["prepare"].metrics["bytes"])
    needed = getattr(stages["prepare"], "disk_needed", None) if "prepare" in stages else None
    return 10**7 if needed is None else int(needed())


def lines(model: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns what `size` found as pairs of a name and a value in words."""
    if "bits_per_byte" not in model:
        return [(key, f"{value:,}") for key, value in model.items()]
    memory, bits, budget = model["memory"], model["bits_per_byte"], model["budget"]
    parts = ", ".join(f"{name} {value / 1e9:.2f}" for name, value in memory.items() if name != "total")
    where = budget["device"] + (f" x {budget['gpus']}" if budget["gpus"] > 1 else "")
    pairs = [
        (
            "size",
            f"{model['layers']} layers of width {model['width']}, {_count(model['parameters'])} weights",
        ),
        ("tokens", f"{_count(model['tokens'])}, the text {model['epochs']:,.1f} times"),
        (
            "batch",
            f"{model['batch_size']} x {model['context']} tokens, {model['steps']:,} steps"
            + (
                f", {model['micro_batch']} rows at once" if model["micro_batch"] < model["batch_size"] else ""
            ),
        ),
        ("speed", f"{model['tokens_per_second']:,.0f} tokens/s on {where}, {model['seconds'] / 60:.3g} min"),
        (
            "bits per byte",
            f"{bits['value']:.2f} ({bits['interval'][0]:.2f} to {bits['interval'][1]:.2f}) of held-out text; "
            + bits["basis"],
        ),
        ("memory", f"{memory['total'] / 1e9:.2f} GB: {parts}"),
    ]
    if model["dollars"] is not None:
        asked = f"at ${budget['dollars_per_hour']:g} per hour, {budget['price']}"
        pairs.append(("cost", f"${model['dollars']:,.2f} for the recipe's training {asked}"))
    if model["changes"]:
        pairs.append(("changes", " ".join(model["changes"])))
    return pairs


def _count(value: float) -> str:
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value:,.0f}"
