"""Swaps a model's linear layers and embeddings for int8 ones, and back."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ingot.compress.quantized import QuantizedEmbedding, QuantizedLinear, quantize_rows
from ingot.models.decoder import Decoder

Quantized = QuantizedLinear | QuantizedEmbedding


def quantize(model: Decoder) -> Decoder:
    """Returns a copy of a model with int8 weights: every linear layer, the embedding and the head.

    Norms stay as they are; the copy computes in the model's dtype. A tied head stays tied.

    Args:
        model: any dtype and device; it is not changed.

    Example:
        >>> small = quantize(model)
        >>> small.embedding.weight.dtype
        torch.int8
    """
    small = copy.deepcopy(model)
    dtype = next(small.parameters()).dtype
    done: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, module in list(small.named_modules()):
        if isinstance(module, nn.Linear | nn.Embedding):
            if id(module.weight) not in done:  # a tied head shares its tensors
                weight, scale = quantize_rows(module.weight)
                done[id(module.weight)] = weight, scale.to(dtype)
            swapped = QuantizedLinear if isinstance(module, nn.Linear) else QuantizedEmbedding
            small.set_submodule(name, swapped(*done[id(module.weight)]))
    return small.eval()


def dequantized(model: Decoder) -> Decoder:
    """Returns the dense float32 model that an int8 one stands for.

    Args:
        model: with int8 layers, on any device.
    """
    dense = Decoder(model.config)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, Quantized):
                dense.get_submodule(name).get_parameter("weight").copy_(module.dense())
        for name, parameter in model.named_parameters():
            dense.get_parameter(name).copy_(parameter)
    return dense.eval()


def is_quantized(model: nn.Module) -> bool:
    """Whether a model has int8 layers."""
    return any(isinstance(module, Quantized) for module in model.modules())
