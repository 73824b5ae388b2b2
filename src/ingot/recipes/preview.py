"""What a recipe would do, before it does it: stages to make and to skip, minutes, and the model's size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingot.pipeline import Decision, Stage

BYTES_PER_TOKEN = 3.0
"""Of a corpus that has not been tokenized yet; only an estimate of its tokens rests on it."""


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


def size(stages: Sequence[Stage], decisions: Sequence[Decision], device: str) -> dict[str, Any] | None:
    """Returns the model that the planner would choose now; it measures this machine for a few seconds.

    Returns:
        Layers, width, parameters, and about how many tokens it would see; None without a pretraining.

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
    from ingot.stages.pretrain import offer

    if "tokenizer" in made:
        unique = int(made["tokenizer"].metrics["tokens"])
        vocabulary = int(made["tokenizer"].metrics["vocabulary"])
    else:
        unique = int(_bytes(by_name, made) / BYTES_PER_TOKEN)
        vocabulary = int(by_name["tokenizer"].config.plain()["vocabulary"])
    proposal, flops = offer(by_name["pretrain"].config, unique, vocabulary, device)  # type: ignore[arg-type]
    model = proposal.model
    return {
        "layers": model.layers,
        "width": model.width,
        "context": model.context,
        "parameters": model.build().parameter_count(),
        "tokens": proposal.tokens,
        "epochs": round(proposal.epochs, 2),
        "gflops_per_second": round(flops / 1e9, 1),
    }


def _bytes(stages: dict[str, Stage], made: dict[str, Any]) -> int:
    if "prepare" in made:
        return int(made["prepare"].metrics["bytes"])
    needed = getattr(stages["prepare"], "disk_needed", None) if "prepare" in stages else None
    return 10**7 if needed is None else int(needed())
