"""SmolLM3: Hugging Face 2025, hf.co/blog/smollm3; names as in `transformers`' SmolLM3ForCausalLM.

LLaMA whose every fourth layer leaves queries and keys as they are, without positions (Yang et al. 2025, arXiv
2501.18795, section 4); a window, where there is one, is in those layers.
"""

from __future__ import annotations

from typing import Any

from ingot.models.decoder_config import DecoderConfig
from ingot.models.families.decoder_keys import (
    MLP,
    NO_IDS,
    attention_bias,
    by_name,
    layer_types,
    rope,
    size_keys,
    sizes,
    windows,
)
from ingot.models.families.rules import Rule

MODEL_TYPE = "smollm3"
ARCHITECTURES = ("SmolLM3ForCausalLM",)


def read(raw: dict[str, Any]) -> DecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        KeyError: a size is missing.
        IngotError: parts that are not built here, or sizes that do not fit.
    """
    layers, every = raw["num_hidden_layers"], raw.get("no_rope_layer_interval", 4)
    turned = raw.get("no_rope_layers")  # 1 where a layer turns, in spite of the name
    if turned is None:
        turned = [(layer + 1) % every for layer in range(layers)]
    window = raw.get("sliding_window") if raw.get("use_sliding_window") else None
    usual = ["full_attention" if turns else "sliding_attention" for turns in turned]
    parts = {
        "tied": raw.get("tie_word_embeddings", True),
        "unturned_layers": [layer for layer, turns in enumerate(turned) if not turns],
        "bias": attention_bias(raw) + (MLP if raw.get("mlp_bias") else ()),
        **windows(raw.get("layer_types") or usual, window),
    }
    theta = {"rope_theta": 2_000_000.0}
    return DecoderConfig.parse(sizes(raw) | rope(theta | raw) | parts, where="config.json")


def describe(config: DecoderConfig) -> dict[str, Any] | None:
    """Returns the content of `config.json` (without the number type)."""
    if not config.unturned_layers:
        return None
    return {
        **size_keys(config, ARCHITECTURES[0], MODEL_TYPE),
        **NO_IDS,
        "no_rope_layers": [int(layer not in config.unturned_layers) for layer in range(config.layers)],
        "use_sliding_window": config.window is not None,
        "sliding_window": config.window,
        "layer_types": layer_types(config),
        "mlp_bias": set(MLP) <= set(config.bias),
    }


def mapping(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours."""
    return by_name(config)
