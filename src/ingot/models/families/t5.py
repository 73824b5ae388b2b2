"""T5's folder: Raffel et al. 2020, arXiv 1910.10683; T5 1.1, Flan-T5 and mT5 have its names."""

from __future__ import annotations

from typing import Any

from ingot.errors import ArtifactError
from ingot.models.encoder_decoder_config import EncoderDecoderConfig
from ingot.models.families.rules import Rule, same

MODEL_TYPE = "t5"
ARCHITECTURES = ("T5ForConditionalGeneration", "MT5ForConditionalGeneration")
SPARE = (
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
)
"""What older folders also hold: the embedding again, and a table that nobody reads."""
PARTS: dict[str, Any] = {
    "norm": "rms",
    "norm_epsilon": 1e-6,
    "arrangement": "pre",
    "last_norm": True,
    "biases": False,
    "positions": "relative",
    "score_scale": 1.0,
    "embedding_scale": 1.0,
    "head_bias": False,
}
"""What all have in common. The first has ReLU and a tied, scaled head; T5 1.1 gated GELU and its own head."""
ACTIVATIONS = {"relu": "relu", "gated-gelu": "geglu_tanh", "gated-silu": "swiglu"}
SIZES = {
    "vocabulary": "vocab_size",
    "width": "d_model",
    "head_width": "d_kv",
    "feed_forward": "d_ff",
    "encoder_layers": "num_layers",
    "heads": "num_heads",
}
USUAL: dict[str, tuple[str, Any]] = {
    "context": ("n_positions", 512),
    "norm_epsilon": ("layer_norm_epsilon", 1e-6),
    "buckets": ("relative_attention_num_buckets", 32),
    "furthest": ("relative_attention_max_distance", 128),
    "tied": ("tie_word_embeddings", True),
    "padding": ("pad_token_id", 0),
    "dropout": ("dropout_rate", 0.1),
}


def read(raw: dict[str, Any]) -> EncoderDecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        ArtifactError: the model has parts that are not built here (`KeyError`: a size is missing).
    """
    activation = raw.get("feed_forward_proj", "relu")
    if activation not in ACTIVATIONS:
        what = f"feed_forward_proj {activation!r} is not supported"
        raise ArtifactError(what, where="config.json", fix=f"known: {', '.join(ACTIVATIONS)}")
    # Of old, a tied head said that states are divided; newer folders say so by themselves. mT5 never does.
    scaled = raw.get("scale_decoder_outputs", raw.get("tie_word_embeddings", True))
    end = raw.get("eos_token_id", 1)
    told = {
        **{ours: raw[theirs] for ours, theirs in SIZES.items()},
        **{ours: raw.get(*theirs) for ours, theirs in USUAL.items()},
        "decoder_layers": raw.get("num_decoder_layers") or raw["num_layers"],
        "activation": ACTIVATIONS[activation],
        "head_scale": raw["d_model"] ** -0.5 if scaled and raw.get("model_type") != "mt5" else 1.0,
        "begin": raw.get("decoder_start_token_id") or 0,
        "end": end[0] if isinstance(end, list) else end,
    }
    return EncoderDecoderConfig.parse({**PARTS, **told}, where="config.json")


def describe(config: EncoderDecoderConfig) -> dict[str, Any] | None:
    """Returns the content of `config.json` (without the number type); None where T5 lacks the parts."""
    words = {ours: theirs for theirs, ours in ACTIVATIONS.items()}
    if config.activation not in words:
        return None
    raw = {
        "architectures": [ARCHITECTURES[0]],
        "model_type": MODEL_TYPE,
        "is_encoder_decoder": True,
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        **{theirs: getattr(config, ours) for ours, (theirs, _) in USUAL.items()},
        "num_decoder_layers": config.decoder_layers,
        "feed_forward_proj": words[config.activation],
        "scale_decoder_outputs": config.head_scale != 1,
        "decoder_start_token_id": config.begin,
        "eos_token_id": config.end,
    }
    return raw if read(raw) == config else None


ATTENTION = {"query": "q", "key": "k", "value": "v", "output": "o"}


def mapping(config: EncoderDecoderConfig) -> list[Rule]:
    """Returns which of our weights is which of theirs; a tied head is not stored."""
    names = {"embedding": "shared", **({} if config.tied else {"head": "lm_head"})}
    gated = config.activation != "relu"
    forward = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
    for side, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        parts = [("attention", "SelfAttention", ATTENTION), ("feed_forward", "DenseReluDense", forward)]
        if side == "decoder":
            parts.insert(1, ("crossing", "EncDecAttention", ATTENTION))
        for layer in range(layers):
            for number, (ours, theirs, inside) in enumerate(parts):
                mine, place = f"{side}.blocks.{layer}.{ours}", f"{side}.block.{layer}.layer.{number}"
                names |= {f"{mine}.{one}": f"{place}.{theirs}.{other}" for one, other in inside.items()}
                names[f"{mine}_norm"] = f"{place}.layer_norm"
        first = f"{side}.block.0.layer.0.SelfAttention"
        names |= {
            f"{side}.relative.table": f"{first}.relative_attention_bias",
            f"{side}.norm": f"{side}.final_layer_norm",
        }
    return [same(f"{ours}.weight", f"{theirs}.weight") for ours, theirs in names.items()]
