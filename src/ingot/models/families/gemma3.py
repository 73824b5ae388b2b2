"""Gemma 3, its text models: Gemma Team 2025, arXiv 2503.19786; `transformers`' Gemma3ForCausalLM."""

from __future__ import annotations

from typing import Any

from ingot.models.decoder_config import DecoderConfig
from ingot.models.families import gemma2
from ingot.models.families.decoder_keys import rope, scaling_keys
from ingot.models.families.rules import Rule

MODEL_TYPE = "gemma3_text"
ARCHITECTURES = ("Gemma3ForCausalLM",)


def read(raw: dict[str, Any]) -> DecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        KeyError: a size is missing.
        IngotError: parts that are not built here, or sizes that do not fit.
    """
    by_kind = raw.get("rope_parameters") or {}
    whole = {"rope_theta": raw.get("rope_theta", 1e6), **(raw.get("rope_scaling") or {})}
    whole |= by_kind.get("full_attention") or {}
    near = {"rope_theta": raw.get("rope_local_base_freq", 10_000.0)}
    near |= by_kind.get("sliding_attention") or {}
    keys = gemma2.parts(raw, raw.get("sliding_window_pattern") or 6) | rope(raw, whole)
    keys |= {"head_norm": "rms_one", "local_rope_theta": rope(raw, near)["rope_theta"]}
    return DecoderConfig.parse(keys, where="config.json")


def describe(config: DecoderConfig) -> dict[str, Any]:
    """Returns the content of `config.json` (without the number type)."""
    scaling = scaling_keys(config.rope_scaling)
    near = config.local_rope_theta
    return gemma2.keys(config, ARCHITECTURES[0], MODEL_TYPE) | {
        "rope_local_base_freq": near,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": config.rope_theta, **scaling},
            "sliding_attention": {"rope_type": "default", "rope_theta": near},
        },
    }


def mapping(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours."""
    return gemma2.mapping(config)
