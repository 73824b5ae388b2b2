"""Qwen3-Next: a few layers of the gated delta rule, one of gated attention, and so on.

Source: Qwen3-Next (2025) as published in `transformers`; its layers of experts share one behind a gate.
"""

from __future__ import annotations

from typing import Any

from ingot.errors import ArtifactError
from ingot.models.families.encoder_keys import refuse
from ingot.models.families.expert_keys import balance, balance_keys
from ingot.models.families.qwen3_next_weights import mapping
from ingot.models.linear_config import LinearDecoderConfig

__all__ = ["ARCHITECTURES", "MODEL_TYPE", "SPARE", "describe", "mapping", "read"]

MODEL_TYPE = "qwen3_next"
ARCHITECTURES = ("Qwen3NextForCausalLM",)
SPARE = (r"mtp\..*",)
"""Patterns of what published folders also hold: layers that guess a second token."""

_KINDS = ("linear_attention", "full_attention")


def read(raw: dict[str, Any]) -> LinearDecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        ArtifactError: parts that are not built here, named.
        ConfigError: sizes that do not fit together.
        KeyError: a size that is not there.
    """
    refuse(raw, {"hidden_act": "silu", "attention_bias": False})
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    refuse(rope, {"rope_type": "default", "type": "default"})
    layers = raw["num_hidden_layers"]
    every = _every(raw, layers)
    attention = {
        "every": every,
        "heads": raw["num_attention_heads"],
        "kv_heads": raw["num_key_value_heads"],
        "head_width": raw.get("head_dim", 256),
        "rope_theta": rope.get("rope_theta", raw.get("rope_theta", 10_000.0)),
        "rotary_share": rope.get("partial_rotary_factor", raw.get("partial_rotary_factor", 0.25)),
    }
    return LinearDecoderConfig.parse(
        {
            "vocabulary": raw["vocab_size"],
            "width": raw["hidden_size"],
            "layers": layers,
            "feed_forward": raw["intermediate_size"],
            "context": raw["max_position_embeddings"],
            "delta": {
                "key_heads": raw["linear_num_key_heads"],
                "value_heads": raw["linear_num_value_heads"],
                "key_width": raw["linear_key_head_dim"],
                "value_width": raw["linear_value_head_dim"],
                "taps": raw.get("linear_conv_kernel_dim", 4),
            },
            "attention": None if every is None else attention,
            **_experts(raw, layers),
            "norm_epsilon": raw.get("rms_norm_eps", 1e-6),
            "tied": raw.get("tie_word_embeddings", False),
        },
        where="config.json",
    )


def _experts(raw: dict[str, Any], layers: int) -> dict[str, Any]:
    """What is said of experts."""
    every, dense = raw.get("decoder_sparse_step", 1), raw.get("mlp_only_layers") or ()
    plain = [layer for layer in range(layers) if layer in dense or (layer + 1) % every]
    if not raw.get("num_experts", 512) or len(plain) == layers:
        return {"experts": None}
    experts = {
        "count": raw.get("num_experts", 512),
        "chosen": raw["num_experts_per_tok"],
        "width": raw["moe_intermediate_size"],
        "shared": raw["shared_expert_intermediate_size"],
        "normalised": raw.get("norm_topk_prob", True),
        **balance(raw, 0.001),
    }
    return {"experts": experts, "dense_layers": plain}


def _expert_keys(config: LinearDecoderConfig) -> dict[str, Any]:
    """What `_experts` reads."""
    experts = config.experts
    if experts is None:
        return {"num_experts": 0, "mlp_only_layers": list(range(config.layers))}
    return {
        "num_experts": experts.count,
        "num_experts_per_tok": experts.chosen,
        "moe_intermediate_size": experts.width,
        "shared_expert_intermediate_size": experts.shared,
        "norm_topk_prob": experts.normalised,
        "decoder_sparse_step": 1,
        "mlp_only_layers": list(config.dense_layers),
        **balance_keys(experts),
    }


def _every(raw: dict[str, Any], layers: int) -> int | None:
    """Returns the n of "layers n, 2n, ... attend", told in either of two ways; None where none does."""
    kinds = raw.get("layer_types") or _kinds(raw.get("full_attention_interval", 4), layers)
    places = [number for number, kind in enumerate(kinds, 1) if kind == _KINDS[1]]
    every = places[0] if places else None
    if kinds != _kinds(every, layers):
        raise ArtifactError(
            f"layer_types {kinds} has no period",
            where="config.json",
            fix=f"layers n, 2n, ... of {layers} must be {_KINDS[1]}, the others {_KINDS[0]}",
        )
    return every


def _kinds(every: int | None, layers: int) -> list[str]:
    """Returns the kind of every layer, in their words."""
    return [_KINDS[every is not None and number % every == 0] for number in range(1, layers + 1)]


def describe(config: LinearDecoderConfig) -> dict[str, Any]:
    """Returns the content of `config.json` (without number type and token ids)."""
    full, delta = config.attention, config.delta
    theta, share = (10_000.0, 0.25) if full is None else (full.rope_theta, full.rotary_share)
    return {
        "architectures": list(ARCHITECTURES),
        "model_type": MODEL_TYPE,
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "intermediate_size": config.feed_forward,
        "max_position_embeddings": config.context,
        # Theirs asks for sizes of attention even where no layer attends.
        "num_attention_heads": delta.key_heads if full is None else full.heads,
        "num_key_value_heads": delta.key_heads if full is None else full.kv_heads,
        "head_dim": 64 if full is None else full.head_width,
        "rope_theta": theta,
        "partial_rotary_factor": share,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": theta,
            "partial_rotary_factor": share,
        },
        "layer_types": _kinds(None if full is None else full.every, config.layers),
        "linear_num_key_heads": delta.key_heads,
        "linear_num_value_heads": delta.value_heads,
        "linear_key_head_dim": delta.key_width,
        "linear_value_head_dim": delta.value_width,
        "linear_conv_kernel_dim": delta.taps,
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tied,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_cache": True,
        **_expert_keys(config),
    }
