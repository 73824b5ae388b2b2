"""A model that looks ahead, shared by ranks: the gradients are those of one process."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from spawn import Crew

from ingot.models.foresight import Foresight
from ingot.objectives.causal import CausalLM
from ingot.objectives.future import FutureTokens
from ingot.parallel.apply import ParallelConfig, accumulate, parallelize
from ingot.parallel.ranks import ALONE, Ranks


def learn(ranks: Ranks, data: str, heads: str, micro: int) -> dict[str, Any]:
    """One accumulated backward pass over this rank's rows, as a trainer makes it."""
    model = Foresight(tiny.model(), 3, heads)  # type: ignore[arg-type]
    objective = FutureTokens(CausalLM(z_loss=0.1), 0.5)
    wrapped = parallelize(model, ParallelConfig.parse({"data": data}), ranks)
    mine = tiny.part(tiny.batch(), ranks.rank, ranks.world)
    weight = ranks.sum_numbers([objective.weight(mine)])[0]
    starts = list(range(0, len(mine["inputs"]), micro))
    for start in starts:
        rows = {name: value[start : start + micro] for name, value in mine.items()}
        with accumulate(wrapped, last=start == starts[-1]):
            (objective.loss(wrapped, rows).sum / weight).backward()
    return {name: gradient.numpy() for name, gradient in tiny.gradients(model).items()}


@pytest.mark.parametrize("data", ["ddp", "fsdp"])
@pytest.mark.parametrize("heads", ["parallel", "sequential"])
def test_ranks_add_up_to_one_process(crew: Crew, data: str, heads: str) -> None:
    alone = learn(ALONE, "ddp", heads, 99)
    assert any(name.startswith("future.1.") for name in alone)
    for found in crew.run(2, learn, data, heads, 4):
        assert found.keys() == alone.keys()
        for name, gradient in alone.items():
            ours, theirs = torch.from_numpy(found[name]), torch.from_numpy(gradient)
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)
