"""Qwen3: Yang et al. 2025, arXiv 2505.09388; names as in `transformers`' Qwen3ForCausalLM. Our own shape."""

from __future__ import annotations

from typing import Any

from ingot.models.decoder_config import DecoderConfig
from ingot.models.families import qwen2
from ingot.models.families.decoder_keys import attention_bias, by_name, rope, size_keys, sizes
from ingot.models.families.rules import Rule

MODEL_TYPE = "qwen3"
ARCHITECTURES = ("Qwen3ForCausalLM",)


def read(raw: dict[str, Any]) -> DecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        KeyError: a size is missing.
        IngotError: parts that are not built here, or sizes that do not fit.
    """
    parts = {"head_norm": "rms", "bias": attention_bias(raw)}
    keys = sizes(raw) | rope(raw) | qwen2.local(raw) | parts
    return DecoderConfig.parse(keys, where="config.json")


def describe(config: DecoderConfig) -> dict[str, Any]:
    """Returns the content of `config.json` (without the number type)."""
    return size_keys(config, ARCHITECTURES[0], MODEL_TYPE) | qwen2.local_keys(config)


def mapping(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours."""
    return by_name(config)
