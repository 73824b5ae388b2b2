"""What the `config.json` of most decoder families share, and the names of weights laid out as LLaMA's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, get_args

from ingot.errors import ArtifactError
from ingot.models.decoder_config import DecoderConfig
from ingot.models.families.rules import Rule, same
from ingot.nn.rope_scaling import RopeScaling

NO_IDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
"""Written where a family's readers would otherwise take the ids of the published tokenizer."""
ATTENTION = ("query", "key", "value", "output")
MLP = ("gate", "up", "down")
GATED = {"silu": "swiglu", "swish": "swiglu", "gelu": "geglu", "gelu_pytorch_tanh": "geglu_tanh"}
PLAIN = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
KINDS = get_args(RopeScaling.model_fields["kind"].annotation)
_SCALING = {  # ours -> theirs
    "factor": "factor",
    "original_context": "original_max_position_embeddings",
    "low": "low_freq_factor",
    "high": "high_freq_factor",
    "fast": "beta_fast",
    "slow": "beta_slow",
    "attention": "attention_factor",
    "mscale": "mscale",
    "mscale_all": "mscale_all_dim",
    "truncate": "truncate",
    "short": "short_factor",
    "long": "long_factor",
}


def sizes(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the sizes that all families of LLaMA's kind write alike, for `DecoderConfig`.

    Raises:
        KeyError: one is missing.
    """
    heads = raw["num_attention_heads"]
    return {
        "vocabulary": raw["vocab_size"],
        "width": raw["hidden_size"],
        "layers": raw["num_hidden_layers"],
        "heads": heads,
        "kv_heads": raw.get("num_key_value_heads") or heads,
        "head_width": raw.get("head_dim") or raw["hidden_size"] // heads,
        "feed_forward": raw["intermediate_size"],
        "context": raw["max_position_embeddings"],
        "norm_epsilon": raw["rms_norm_eps"],
        "tied": raw.get("tie_word_embeddings", False),
        "head_norm": None,
        "activation": named(raw.get("hidden_act", "silu"), GATED),
    }


def size_keys(config: DecoderConfig, architecture: str, model_type: str) -> dict[str, Any]:
    """Returns what `sizes` and `rope` read, and the keys that every reader expects."""
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.feed_forward,
        "max_position_embeddings": config.context,
        **rope_keys(config),
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tied,
        "hidden_act": theirs(config.activation, GATED),
        "attention_bias": set(ATTENTION) <= set(config.bias),
        "attention_dropout": 0.0,
        "use_cache": True,
    }


def attention_bias(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the biased projections of families whose attention has all or none."""
    return ATTENTION if raw.get("attention_bias") else ()


def named(value: str, known: Mapping[str, str]) -> str:
    """Returns our name of an activation.

    Raises:
        ArtifactError: it is none of ours.
    """
    if value not in known:
        raise ArtifactError(
            f"activation {value!r} is not supported", where="config.json", fix=f"known: {', '.join(known)}"
        )
    return known[value]


def theirs(value: str, known: Mapping[str, str]) -> str | None:
    """Returns their first name of an activation, or None."""
    return next((name for name, ours in known.items() if ours == value), None)


def rope(
    raw: Mapping[str, Any], parameters: Mapping[str, Any] | None = None, also: Collection[str] = ()
) -> dict[str, Any]:
    """Returns what `config.json` says of rotary positions, for `DecoderConfig`.

    Args:
        raw: content of `config.json`; newer ones have `rope_parameters`, older ones `rope_theta` and
            `rope_scaling`.
        parameters: those of a kind of layers, where there are several kinds.
        also: what only this family has: `partial` (some coordinates are not turned), `longrope`.

    Raises:
        ArtifactError: a way of scaling that is not built here.
    """
    found = parameters or raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    kind = found.get("rope_type", found.get("type", "default"))
    share = found.get("partial_rotary_factor", raw.get("partial_rotary_factor"))
    share = 1.0 if share is None else share
    if share != 1 and "partial" not in also:
        what = f"partial_rotary_factor {share} is not supported in this family"
        raise ArtifactError(what, where="config.json", fix="check the model's own code")
    known = ("default", *(kind for kind in KINDS if kind != "longrope" or kind in also))
    if kind not in known:
        what = f"rotary positions of type {kind!r} are not supported in this family"
        raise ArtifactError(what, where="config.json", fix=f"known: {', '.join(known)}")
    theta = found.get("rope_theta", raw.get("rope_theta", 10_000.0))
    keys = {"rope_theta": theta, "rotary_share": share}
    return keys if kind == "default" else keys | {"rope_scaling": _scaling(kind, found, raw)}


def _scaling(kind: str, found: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    said = {ours: found[key] for ours, key in _SCALING.items() if found.get(key) is not None}
    if kind in ("yarn", "llama3", "longrope"):
        before = raw.get("original_max_position_embeddings")  # above `rope_parameters`, it counts more
        said["original_context"] = before or said.get("original_context") or raw["max_position_embeddings"]
        said.setdefault("factor", raw["max_position_embeddings"] / said["original_context"])
    return {"kind": kind, **said}


def rope_keys(config: DecoderConfig) -> dict[str, Any]:
    """Returns what `rope` reads: `rope_theta` at the top for older readers, `rope_parameters` for newer."""
    scaling = scaling_keys(config.rope_scaling)
    share = {} if config.rotary_share == 1 else {"partial_rotary_factor": config.rotary_share}
    parameters = {"rope_type": "default", "rope_theta": config.rope_theta, **scaling, **share}
    return {
        "rope_theta": config.rope_theta,
        "rope_parameters": parameters,
        **({"rope_scaling": scaling} if scaling else {}),
        **share,
    }


def scaling_keys(scaling: RopeScaling | None) -> dict[str, Any]:
    """Returns their keys of a scaling; nothing where there is none."""
    if scaling is None:
        return {}
    said = scaling.plain()
    usual = {key: field.default for key, field in RopeScaling.model_fields.items()}
    kept = {key: said[ours] for ours, key in _SCALING.items() if said[ours] != usual[ours]}
    return {"rope_type": scaling.kind, "factor": scaling.factor, **kept}


def windows(kinds: list[str], window: int | None) -> dict[str, Any]:
    """Returns which layers are local, for `DecoderConfig`.

    Args:
        kinds: of each layer: `sliding_attention` or `full_attention`.
        window: of the former.

    Raises:
        ArtifactError: layers of another kind.
    """
    strange = sorted(set(kinds) - {"sliding_attention", "full_attention"})
    if strange:
        what = f"layers of type {strange[0]!r} are not supported"
        raise ArtifactError(what, where="config.json", fix="known: full_attention, sliding_attention")
    local = tuple(layer for layer, kind in enumerate(kinds) if kind == "sliding_attention")
    if window is None or not local:
        return {}
    return {"window": window, "local_layers": None if len(local) == len(kinds) else local}


def layer_types(config: DecoderConfig) -> list[str]:
    """Returns what `windows` reads."""
    return [
        "sliding_attention" if config.local(layer) else "full_attention" for layer in range(config.layers)
    ]


BLOCK = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj",
    "feed_forward.down": "mlp.down_proj",
}
"""Modules of a block, ours -> theirs, in LLaMA's layout."""

OUTER = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}


def by_name(
    config: DecoderConfig,
    block: Mapping[str, str] = BLOCK,
    outer: Mapping[str, str] = OUTER,
    blocks: str = "model.layers",
) -> list[Rule]:
    """Returns the rules of modules that only have other names; those that a model lacks do no harm.

    Args:
        config: whose weights.
        block: our modules of a block -> theirs.
        outer: our modules outside -> theirs.
        blocks: how their row of blocks is called.
    """
    modules = dict(outer)
    for layer in range(config.layers):
        modules |= {f"blocks.{layer}.{ours}": f"{blocks}.{layer}.{its}" for ours, its in block.items()}
    return [
        same(f"{ours}.{kind}", f"{its}.{kind}")
        for ours, its in modules.items()
        for kind in ("weight", "bias")
    ]
