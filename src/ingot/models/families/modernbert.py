"""ModernBERT's folder: Warner et al. 2024, arXiv 2412.13663, section 2.1; names as in `transformers`."""

from __future__ import annotations

from typing import Any

from ingot.models.encoder import EncoderConfig
from ingot.models.families.encoder_keys import architecture, head_keys, label_keys, refuse
from ingot.models.families.modernbert_layers import kinds_of, theta_of, whole_every

ARCHITECTURES: dict[str, str | None] = {
    "ModernBertForMaskedLM": "masked",
    "ModernBertForSequenceClassification": "sequence",
    "ModernBertForTokenClassification": "tokens",
    "ModernBertForQuestionAnswering": "span",
    "ModernBertModel": None,
}
SPARE: tuple[str, ...] = ()
TRANSFORMS = dict.fromkeys(("masked", "sequence", "tokens", "span"), "gelu_norm")
POOLINGS = {"cls": "first", "mean": "mean"}
LOCAL = 128  # tokens that a local layer sees, where config.json does not say


def read(raw: dict[str, Any], task: str | None) -> EncoderConfig:
    """Returns our configuration of their `config.json`.

    Of their three dropouts, all zero in what is published, ours is that of the embeddings.

    Args:
        raw: its content.
        task: of the head, from the architecture's name; None has no head.

    Raises:
        KeyError: a size is missing.
        ArtifactError: the model has parts that are not built here.
    """
    without = dict.fromkeys(("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"), False)
    gelu = dict.fromkeys(("hidden_activation", "classifier_activation"), "gelu")
    refuse(raw, without | gelu | {"decoder_bias": True})
    layers = raw["num_hidden_layers"]
    every = whole_every(raw, layers)
    head = head_keys(raw, task, 0.0, TRANSFORMS)
    if head is not None:
        pooling = POOLINGS[raw.get("classifier_pooling", "cls")]
        head |= {"transform_bias": False, "pooling": pooling}
    return EncoderConfig.parse(
        {
            "vocabulary": raw["vocab_size"],
            "width": raw["hidden_size"],
            "layers": layers,
            "heads": raw["num_attention_heads"],
            "feed_forward": raw["intermediate_size"],
            "context": raw["max_position_embeddings"],
            "norm": "pre",
            "norm_epsilon": raw.get("norm_eps", 1e-5),
            "biases": False,
            "activation": "geglu",
            "positions": "rotary",
            "segments": None,
            "padding": raw.get("pad_token_id"),
            "window": None if every == 1 else raw.get("local_attention", LOCAL) // 2,
            "whole_every": every,
            "rope_theta": theta_of(raw, "full_attention", "global_rope_theta", 160_000.0),
            "local_rope_theta": theta_of(raw, "sliding_attention", "local_rope_theta", 10_000.0),
            "dropout": raw.get("embedding_dropout", 0.0),
            "head": head,
        },
        where="config.json",
    )


def describe(config: EncoderConfig) -> dict[str, Any]:
    """Returns the content of `config.json` (without the number type)."""
    head = config.head
    thetas = {"full_attention": config.rope_theta, "sliding_attention": config.local_rope_theta}
    poolings = {ours: theirs for theirs, ours in POOLINGS.items()}
    return {
        "architectures": [architecture(config, ARCHITECTURES)],
        "model_type": "modernbert",
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feed_forward,
        "max_position_embeddings": config.context,
        "norm_eps": config.norm_epsilon,
        "pad_token_id": config.padding,
        "local_attention": LOCAL if config.window is None else 2 * config.window,
        "layer_types": kinds_of(config.whole_every, config.layers),
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": t} for kind, t in thetas.items()},
        # Older readers look for these three.
        "global_attn_every_n_layers": config.whole_every,
        "global_rope_theta": config.rope_theta,
        "local_rope_theta": config.local_rope_theta,
        **dict.fromkeys(("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"), False),
        **dict.fromkeys(("hidden_activation", "classifier_activation"), "gelu"),
        "decoder_bias": True,
        "attention_dropout": 0.0,
        "mlp_dropout": 0.0,
        "embedding_dropout": config.dropout,
        "classifier_dropout": 0.0 if head is None else head.dropout,
        "classifier_pooling": "cls" if head is None else poolings[head.pooling],
        "tie_word_embeddings": head is None or head.tied,
        **label_keys(head),
    }


BLOCK = {
    "attn.Wqkv": ("attention.query", "attention.key", "attention.value"),
    "attn.Wo": ("attention.output",),
    "attn_norm": ("attention_norm",),
    "mlp.Wi": ("feed_forward.gate", "feed_forward.up"),
    "mlp.Wo": ("feed_forward.down",),
    "mlp_norm": ("feed_forward_norm",),
}


def weights(config: EncoderConfig) -> dict[str, tuple[str, ...]]:
    """Returns their weight name -> our names, whose rows it holds one after the other."""
    body = "" if config.head is None or config.head.task == "embedding" else "model."
    modules: dict[str, tuple[str, ...]] = {
        f"{body}embeddings.tok_embeddings": ("embedding",),
        f"{body}embeddings.norm": ("embedding_norm",),
        f"{body}final_norm": ("norm",),
    }
    for layer in range(config.layers):
        for theirs, ours in BLOCK.items():
            if layer or theirs != "attn_norm":
                modules[f"{body}layers.{layer}.{theirs}"] = tuple(f"blocks.{layer}.{name}" for name in ours)
    names: dict[str, tuple[str, ...]] = {}
    if body and config.head is not None:
        modules |= {"head.dense": ("head.transform.dense",), "head.norm": ("head.transform.norm",)}
        last = "decoder" if config.head.task == "masked" else "classifier"
        modules[last] = ("head.output",)
        names[f"{last}.bias"] = ("head.output.bias",)
    return {
        f"{theirs}.weight": tuple(f"{o}.weight" for o in ours) for theirs, ours in modules.items()
    } | names
