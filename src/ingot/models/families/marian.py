"""Marian's folder: the original Transformer as published translators have it, names as in `transformers`.

All sines come before all cosines, and the head has a bias (Junczys-Dowmunt et al. 2018, arXiv 1804.00344).
"""

from __future__ import annotations

from typing import Any

from ingot.models.encoder_decoder_config import EncoderDecoderConfig
from ingot.models.families.encoder_keys import refuse
from ingot.models.families.rules import Rule, same

MODEL_TYPE = "marian"
ARCHITECTURES: tuple[str, ...] = ("MarianMTModel",)
SIDES = ("encoder", "decoder")
TABLES = tuple(f"model.{side}.embed_{what}.weight" for side in SIDES for what in ("tokens", "positions"))
SPARE = ("lm_head.weight", *TABLES)
"""What older folders also hold: the embedding again, and waves that can be computed."""
PARTS: dict[str, Any] = {
    "norm": "layer",
    "norm_epsilon": 1e-5,
    "arrangement": "post",
    "last_norm": False,
    "biases": True,
    "positions": "sinusoidal_halves",
    "score_scale": None,
    "head_scale": 1.0,
    "head_bias": True,
    "tied": True,
}
"""What all of them have in common."""
ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "swish": "silu", "silu": "silu"}
SIZES = {
    "vocabulary": "vocab_size",
    "width": "d_model",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "heads": "encoder_attention_heads",
    "feed_forward": "encoder_ffn_dim",
    "context": "max_position_embeddings",
    "padding": "pad_token_id",
    "begin": "decoder_start_token_id",
    "dropout": "dropout",
}


def read(raw: dict[str, Any]) -> EncoderDecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        ArtifactError: the model has parts that are not built here (`KeyError`: a size is missing).
    """
    activation = raw.get("activation_function", "gelu")
    same_there = {
        "decoder_attention_heads": raw["encoder_attention_heads"],
        "decoder_ffn_dim": raw["encoder_ffn_dim"],
        "decoder_vocab_size": raw["vocab_size"],
    }
    only = {"share_encoder_decoder_embeddings": True, "tie_word_embeddings": True, "normalize_before": False}
    refuse(
        raw,
        {**same_there, **only, "activation_function": activation if activation in ACTIVATIONS else "swish"},
    )
    end = raw.get("eos_token_id", 0)
    told = {
        **{ours: raw[theirs] for ours, theirs in SIZES.items()},
        "head_width": raw["d_model"] // raw["encoder_attention_heads"],
        "activation": ACTIVATIONS[activation],
        "embedding_scale": raw["d_model"] ** 0.5 if raw.get("scale_embedding") else 1.0,
        "end": end[0] if isinstance(end, list) else end,
    }
    return EncoderDecoderConfig.parse({**PARTS, **told}, where="config.json")


def describe(config: EncoderDecoderConfig) -> dict[str, Any] | None:
    """Returns the content of `config.json` (without the number type); None where Marian lacks the parts."""
    words = {ours: theirs for theirs, ours in ACTIVATIONS.items()}
    if config.activation not in words:
        return None
    raw = {
        "architectures": list(ARCHITECTURES),
        "model_type": MODEL_TYPE,
        "is_encoder_decoder": True,
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "decoder_attention_heads": config.heads,
        "decoder_ffn_dim": config.feed_forward,
        "activation_function": words[config.activation],
        "scale_embedding": config.embedding_scale != 1,
        "eos_token_id": config.end,
        "forced_eos_token_id": None,
    }
    return raw if read(raw) == config else None


ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
KINDS = ("weight", "bias")
BLOCK = {
    "attention_norm": "self_attn_layer_norm",
    "feed_forward.up": "fc1",
    "feed_forward.down": "fc2",
    "feed_forward_norm": "final_layer_norm",
}


def mapping(config: EncoderDecoderConfig) -> list[Rule]:
    """Returns which of our weights is which of theirs; the head's weight is the embedding."""
    names: dict[str, str] = {}
    for side, layers in zip(SIDES, (config.encoder_layers, config.decoder_layers), strict=True):
        parts = {**BLOCK, **{f"attention.{one}": f"self_attn.{other}" for one, other in ATTENTION.items()}}
        if side == "decoder":
            parts |= {f"crossing.{one}": f"encoder_attn.{other}" for one, other in ATTENTION.items()}
            parts["crossing_norm"] = "encoder_attn_layer_norm"
        for layer in range(layers):
            mine, yours = f"{side}.blocks.{layer}", f"model.{side}.layers.{layer}"
            names |= {f"{mine}.{one}": f"{yours}.{other}" for one, other in parts.items()}
    each = [same(f"{one}.{kind}", f"{other}.{kind}") for one, other in names.items() for kind in KINDS]
    # Their bias of the head is a row [1, v].
    bias = Rule(("head.bias",), ("final_logits_bias",), lambda row: [row[0][0]], lambda own: [own[0][None]])
    return [same("embedding.weight", "model.shared.weight"), bias, *each]
