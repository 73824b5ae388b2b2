"""Initialisation: all first values of all weights, in one place."""

from __future__ import annotations

import math

import torch
from torch import nn

from ingot.nn.experts import Stacked
from ingot.nn.routing import Router


@torch.no_grad()
def initialise(model: nn.Module, seed: int, *, zero: tuple[str, ...] = ()) -> None:
    """Draws every weight of a model anew.

    Linear layers get a uniform distribution of standard deviation 1/sqrt(fan in), so that widths do
    not change the size of activations; embeddings a standard normal; norms ones. Layers whose dotted
    name ends with one of `zero` get zeros: a block whose output layers start at zero starts as the
    identity (Zhang et al. 2019, Fixup, arXiv 1901.09321), and a head at zero predicts evenly.

    Args:
        model: changed in place.
        seed: of the draw; the same seed gives the same weights on every device.
        zero: name endings of the layers that start at zero.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Stacked | Router):
            bound = 0.0 if name.endswith(zero) else math.sqrt(3 / module.in_features)
            fresh = torch.empty(module.weight.shape).uniform_(-bound, bound, generator=generator)
            module.weight.copy_(fresh)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Embedding):
            fresh = torch.empty(module.weight.shape).normal_(0, 1, generator=generator)
            module.weight.copy_(fresh)
