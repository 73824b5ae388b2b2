"""Phi-3 and Phi-4 mini: Abdin et al. 2024, arXiv 2404.14219; names as in `transformers`' Phi3ForCausalLM.

Queries, keys and values are stored in one tensor, gate and up in another. Models for long texts have two rows
of rotary factors; which one turns a text, `nn.positions.Rotary` says.
"""

from __future__ import annotations

from typing import Any

from ingot.models.decoder_config import DecoderConfig
from ingot.models.families.decoder_keys import BLOCK, NO_IDS, by_name, rope, size_keys, sizes
from ingot.models.families.rules import Rule, joined

MODEL_TYPE = "phi3"
ARCHITECTURES = ("Phi3ForCausalLM",)
_BLOCK = {ours: theirs for ours, theirs in BLOCK.items() if ours.endswith(("norm", "output", "down"))}


def read(raw: dict[str, Any]) -> DecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        KeyError: a size is missing.
        IngotError: parts that are not built here, or sizes that do not fit.
    """
    old = raw.get("rope_scaling") or {}
    if old.get("type") in ("su", "yarn"):  # what longrope was called at first
        raw = raw | {"rope_scaling": old | {"type": "longrope"}}
    keys = sizes(raw) | rope(raw, also=("partial", "longrope")) | {"window": raw.get("sliding_window")}
    return DecoderConfig.parse(keys, where="config.json")


def describe(config: DecoderConfig) -> dict[str, Any]:
    """Returns the content of `config.json` (without the number type)."""
    keys = size_keys(config, ARCHITECTURES[0], MODEL_TYPE) | NO_IDS | {"sliding_window": config.window}
    scaling = config.rope_scaling
    if scaling is None or scaling.original_context is None:
        return keys | {"original_max_position_embeddings": config.context}
    return keys | {"original_max_position_embeddings": scaling.original_context}


def mapping(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours."""
    rules = by_name(config, _BLOCK)
    wide, narrow = config.heads * config.head_width, config.kv_heads * config.head_width
    for layer in range(config.layers):
        ours, its = f"blocks.{layer}", f"model.layers.{layer}"
        parts = tuple(f"{ours}.attention.{part}.weight" for part in ("query", "key", "value"))
        rules.append(joined(parts, f"{its}.self_attn.qkv_proj.weight", (wide, narrow, narrow)))
        parts = (f"{ours}.feed_forward.gate.weight", f"{ours}.feed_forward.up.weight")
        rules.append(joined(parts, f"{its}.mlp.gate_up_proj.weight", (config.feed_forward,) * 2))
    return rules
