"""Several optimizers as one: matrices to Muon, everything else to AdamW, one rate for the schedule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from ingot.config import Config
from ingot.optim.muon import Muon


class OptimizerConfig(Config):
    """Learning rates and their company.

    `matrix_rate` is Muon's, for the matrices inside the blocks; 0 gives those to AdamW too. The AdamW
    rates are for the embedding, the head and the norms.
    """

    matrix_rate: float = Field(default=0.02, ge=0)
    embedding_rate: float = Field(default=0.2, gt=0)
    head_rate: float = Field(default=0.004, gt=0)
    norm_rate: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.95, ge=0, lt=1)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)

    def build(self, model: nn.Module, dtype: torch.dtype = torch.float32) -> Joint:
        """Gives every parameter of the model its optimizer.

        Args:
            model: whose parameters are optimized.
            dtype: of Muon's products.
        """
        matrices, embeddings, heads, vectors = [], [], [], []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if name.startswith("embedding"):
                embeddings.append(parameter)
            elif name.startswith("head"):
                heads.append(parameter)
            elif parameter.dim() == 2:
                matrices.append(parameter)
            else:
                vectors.append(parameter)
        groups = [
            {"params": embeddings, "lr": self.embedding_rate},
            {"params": heads, "lr": self.head_rate},
            {"params": vectors, "lr": self.norm_rate},
        ]
        if self.matrix_rate == 0:
            groups.append({"params": matrices, "lr": self.head_rate, "weight_decay": self.weight_decay})
        adam = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            betas=(self.beta1, self.beta2),
            eps=1e-10,
            weight_decay=0.0,
            fused=True,
        )
        optimizers: list[torch.optim.Optimizer] = [adam]
        if self.matrix_rate and matrices:
            optimizers.append(Muon(matrices, self.matrix_rate, self.momentum, self.weight_decay, dtype))
        return Joint(optimizers)


class Joint:
    """Optimizers that step together, with a state made of plain tensors.

    Args:
        optimizers: over disjoint parameters; their rates now are those that a multiplier of 1 gives.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = list(optimizers)
        self._rates = [[group["lr"] for group in o.param_groups] for o in self.optimizers]

    def parameters(self) -> list[Tensor]:
        """Returns all parameters, in a fixed order."""
        return [p for o in self.optimizers for group in o.param_groups for p in group["params"]]

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def step(self, multiplier: float) -> None:
        """Updates all parameters at `multiplier` times their own rates."""
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * multiplier
            optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """Returns the whole state as named tensors: what a checkpoint keeps."""
        return {
            f"{number}.{index}.{key}": value
            for number, optimizer in enumerate(self.optimizers)
            for index, parameter in enumerate(_parameters(optimizer))
            for key, value in optimizer.state.get(parameter, {}).items()
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back a state that `tensors` gave."""
        for optimizer in self.optimizers:
            optimizer.state.clear()
        for name, value in tensors.items():
            number, index, key = name.split(".", 2)
            optimizer = self.optimizers[int(number)]
            optimizer.state[_parameters(optimizer)[int(index)]][key] = value.clone()


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
