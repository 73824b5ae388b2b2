"""Gemma 2: Gemma Team 2024, arXiv 2408.00118; names as in `transformers`' Gemma2ForCausalLM."""

from __future__ import annotations

from typing import Any

from ingot.models.decoder_config import DecoderConfig
from ingot.models.families.decoder_keys import (
    BLOCK,
    GATED,
    NO_IDS,
    attention_bias,
    by_name,
    layer_types,
    named,
    rope,
    size_keys,
    sizes,
    theirs,
    windows,
)
from ingot.models.families.encoder_keys import refuse
from ingot.models.families.rules import Rule

MODEL_TYPE = "gemma2"
ARCHITECTURES = ("Gemma2ForCausalLM",)
_BLOCK = BLOCK | {
    "attention_output_norm": "post_attention_layernorm",
    "feed_forward_norm": "pre_feedforward_layernorm",
    "feed_forward_output_norm": "post_feedforward_layernorm",
}

_SIDES = "use_bidirectional_attention"


def parts(raw: dict[str, Any], local_in: int) -> dict[str, Any]:
    """Returns what Gemma 2 and 3 have in common, for `DecoderConfig`.

    Args:
        raw: content of `config.json`.
        local_in: all layers but every so manyth are local, unless `layer_types` says which.
    """
    refuse({_SIDES: raw.get(_SIDES) or False}, {_SIDES: False})
    layers, scalar = raw["num_hidden_layers"], raw.get("query_pre_attn_scalar", 256)
    usual = ["sliding_attention" if (i + 1) % local_in else "full_attention" for i in range(layers)]
    keys = sizes(raw | {"head_dim": raw.get("head_dim", 256), "hidden_act": "gelu_pytorch_tanh"})
    activation = raw.get("hidden_activation") or raw.get("hidden_act") or "gelu_pytorch_tanh"
    return {
        **keys,
        **windows(raw.get("layer_types") or usual, raw.get("sliding_window", 4096)),
        "tied": raw.get("tie_word_embeddings", True),
        "norm": "rms_one",
        "arrangement": "sandwich",
        "activation": named(activation, GATED),
        "bias": attention_bias(raw),
        "embedding_scale": raw["hidden_size"] ** 0.5,
        "score_scale": None if scalar == keys["head_width"] else scalar**-0.5,
        "score_cap": raw.get("attn_logit_softcapping"),
        "logit_cap": raw.get("final_logit_softcapping"),
    }


def keys(config: DecoderConfig, architecture: str, model_type: str) -> dict[str, Any]:
    """Returns what `parts` reads."""
    scale = config.score_scale
    return (
        size_keys(config, architecture, model_type)
        | NO_IDS
        | {
            "hidden_activation": theirs(config.activation, GATED),
            "sliding_window": config.window,
            "layer_types": layer_types(config),
            "query_pre_attn_scalar": config.head_width if scale is None else round(scale**-2),
            "attn_logit_softcapping": config.score_cap,
            "final_logit_softcapping": config.logit_cap,
        }
    )


def read(raw: dict[str, Any]) -> DecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        KeyError: a size is missing.
        IngotError: parts that are not built here, or sizes that do not fit.
    """
    caps = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    return DecoderConfig.parse(parts(caps | raw, 2) | rope(raw), where="config.json")


def describe(config: DecoderConfig) -> dict[str, Any]:
    """Returns the content of `config.json` (without the number type)."""
    return keys(config, ARCHITECTURES[0], MODEL_TYPE)


def mapping(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours."""
    return by_name(config, _BLOCK)
