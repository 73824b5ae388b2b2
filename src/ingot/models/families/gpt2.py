"""GPT-2: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".

Names as in `transformers`' GPT2LMHeadModel: linear layers transposed, queries, keys and values in one tensor.
"""

from __future__ import annotations

from typing import Any

from ingot.models.decoder_config import DecoderConfig
from ingot.models.families.decoder_keys import ATTENTION, NO_IDS, PLAIN, by_name, named, theirs
from ingot.models.families.encoder_keys import refuse
from ingot.models.families.rules import Rule, joined, transposed, turned

MODEL_TYPE = "gpt2"
ARCHITECTURES = ("GPT2LMHeadModel",)
PREFIX = "transformer."
SPARE = (r"transformer\.h\.\d+\.attn\.(masked_)?bias",)
"""What published folders also hold: masks that are computed."""
_PARTS: dict[str, Any] = {
    "norm": "layer_bias",
    "head_norm": None,
    "positions": "learned",
    "bias": (*ATTENTION, "up", "down"),
}
_TURNED = {
    "attention.output": "attn.c_proj",
    "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
}
_SAME = {"attention_norm": "ln_1", "feed_forward_norm": "ln_2"}
_OUTER = {
    "embedding": "transformer.wte",
    "positions": "transformer.wpe",
    "norm": "transformer.ln_f",
    "head": "lm_head",
}


def read(raw: dict[str, Any]) -> DecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        KeyError: a size is missing.
        IngotError: parts that are not built here, or sizes that do not fit.
    """
    odd = {
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
        "scale_attn_weights": True,
    }
    refuse(raw, odd | {"add_cross_attention": False})
    width, heads = raw["n_embd"], raw["n_head"]
    keys = {
        "vocabulary": raw["vocab_size"],
        "width": width,
        "layers": raw["n_layer"],
        "heads": heads,
        "kv_heads": heads,
        "head_width": width // heads,
        "feed_forward": raw.get("n_inner") or 4 * width,
        "context": raw["n_positions"],
        "norm_epsilon": raw.get("layer_norm_epsilon", 1e-5),
        "tied": raw.get("tie_word_embeddings", True),
        "activation": named(raw.get("activation_function", "gelu_new"), PLAIN),
    }
    return DecoderConfig.parse(keys | _PARTS, where="config.json")


def describe(config: DecoderConfig) -> dict[str, Any]:
    """Returns the content of `config.json` (without the number type)."""
    return {
        "architectures": [ARCHITECTURES[0]],
        "model_type": MODEL_TYPE,
        "vocab_size": config.vocabulary,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.feed_forward,
        "n_positions": config.context,
        "layer_norm_epsilon": config.norm_epsilon,
        "tie_word_embeddings": config.tied,
        "activation_function": theirs(config.activation, PLAIN),
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "use_cache": True,
        **NO_IDS,
    }


def mapping(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours."""
    rules = by_name(config, _SAME, _OUTER, "transformer.h")
    for layer in range(config.layers):
        ours, its = f"blocks.{layer}", f"transformer.h.{layer}"
        for kind in ("weight", "bias"):
            parts = tuple(f"{ours}.attention.{part}.{kind}" for part in ("query", "key", "value"))
            rules.append(turned(joined(parts, f"{its}.attn.c_attn.{kind}", (config.width,) * 3)))
            for mine, name in _TURNED.items():
                rules.append(transposed(f"{ours}.{mine}.{kind}", f"{its}.{name}.{kind}"))
    return rules
