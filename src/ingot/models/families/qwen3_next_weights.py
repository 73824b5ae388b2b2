"""Qwen3-Next's weights: which of theirs are which of ours."""

from __future__ import annotations

import torch
from torch import Tensor

from ingot.models.families.rules import Rule, interleaved, joined, same, stacked
from ingot.models.linear_config import LinearDecoderConfig

_GATED = ("gate", "up", "down")


def mapping(config: LinearDecoderConfig) -> list[Rule]:
    """Returns which of their weights are which of ours; a tied head is not stored."""
    rules = [same("embedding.weight", "model.embed_tokens.weight"), same("norm.weight", "model.norm.weight")]
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        rules += [
            same(f"{ours}.mixer_norm.weight", f"{theirs}.input_layernorm.weight"),
            same(f"{ours}.feed_forward_norm.weight", f"{theirs}.post_attention_layernorm.weight"),
            *_feed_forward(config, layer, f"{ours}.feed_forward", f"{theirs}.mlp"),
            *(_attention if config.attends(layer) else _delta)(config, ours, theirs),
        ]
    return rules if config.tied else [*rules, same("head.weight", "lm_head.weight")]


def _feed_forward(config: LinearDecoderConfig, layer: int, ours: str, theirs: str) -> list[Rule]:
    """Of a feed-forward layer, plain or of experts."""

    def plain(ours: str, theirs: str) -> list[Rule]:
        return [same(f"{ours}.{part}.weight", f"{theirs}.{part}_proj.weight") for part in _GATED]

    if config.experts is None or layer in config.dense_layers:
        return plain(ours, theirs)
    count = range(config.experts.count)
    return [
        same(f"{ours}.experts.router.weight", f"{theirs}.gate.weight"),
        same(f"{ours}.share.weight", f"{theirs}.shared_expert_gate.weight"),
        *plain(f"{ours}.shared", f"{theirs}.shared_expert"),
        *(
            stacked(
                f"{ours}.experts.experts.{part}.weight",
                tuple(f"{theirs}.experts.{number}.{part}_proj.weight" for number in count),
            )
            for part in _GATED
        ),
    ]


def _attention(config: LinearDecoderConfig, ours: str, theirs: str) -> list[Rule]:
    """Of a layer of attention: a gate's rows follow those of its query head."""
    assert config.attention is not None
    mine, other = f"{ours}.attention", f"{theirs}.self_attn"
    both = (f"{mine}.query.weight", f"{ours}.attention_gate.weight")
    return [
        interleaved(both, f"{other}.q_proj.weight", config.attention.heads),
        same(f"{mine}.key.weight", f"{other}.k_proj.weight"),
        same(f"{mine}.value.weight", f"{other}.v_proj.weight"),
        same(f"{mine}.output.weight", f"{other}.o_proj.weight"),
        same(f"{mine}.query_norm.weight", f"{other}.q_norm.weight"),
        same(f"{mine}.key_norm.weight", f"{other}.k_norm.weight"),
    ]


def _delta(config: LinearDecoderConfig, ours: str, theirs: str) -> list[Rule]:
    """Of a delta layer: all that belongs to one key head stands together."""
    sizes, mine, other = config.delta, f"{ours}.delta", f"{theirs}.linear_attn"
    shared = sizes.value_heads // sizes.key_heads * sizes.value_width
    widths = (sizes.key_width, sizes.key_width, shared, shared)
    projections = tuple(f"{mine}.{part}.weight" for part in ("query", "key", "value", "gate"))
    taps = tuple(f"{mine}.{part}_convolution.weight" for part in ("query", "key", "value"))
    channels = tuple(sizes.key_heads * width for width in widths[:3])
    rates = (f"{mine}.strength.weight", f"{mine}.decay.weight")
    return [
        _by_head(projections, f"{other}.in_proj_qkvz.weight", widths),
        interleaved(rates, f"{other}.in_proj_ba.weight", sizes.key_heads),
        joined(taps, f"{other}.conv1d.weight", channels),
        same(f"{mine}.rate", f"{other}.A_log"),
        same(f"{mine}.decay_bias", f"{other}.dt_bias"),
        same(f"{mine}.norm.weight", f"{other}.norm.weight"),
        same(f"{mine}.output.weight", f"{other}.out_proj.weight"),
    ]


def _by_head(ours: tuple[str, ...], theirs: str, widths: tuple[int, ...]) -> Rule:
    """The rule of several of ours that alternate head by head, each with rows of its own number."""

    def read(tensors: list[Tensor]) -> list[Tensor]:
        heads = tensors[0].unflatten(0, (-1, sum(widths)))  # [heads, rows of all, ...]
        return [one.flatten(0, 1) for one in heads.split(widths, 1)]

    def write(tensors: list[Tensor]) -> list[Tensor]:
        pairs = zip(tensors, widths, strict=True)
        return [torch.cat([one.unflatten(0, (-1, width)) for one, width in pairs], 1).flatten(0, 1)]

    return Rule(ours, (theirs,), read, write)
