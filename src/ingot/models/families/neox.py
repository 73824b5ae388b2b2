"""GPT-NeoX and Pythia: Black et al. 2022, arXiv 2204.06745; Biderman et al. 2023, arXiv 2304.01373.

Names as in `transformers`' GPTNeoXForCausalLM, where queries, keys and values alternate head by head.
"""

from __future__ import annotations

from typing import Any

from ingot.models.decoder_config import DecoderConfig
from ingot.models.families.decoder_keys import (
    ATTENTION,
    NO_IDS,
    PLAIN,
    by_name,
    named,
    rope,
    scaling_keys,
    theirs,
)
from ingot.models.families.rules import Rule, interleaved

MODEL_TYPE = "gpt_neox"
ARCHITECTURES = ("GPTNeoXForCausalLM",)
PREFIX = "gpt_neox."
SPARE = (r"gpt_neox\.layers\.\d+\.attention\.(masked_bias|bias|rotary_emb\.inv_freq)",)
"""What published folders also hold: masks and tables that are computed."""
_BLOCK = {
    "attention_norm": "input_layernorm",
    "attention.output": "attention.dense",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.up": "mlp.dense_h_to_4h",
    "feed_forward.down": "mlp.dense_4h_to_h",
}
_OUTER = {"embedding": "gpt_neox.embed_in", "norm": "gpt_neox.final_layer_norm", "head": "embed_out"}


def read(raw: dict[str, Any]) -> DecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        KeyError: a size is missing.
        IngotError: parts that are not built here, or sizes that do not fit.
    """
    heads = raw["num_attention_heads"]
    older = {"rope_theta": raw.get("rotary_emb_base", 10_000.0)}
    older["partial_rotary_factor"] = raw.get("rotary_pct", 0.25)
    keys = {
        "vocabulary": raw["vocab_size"],
        "width": raw["hidden_size"],
        "layers": raw["num_hidden_layers"],
        "heads": heads,
        "kv_heads": heads,
        "head_width": raw["hidden_size"] // heads,
        "feed_forward": raw["intermediate_size"],
        "context": raw["max_position_embeddings"],
        "norm_epsilon": raw.get("layer_norm_eps", 1e-5),
        "tied": raw.get("tie_word_embeddings", False),
        "norm": "layer_bias",
        "head_norm": None,
        "arrangement": "parallel" if raw.get("use_parallel_residual", True) else "pre",
        "activation": named(raw.get("hidden_act", "gelu"), PLAIN),
        "bias": (*(ATTENTION if raw.get("attention_bias", True) else ()), "up", "down"),
    }
    return DecoderConfig.parse(keys | rope(older | raw, also=("partial",)), where="config.json")


def describe(config: DecoderConfig) -> dict[str, Any]:
    """Returns the content of `config.json` (without the number type)."""
    scaling = scaling_keys(config.rope_scaling)
    turning = {"rope_theta": config.rope_theta, "partial_rotary_factor": config.rotary_share}
    return {
        "architectures": [ARCHITECTURES[0]],
        "model_type": MODEL_TYPE,
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feed_forward,
        "max_position_embeddings": config.context,
        "layer_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tied,
        "use_parallel_residual": config.arrangement == "parallel",
        "hidden_act": theirs(config.activation, PLAIN),
        "attention_bias": set(ATTENTION) <= set(config.bias),
        "rotary_pct": config.rotary_share,
        "rotary_emb_base": config.rope_theta,
        "rope_parameters": {"rope_type": "default", **turning, **scaling},
        **({"rope_scaling": scaling} if scaling else {}),
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "use_cache": True,
        **NO_IDS,
    }


def mapping(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours."""
    rules = by_name(config, _BLOCK, _OUTER, "gpt_neox.layers")
    for layer in range(config.layers):
        for kind in ("weight", "bias"):
            ours = tuple(f"blocks.{layer}.attention.{part}.{kind}" for part in ("query", "key", "value"))
            its = f"gpt_neox.layers.{layer}.attention.query_key_value.{kind}"
            rules.append(interleaved(ours, its, config.heads))
    return rules
