"""Swaps a model's linear layers, experts and embeddings for int8 ones, and back."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ingot.compress.quantized import QuantizedEmbedding, QuantizedLinear, quantize_rows
from ingot.compress.quantized_experts import QuantizedStacked
from ingot.models.decoder import Decoder
from ingot.nn.capped import CappedLinear
from ingot.nn.experts import Stacked

Quantized = QuantizedLinear | QuantizedEmbedding | QuantizedStacked


def quantize(model: Decoder) -> Decoder:
    """Returns a copy of a model with int8 weights: every linear layer and expert, the embedding and the head.

    Norms and routers stay as they are; the copy computes in the model's dtype. A tied head stays tied.

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
        if not isinstance(module, nn.Linear | nn.Embedding | Stacked):
            continue
        if id(module.weight) not in done:  # a tied head shares its tensors
            weight, scale = quantize_rows(module.weight)
            done[id(module.weight)] = weight, scale.to(dtype)
        swapped = int8_form(module)(*done[id(module.weight)])
        if isinstance(module, nn.Linear) and isinstance(swapped, QuantizedLinear):
            swapped.bias = None if module.bias is None else module.bias.detach()
            swapped.cap = module.cap if isinstance(module, CappedLinear) else None
        small.set_submodule(name, swapped)
    return small.eval()


def int8_form(module: nn.Module) -> type[Quantized]:
    """Returns which int8 layer takes the place of a dense one."""
    if isinstance(module, nn.Linear):
        return QuantizedLinear
    return QuantizedEmbedding if isinstance(module, nn.Embedding) else QuantizedStacked


def dequantized(model: Decoder) -> Decoder:
    """Returns the dense float32 model that an int8 one stands for.

    Args:
        model: with int8 layers, on any device.
    """
    state = {name: tensor.float() for name, tensor in model.state_dict().items()}
    for name, module in model.named_modules():
        if isinstance(module, Quantized):
            state[f"{name}.weight"] = module.dense()
            del state[f"{name}.scale"]
    dense = Decoder(model.config)
    dense.load_state_dict(state)
    return dense.eval()


def is_quantized(model: nn.Module) -> bool:
    """Whether a model has int8 layers."""
    return any(isinstance(module, Quantized) for module in model.modules())
