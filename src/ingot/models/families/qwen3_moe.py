"""Qwen3's mixture of experts: Yang et al. 2025, arXiv 2505.09388; `transformers`' Qwen3MoeForCausalLM."""

from __future__ import annotations

from typing import Any

from ingot.models.decoder_config import DecoderConfig
from ingot.models.families.decoder_keys import attention_bias, rope, size_keys, sizes
from ingot.models.families.expert_keys import balance, balance_keys, expert_rules
from ingot.models.families.rules import Rule

MODEL_TYPE = "qwen3_moe"
ARCHITECTURES = ("Qwen3MoeForCausalLM",)


def read(raw: dict[str, Any]) -> DecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        KeyError: a size is missing.
        IngotError: parts that are not built here, or sizes that do not fit.
    """
    every, dense = raw.get("decoder_sparse_step", 1), raw.get("mlp_only_layers") or ()
    experts = {
        "count": raw["num_experts"] if "num_experts" in raw else raw["num_local_experts"],
        "chosen": raw["num_experts_per_tok"],
        "width": raw["moe_intermediate_size"],
        "normalised": raw.get("norm_topk_prob", False),
        **balance(raw, 0.001),
    }
    parts = {
        "head_norm": "rms",
        "bias": attention_bias(raw),
        "window": raw.get("sliding_window", 4096) if raw.get("use_sliding_window") else None,
        "experts": experts,
        "dense_layers": [
            layer for layer in range(raw["num_hidden_layers"]) if layer in dense or (layer + 1) % every
        ],
    }
    return DecoderConfig.parse(sizes(raw) | rope(raw) | parts, where="config.json")


def describe(config: DecoderConfig) -> dict[str, Any] | None:
    """Returns the content of `config.json` (without the number type)."""
    experts = config.experts
    if experts is None:
        return None
    return {
        **size_keys(config, ARCHITECTURES[0], MODEL_TYPE),
        "use_sliding_window": config.window is not None,
        "sliding_window": config.window,
        "num_experts": experts.count,
        "num_experts_per_tok": experts.chosen,
        "moe_intermediate_size": experts.width,
        "norm_topk_prob": experts.normalised,
        "decoder_sparse_step": 1,
        "mlp_only_layers": list(config.dense_layers),
        **balance_keys(experts),
    }


def mapping(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours."""
    return expert_rules(config)
