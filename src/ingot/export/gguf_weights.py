"""Weights as llama.cpp computes with them, where that is otherwise than we do.

Each function takes our weights of one block, or of what is outside of them, without their prefix, and returns
those of the file: by our names what only changes, by theirs what becomes something else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ingot.models.decoder import DecoderConfig
from ingot.nn.rope_scaling import RopeScaling

Weights = dict[str, Tensor]
ATTENTION = ("query", "key", "value")


def divisors(config: DecoderConfig, scaling: RopeScaling) -> Tensor:
    """Returns what each rotary frequency is divided by, [e/2] float32."""
    width = config.rotary_width
    plain = config.rope_theta ** -(torch.arange(0, width, 2, dtype=torch.float32) / width)
    return plain / scaling.stretched(plain, config.rope_theta)


def side_by_side(weights: Weights, config: DecoderConfig) -> Weights:
    """Query and key with the two coordinates of each rotated pair next to each other.

    We turn coordinate i together with i + e/2, llama.cpp's `llama` i together with i + 1.
    """
    changed = dict(weights)
    for part, heads in (("query", config.heads), ("key", config.kv_heads)):
        name = f"attention.{part}.weight"
        if name in weights:
            by_head = weights[name].unflatten(0, (heads, -1))  # [h, e, d]
            changed[name] = _paired(by_head, 1).flatten(0, 1)
    return changed


def latent(weights: Weights, config: DecoderConfig) -> Weights:
    """Keys and values that stay in the latent space, and rotated coordinates side by side."""
    sizes = config.latent
    assert sizes is not None
    changed = dict(weights)
    if (up := changed.get("attention.query_up.weight")) is not None:
        by_head = up.unflatten(0, (config.heads, -1))  # [h, e, r]
        plain, turned = by_head.split([sizes.plain_width, sizes.rotary_width], 1)
        together = torch.cat([plain, _paired(turned, 1)], 1)
        changed["attention.query_up.weight"] = together.flatten(0, 1)
    if (down := changed.get("attention.key_value_down.weight")) is not None:
        latent, turned = down.split([sizes.key_value_rank, sizes.rotary_width])
        changed["attention.key_value_down.weight"] = torch.cat([latent, _paired(turned, 0)])
    if (both := changed.pop("attention.key_value_up.weight", None)) is not None:
        by_head = both.unflatten(0, (config.heads, -1))  # [h, plain + value, r]
        keys, values = by_head.split([sizes.plain_width, sizes.value_width], 1)
        changed |= {"attn_k_b.weight": keys.mT, "attn_v_b.weight": values}
    if (norm := changed.pop("attention.query_norm.weight", None)) is not None:
        changed["attn_q_a_norm.weight"] = norm
    if (bias := changed.pop("feed_forward.router.bias", None)) is not None:
        changed["exp_probs_b.bias"] = bias
    return changed


def _paired(rows: Tensor, dim: int) -> Tensor:
    """Coordinates i and i + e/2 along a dimension, next to each other."""
    return torch.stack(rows.chunk(2, dim), dim + 1).flatten(dim, dim + 1)


def fused_attention(weights: Weights, config: DecoderConfig) -> Weights:
    """Query, key and value as one projection."""
    rest = {name: one for name, one in weights.items() if name.split(".")[1:2] not in _PARTS}
    for kind in ("weight", "bias"):
        three = [weights[name] for part in ATTENTION if (name := f"attention.{part}.{kind}") in weights]
        if three:
            rest[f"attn_qkv.{kind}"] = torch.cat(three)
    return rest


_PARTS = [[part] for part in ATTENTION]


def fused_all(weights: Weights, config: DecoderConfig) -> Weights:
    """The same, and gate and up as one."""
    fused = fused_attention(weights, config)
    if "feed_forward.gate.weight" in fused:
        gate, up = fused.pop("feed_forward.gate.weight"), fused.pop("feed_forward.up.weight")
        fused["ffn_up.weight"] = torch.cat([gate, up])
    return fused


def norms_from_zero(weights: Weights, config: DecoderConfig) -> Weights:
    """Weights of norms that count from one, as plain factors."""
    return {
        name: one + 1 if name.rpartition(".")[0].endswith("norm") else one for name, one in weights.items()
    }
