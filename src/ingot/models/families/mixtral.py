"""Mixtral: Jiang et al. 2024, arXiv 2401.04088; names as in `transformers`' MixtralForCausalLM."""

from __future__ import annotations

from typing import Any

from ingot.models.decoder_config import DecoderConfig
from ingot.models.families.decoder_keys import rope, size_keys, sizes
from ingot.models.families.expert_keys import ATTENTION_BLOCK, balance, balance_keys, expert_rules
from ingot.models.families.rules import Rule

MODEL_TYPE = "mixtral"
ARCHITECTURES = ("MixtralForCausalLM",)
_MODULES = {
    "experts.gate": "block_sparse_moe.experts.{}.w1",
    "experts.up": "block_sparse_moe.experts.{}.w3",
    "experts.down": "block_sparse_moe.experts.{}.w2",
    "router": "block_sparse_moe.gate",
}


def read(raw: dict[str, Any]) -> DecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        KeyError: a size is missing.
        IngotError: parts that are not built here, or sizes that do not fit.
    """
    experts = {
        "count": raw["num_local_experts"],
        "chosen": raw["num_experts_per_tok"],
        "width": raw["intermediate_size"],
        **balance(raw, 0.001),
    }
    parts = {"window": raw.get("sliding_window"), "experts": experts}
    return DecoderConfig.parse(sizes(raw) | rope(raw) | parts, where="config.json")


def describe(config: DecoderConfig) -> dict[str, Any] | None:
    """Returns the content of `config.json` (without the number type)."""
    if config.experts is None:
        return None
    return {
        **size_keys(config, ARCHITECTURES[0], MODEL_TYPE),
        "sliding_window": config.window,
        "num_local_experts": config.experts.count,
        "num_experts_per_tok": config.experts.chosen,
        **balance_keys(config.experts),
    }


def mapping(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours."""
    return expert_rules(config, ATTENTION_BLOCK, _MODULES)
