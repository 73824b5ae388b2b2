"""Experts for graphs: every token goes through all of them, and those it did not choose count nothing.

How many tokens come to an expert is only known while a model runs, and a graph has no loop over numbers like
that. So an exported mixture of experts computes what all experts make of all tokens: the same answer, slower
by as many times as there are experts for each that is chosen.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from ingot.nn.experts import Experts


class AllExperts(nn.Module):
    """What `Experts` computes, without sorting tokens.

    Args:
        experts: whose weights it shares.
    """

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        self.router = experts.router
        self.experts = experts.experts
        self.shared = experts.shared

    def forward(self, x: Tensor) -> Tensor:
        """Args: x [..., d]. Returns: the same shape."""
        rows = x.reshape(-1, x.shape[-1])  # [n, d]
        chosen, weights, _ = self.router(rows)
        every = self.experts
        numbers = torch.arange(every.gate.weight.shape[0])
        share = (weights[..., None] * (chosen[..., None] == numbers)).sum(1)  # [n, x]
        gate = torch.einsum("nd,xfd->nxf", rows, every.gate.weight)
        inner = every.activation(gate) * torch.einsum("nd,xfd->nxf", rows, every.up.weight)
        mixed = torch.einsum("nxf,xdf,nx->nd", inner, every.down.weight, share)
        if self.shared is not None:
            mixed = mixed + self.shared(rows)
        return mixed.view_as(x)


Model = TypeVar("Model", bound=nn.Module)


def unsorted(model: Model) -> Model:
    """Puts `AllExperts` in the place of a model's `Experts`, and returns the model."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, Experts):
                setattr(module, name, AllExperts(child))
    return model
