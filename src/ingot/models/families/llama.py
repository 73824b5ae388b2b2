"""LLaMA 1 to 3: Touvron et al. 2023, arXiv 2302.13971 and 2307.09288; Llama Team 2024, arXiv 2407.21783.

Many models have its shape and say so: SmolLM and SmolLM2 (Allal et al. 2025, arXiv 2502.02737), TinyLlama,
Yi, DeepSeek LLM. Names as in `transformers`' LlamaForCausalLM.
"""

from __future__ import annotations

from typing import Any

from ingot.models.decoder_config import DecoderConfig
from ingot.models.families.decoder_keys import MLP, NO_IDS, attention_bias, by_name, rope, size_keys, sizes
from ingot.models.families.rules import Rule

MODEL_TYPE = "llama"
ARCHITECTURES = ("LlamaForCausalLM",)
SPARE = (r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",)
"""What published folders also hold: tables that are computed."""


def read(raw: dict[str, Any]) -> DecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        KeyError: a size is missing.
        IngotError: parts that are not built here, or sizes that do not fit.
    """
    bias = (*attention_bias(raw), *(MLP if raw.get("mlp_bias") else ()))
    return DecoderConfig.parse(sizes(raw) | rope(raw) | {"bias": bias}, where="config.json")


def describe(config: DecoderConfig) -> dict[str, Any]:
    """Returns the content of `config.json` (without the number type)."""
    return (
        size_keys(config, ARCHITECTURES[0], MODEL_TYPE) | NO_IDS | {"mlp_bias": set(MLP) <= set(config.bias)}
    )


def mapping(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours."""
    return by_name(config)
