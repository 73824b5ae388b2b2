"""Biases for parts that are made without them."""

from __future__ import annotations

import torch
from torch import nn


def add_biases(module: nn.Module) -> None:
    """Gives every linear layer in a module that has no bias one of zeros."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros_like(layer.weight[:, 0]))
