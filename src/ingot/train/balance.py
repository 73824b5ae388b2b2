"""Experts kept equally busy without a term of the loss: biases of the choice, moved after each update.

```
update -> load of each expert, over micro-batches and ranks -> bias up where it was idle, down where busy
```

The biases are buffers of the routers, so checkpoints keep them, and all ranks move theirs alike. That is why
this is part of the step and no hook: hooks only look on, and only on the lead rank.

Source: Wang et al. 2024, arXiv 2408.15664, algorithm 1; DeepSeek-V3 2024, arXiv 2412.19437, section 2.1.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ingot.nn.routing import Router
from ingot.objectives.objective import Batch
from ingot.parallel.ranks import ALONE, Ranks
from ingot.train.step import StepProgram, Update


class Balanced:
    """A step program that also moves the routers' biases, and reports how busy the busiest expert was.

    The metric `expert_load` is the tokens of the busiest expert over the mean, in the worst layer: 1 where
    all are equally busy.

    Args:
        program: what makes the update.
        routers: of the model.
        ranks: this process and those that have the other rows.
    """

    def __init__(self, program: StepProgram, routers: Sequence[Router], ranks: Ranks = ALONE) -> None:
        self.program = program
        self.routers = list(routers)
        self.ranks = ranks

    def update(self, batch: Batch, multiplier: float, momentum: float | None = None) -> Update:
        """Makes one update; a refused one moves no bias."""
        for router in self.routers:
            router.load.zero_()
        update = self.program.update(batch, multiplier, momentum)
        if update.weight == 0:
            return update
        loads = self.ranks.sum(torch.cat([router.load for router in self.routers]))
        parts = loads.split([len(router.load) for router in self.routers])
        if update.accepted:
            for router, load in zip(self.routers, parts, strict=True):
                router.shift(load)
        worst = max(float(load.max() / load.mean()) for load in parts)
        return update._replace(metrics={**update.metrics, "expert_load": worst})


def balanced(program: StepProgram, model: nn.Module, ranks: Ranks = ALONE) -> StepProgram:
    """Returns the program with what experts need; itself where the model has none.

    Args:
        program: what makes the update.
        model: whose routers.
        ranks: this process and those that have the other rows.
    """
    routers = [module for module in model.modules() if isinstance(module, Router)]
    return Balanced(program, routers, ranks) if routers and not isinstance(program, Balanced) else program
