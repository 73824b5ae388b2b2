"""Qwen2 and Qwen2.5: Yang et al. 2024, arXiv 2407.10671 and 2412.15115; `transformers`' Qwen2ForCausalLM."""

from __future__ import annotations

from typing import Any

from ingot.models.decoder_config import DecoderConfig
from ingot.models.families.decoder_keys import by_name, layer_types, rope, size_keys, sizes, windows
from ingot.models.families.rules import Rule

MODEL_TYPE = "qwen2"
ARCHITECTURES = ("Qwen2ForCausalLM",)
_BIAS = ("query", "key", "value")


def local(raw: dict[str, Any]) -> dict[str, Any]:
    """Returns which layers have a window: the later ones, where windows are used at all."""
    if not raw.get("use_sliding_window"):
        return {}
    layers, first = raw["num_hidden_layers"], raw.get("max_window_layers", 28)
    usual = ["sliding_attention" if layer >= first else "full_attention" for layer in range(layers)]
    return windows(raw.get("layer_types") or usual, raw.get("sliding_window"))


def local_keys(config: DecoderConfig) -> dict[str, Any]:
    """Returns what `local` reads."""
    if config.window is None:
        return {"use_sliding_window": False}
    kinds = layer_types(config)
    return {
        "use_sliding_window": True,
        "sliding_window": config.window,
        "max_window_layers": kinds.index("sliding_attention"),
        "layer_types": kinds,
    }


def read(raw: dict[str, Any]) -> DecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        KeyError: a size is missing.
        IngotError: parts that are not built here, or sizes that do not fit.
    """
    return DecoderConfig.parse(sizes(raw) | rope(raw) | local(raw) | {"bias": _BIAS}, where="config.json")


def describe(config: DecoderConfig) -> dict[str, Any]:
    """Returns the content of `config.json` (without the number type)."""
    return size_keys(config, ARCHITECTURES[0], MODEL_TYPE) | local_keys(config)


def mapping(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours."""
    return by_name(config)
