"""Mistral 7B: Jiang et al. 2023, arXiv 2310.06825; names as in `transformers`' MistralForCausalLM."""

from __future__ import annotations

from typing import Any

from ingot.models.decoder_config import DecoderConfig
from ingot.models.families.decoder_keys import NO_IDS, by_name, rope, size_keys, sizes
from ingot.models.families.rules import Rule

MODEL_TYPE = "mistral"
ARCHITECTURES = ("MistralForCausalLM",)


def read(raw: dict[str, Any]) -> DecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        KeyError: a size is missing.
        IngotError: parts that are not built here, or sizes that do not fit.
    """
    keys = sizes(raw) | rope(raw) | {"window": raw.get("sliding_window", 4096)}
    return DecoderConfig.parse(keys, where="config.json")


def describe(config: DecoderConfig) -> dict[str, Any]:
    """Returns the content of `config.json` (without the number type)."""
    return size_keys(config, ARCHITECTURES[0], MODEL_TYPE) | NO_IDS | {"sliding_window": config.window}


def mapping(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours."""
    return by_name(config)
