"""Applying parallelism: one function from a model to what the loss calls, and the gradients' arithmetic.

```
model -> recompute units -> DDP   every rank holds everything; gradients are summed while they come out
                         -> FSDP  every rank holds 1/n of weights, gradients and optimizer state;
                                  a unit's weights are gathered when it runs, and dropped after it
```

Gradients come out as the sum over ranks of the ranks' own gradients. The trainer divides each rank's
loss by the weight of the whole batch, so that no mean of means ever happens, however ragged the parts.

PyTorch's engine does the work: DDP (Li et al. 2020, arXiv 2006.15704) and `fully_shard`, the second
version of FSDP (Zhao et al. 2023, arXiv 2304.11277).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch import distributed as dist

from ingot.config import Config
from ingot.errors import ConfigError
from ingot.optim.shards import is_spread, local
from ingot.parallel.mesh import Grid
from ingot.parallel.ranks import Ranks
from ingot.parallel.recompute import Mode
from ingot.parallel.recompute import recompute as recompute_units
from ingot.parallel.replicated import Replicated


class ParallelConfig(Config):
    """How ranks share one training run.

    `data`: `ddp` keeps the whole model on every rank, `fsdp` cuts it over the ranks. `copies` of an fsdp
    model: each is cut over ranks / copies neighbours. `gather`: what fsdp sends weights as; bf16 halves
    the traffic and has the units compute in bf16, norms too; gradients are summed in fp32 either way.
    """

    data: Literal["ddp", "fsdp"] = "ddp"
    copies: int = Field(default=1, gt=0)
    gather: Literal["fp32", "bf16"] = "fp32"
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    expert: int = 1

    @model_validator(mode="after")
    def _known(self) -> Self:
        self.grid(self.copies)
        if self.data == "ddp" and (self.copies > 1 or self.gather != "fp32"):
            raise ValueError("copies and gather are for fsdp; ddp always keeps one whole copy per rank")
        return self

    def grid(self, world: int) -> Grid:
        """Returns the places of so many ranks.

        Raises:
            ConfigError: the ranks do not fill the copies, or the split is one that comes later.
        """
        if world % self.copies:
            what = f"{world} ranks cannot hold {self.copies} copies of equal size"
            raise ConfigError(what, where="parallel.copies", fix=f"use a divisor of {world}")
        replicate = world if self.data == "ddp" else self.copies
        return Grid(self.pipeline, replicate, world // replicate, self.context, self.tensor, self.expert)


@dataclass(frozen=True)
class Plan:
    """What parallelism knows of a model: names of its modules, as patterns.

    Later parts (placements of matrices, split points of a pipeline) will be further patterns here.

    Args:
        units: patterns of the modules that are gathered, or recomputed, as a whole; each part between
            dots matches one part of a name: 'blocks.*' means the blocks, not what is inside them.
    """

    units: tuple[str, ...] = ("blocks.*",)

    def find(self, model: nn.Module) -> list[tuple[str, nn.Module]]:
        """Returns the names and modules of the units, in the model's order."""
        return [
            (name, module)
            for name, module in model.named_modules()
            if any(_matches(name, pattern) for pattern in self.units)
        ]


def _matches(name: str, pattern: str) -> bool:
    names, patterns = name.split("."), pattern.split(".")
    return len(names) == len(patterns) and all(map(fnmatchcase, names, patterns))


DECODER_PLAN = Plan()


def parallelize(
    model: nn.Module,
    config: ParallelConfig,
    ranks: Ranks,
    *,
    recompute: Mode | None = None,
    plan: Plan = DECODER_PLAN,
) -> nn.Module:
    """Spreads a model over the ranks; all of them call this, with equal models.

    Args:
        model: in float32, on this rank's device; changed in place. FSDP replaces its parameters:
            optimizers that hold the old ones must turn to the new ones (`Joint.follow`).
        config: how to split.
        ranks: this process and its fellows.
        recompute: 'full' or 'selective' activation checkpointing of the units, or None.
        plan: which modules are units.

    Returns:
        What the loss should call. Its attributes and the model's are the same; state is kept under the
        names of `model`, which do not change. One rank without recomputing gets the model itself.

    Raises:
        ConfigError: the split does not fit the ranks, or `recompute` finds no units.
    """
    grid = config.grid(ranks.world)
    units = plan.find(model)
    if recompute is not None:
        recompute_units(model, recompute, units)
    if ranks.world == 1:
        return model
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor.detach(), 0)
    if config.data == "ddp":
        return Replicated(model)
    _shard(model, [unit for _, unit in units], grid, config.gather)
    return model


def _shard(model: nn.Module, units: Sequence[nn.Module], grid: Grid, gather: str) -> None:
    # Half a second to import, which runs that are not sharded need not wait for.
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    bf16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    policy = bf16 if gather == "bf16" else MixedPrecisionPolicy()
    mesh = grid.mesh(next(model.parameters()).device.type)
    for unit in units:
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other reduction


@contextmanager
def accumulate(wrapped: nn.Module, last: bool) -> Iterator[None]:
    """Keeps gradients on their ranks until the last micro-batch: forward and backward pass go inside.

    Args:
        wrapped: what `parallelize` returned.
        last: whether this is the last micro-batch of the step.
    """
    if isinstance(wrapped, Replicated) and not last:
        with wrapped.no_sync():
            yield
    elif hasattr(wrapped, "set_requires_gradient_sync"):  # an FSDPModule
        sharded: Any = wrapped
        sharded.set_is_last_backward(last)
        sharded.set_requires_gradient_sync(last)
        yield
    else:
        yield


def reshard(wrapped: nn.Module) -> None:
    """Has every rank hold its own part again after a forward pass that no backward pass followed.

    Weights that lie gathered cannot be saved by part. A model that is not cut is left as it is.

    Args:
        wrapped: what `parallelize` returned.
    """
    sharded: Any = wrapped
    if hasattr(wrapped, "reshard"):  # an FSDPModule
        sharded.reshard()


def total_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Returns the norm of the whole gradient, over all ranks: the same plain scalar on each of them.

    Args:
        parameters: whose `grad` counts, whole or cut over ranks; those without one are left out.
    """
    groups: dict[Any, list[Tensor]] = {}
    for gradient in _gradients(parameters):
        spread: Any = gradient
        cut = (spread.device_mesh, spread.placements) if is_spread(gradient) else None
        groups.setdefault(cut, []).append(local(gradient))
    if not groups:
        return torch.zeros(())
    if list(groups) == [None]:
        return torch.nn.utils.get_total_norm(groups[None])
    squares = []
    for cut, gradients in groups.items():
        square = torch.nn.utils.get_total_norm(gradients).double() ** 2
        if cut is not None:
            mesh, placements = cut
            for axis, placement in enumerate(placements):
                if placement.is_shard():
                    dist.all_reduce(square, group=mesh.get_group(axis))
        squares.append(square)
    return torch.stack(squares).sum().sqrt().float()


def clip(parameters: Iterable[Tensor], largest: float, norm: Tensor) -> float:
    """Scales the gradients down to a norm, where theirs is larger.

    Args:
        parameters: whose `grad` is scaled in place.
        largest: norm to allow.
        norm: of the gradients now, from `total_norm`.

    Returns:
        What they were multiplied by.
    """
    gradients = [local(gradient) for gradient in _gradients(parameters)]
    share = torch.clamp(largest / (norm + 1e-6), max=1.0)
    if gradients:
        torch._foreach_mul_(gradients, share.to(gradients[0].device))
    return float(share)


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]
