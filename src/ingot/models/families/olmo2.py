"""OLMo 2: Walsh et al. 2024, arXiv 2501.00656; names as in `transformers`' Olmo2ForCausalLM."""

from __future__ import annotations

from typing import Any

from ingot.models.decoder_config import DecoderConfig
from ingot.models.families.decoder_keys import BLOCK, NO_IDS, attention_bias, by_name, rope, size_keys, sizes
from ingot.models.families.rules import Rule

MODEL_TYPE = "olmo2"
ARCHITECTURES = ("Olmo2ForCausalLM",)
_BLOCK = BLOCK | {
    "attention_output_norm": "post_attention_layernorm",
    "feed_forward_output_norm": "post_feedforward_layernorm",
}


def read(raw: dict[str, Any]) -> DecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        KeyError: a size is missing.
        IngotError: parts that are not built here, or sizes that do not fit.
    """
    parts = {"arrangement": "post", "head_norm": "whole", "bias": attention_bias(raw)}
    return DecoderConfig.parse(sizes(raw) | rope(raw) | parts, where="config.json")


def describe(config: DecoderConfig) -> dict[str, Any]:
    """Returns the content of `config.json` (without the number type)."""
    return size_keys(config, ARCHITECTURES[0], MODEL_TYPE) | NO_IDS


def mapping(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours."""
    return by_name(config, _BLOCK)
