"""Training over ranks walks the path of one process, optimizer state and checkpoints included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from spawn import Crew
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ingot.checkpoint.sharded import ShardedStore
from ingot.checkpoint.store import Checkpoint
from ingot.objectives.causal import CausalLM
from ingot.objectives.objective import Batch, Loss
from ingot.optim.joint import OptimizerConfig
from ingot.parallel.apply import ParallelConfig, accumulate, clip, parallelize, total_norm
from ingot.parallel.ranks import ALONE, Ranks

# Rates at which five steps stay on one path: AdamW divides by the root of tiny squares, and with its usual
# epsilon of 1e-10 a rounding error of 1e-9 in a gradient that is nearly zero turns a whole step around.
RATES = {"epsilon": 1e-6, "embedding_rate": 0.02}


class HeadApart(CausalLM):
    """Applies the head outside of the model's forward pass, as fused losses and GRPO do."""

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        hidden = model(batch["inputs"], logits=False).hidden
        logits = model.get_submodule("head")(hidden).flatten(0, 1)
        targets = batch["targets"].flatten()
        return Loss(nn.functional.cross_entropy(logits, targets, reduction="sum"), {})


class Walk:
    """A model, its optimizer and the steps made, over some ranks."""

    def __init__(self, ranks: Ranks, values: dict[str, Any], optimizer: dict[str, Any]) -> None:
        self.ranks, self.model = ranks, tiny.model()
        self.optimizer = OptimizerConfig.parse(optimizer).build(self.model)
        self.wrapped = parallelize(self.model, ParallelConfig.parse(values), ranks)
        self.optimizer.follow(self.model)

    def step(self, number: int, objective: CausalLM) -> float:
        mine = tiny.part(tiny.batch(number), self.ranks.rank, self.ranks.world)
        weight = self.ranks.sum_numbers([objective.weight(mine)])[0]
        self.optimizer.zero_grad()
        with accumulate(self.wrapped, last=True):
            loss = objective.loss(self.wrapped, mine)
            (loss.sum / weight).backward()
        parameters = self.optimizer.parameters()
        clip(parameters, 1.0, total_norm(parameters))
        self.optimizer.step(1.0)
        return float(self.ranks.sum(loss.sum.detach())) / weight

    def tensors(self) -> dict[str, Tensor]:
        found = {f"model.{name}": p.detach() for name, p in self.model.named_parameters()}
        return found | {f"optimizer.{name}": t for name, t in self.optimizer.tensors().items()}


def walk(
    ranks: Ranks,
    values: dict[str, Any],
    optimizer: dict[str, Any],
    steps: tuple[int, int] = (0, 5),
    folder: Path | None = None,
    apart: bool = False,
) -> tuple[list[float], dict[str, Any]]:
    """Walks from a step (or the checkpoint of it) to a step, and returns losses and whole weights."""
    made = Walk(ranks, values, optimizer)
    if folder is not None and steps[0]:
        made.optimizer.prepare()
        assert ShardedStore(folder, 2, ranks).newest(made.tensors()) is not None
    objective = HeadApart() if apart else CausalLM()
    losses = [made.step(number, objective) for number in range(*steps)]
    if folder is not None:
        ShardedStore(folder, 2, ranks).save(Checkpoint(steps[1], made.tensors(), {}))
    weights = {}
    for name, tensor in made.model.named_parameters():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        weights[name] = full.detach().numpy()
    return losses, weights


def same_path(one: Any, other: Any) -> None:
    assert one[0] == pytest.approx(other[0], abs=1e-6)
    for name, weights in other[1].items():
        assert abs(one[1][name] - weights).max() <= 1e-6, name


DDP, FSDP = {"data": "ddp"}, {"data": "fsdp"}


@pytest.mark.parametrize("optimizer", [RATES, {"name": "adamw", "epsilon": 1e-6}], ids=["muon", "adamw"])
@pytest.mark.parametrize("values", [DDP, FSDP], ids=["ddp", "fsdp"])
def test_five_steps_are_those_of_one_process(
    crew: Crew, values: dict[str, Any], optimizer: dict[str, Any]
) -> None:
    expected = walk(ALONE, values, optimizer)
    moved = [abs(expected[1][name] - p.detach().numpy()).max() for name, p in tiny.model().named_parameters()]
    assert min(moved) > 1e-3
    for found in crew.run(2, walk, values, optimizer):
        same_path(found, expected)


@pytest.mark.parametrize("values", [DDP, FSDP], ids=["ddp", "fsdp"])
def test_an_objective_may_apply_the_head_itself(crew: Crew, values: dict[str, Any]) -> None:
    expected = walk(ALONE, values, RATES, (0, 2))
    for found in crew.run(2, walk, values, RATES, (0, 2), None, True):
        same_path(found, expected)


@pytest.mark.parametrize("kinds", [(FSDP, FSDP, FSDP), (DDP, FSDP, DDP)], ids=["fsdp", "mixed"])
def test_a_walk_goes_on_from_its_checkpoint_on_other_ranks(
    crew: Crew, tmp_path: Path, kinds: tuple[dict[str, Any], ...]
) -> None:
    losses, weights = walk(ALONE, {}, RATES)
    first = crew.run(2, walk, kinds[0], RATES, (0, 2), tmp_path)[0]
    second = crew.run(3, walk, kinds[1], RATES, (2, 4), tmp_path)[0]
    third = crew.run(1, walk, kinds[2], RATES, (4, 5), tmp_path)[0]
    same_path((first[0] + second[0] + third[0], third[1]), (losses, weights))


def test_the_crew_runs_on_one_thread(crew: Crew) -> None:
    assert crew.run(2, threads) == [1, 1]


def threads(ranks: Ranks) -> int:
    return torch.get_num_threads()
