"""What DeepSeek's families share: latent attention, and experts of which some are always on."""

from __future__ import annotations

import math
from typing import Any

from ingot.errors import ArtifactError
from ingot.models.decoder_config import DecoderConfig
from ingot.models.families.decoder_keys import rope, size_keys, sizes
from ingot.models.families.expert_keys import ATTENTION_BLOCK, balance, balance_keys, expert_rules
from ingot.models.families.rules import Rule, same
from ingot.nn.rope_scaling import RopeScaling

_EPSILON = 1e-6  # of the latents' norms, whatever config.json says of the others
_ATTENTION = {
    "attention.query_down": "self_attn.q_a_proj",
    "attention.query_norm": "self_attn.q_a_layernorm",
    "attention.key_value_norm": "self_attn.kv_a_layernorm",
    "attention.key_value_up": "self_attn.kv_b_proj",
}
_DENSE = {f"feed_forward.{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")}


def keys(raw: dict[str, Any]) -> dict[str, Any]:
    """Returns what all of them write alike, for `DecoderConfig`; of the experts only a part.

    Raises:
        KeyError: a size is missing.
        ArtifactError: parts that are not built here.
    """
    only = {"attention_bias": False, "mlp_bias": False, "moe_layer_freq": 1, "rope_interleave": True}
    for key, value in (only | {"rms_norm_eps": _EPSILON, "hidden_act": "silu"}).items():
        if raw.get(key, value) != value:
            what, fix = f"{key} {raw[key]!r} is not supported", f"only {value!r} is"
            raise ArtifactError(what, where="config.json", fix=fix)
    latent = {
        "query_rank": raw.get("q_lora_rank"),
        "key_value_rank": raw["kv_lora_rank"],
        "rotary_width": raw["qk_rope_head_dim"],
        "plain_width": raw["qk_nope_head_dim"],
        "value_width": raw["v_head_dim"],
    }
    head_width = latent["plain_width"] + latent["rotary_width"]
    experts = {
        "count": raw["n_routed_experts"],
        "chosen": raw["num_experts_per_tok"],
        "width": raw["moe_intermediate_size"],
        "shared": raw["moe_intermediate_size"] * raw["n_shared_experts"],
        "scale": raw.get("routed_scaling_factor", 1.0),
        "router_precision": "float32",
        **balance(raw),
    }
    positions = rope(raw)
    scaling = positions.get("rope_scaling")
    return {
        **sizes(raw),
        **positions,
        "kv_heads": raw["num_attention_heads"],
        "head_width": head_width,
        "score_scale": None if scaling is None else _score_scale(RopeScaling.parse(scaling), head_width),
        "latent": latent,
        "experts": experts,
        "dense_layers": list(range(min(raw.get("first_k_dense_replace", 0), raw["num_hidden_layers"]))),
    }


def _score_scale(scaling: RopeScaling, head_width: int) -> float | None:
    """The scale of scores with YaRN's temperature (of scores, as heads are turned in part only), or None."""
    if not scaling.mscale_all or scaling.factor <= 1:
        return None
    temperature = 0.1 * scaling.mscale_all * math.log(scaling.factor) + 1.0
    return float(head_width**-0.5 * temperature * temperature)


def described(config: DecoderConfig, architecture: str, model_type: str) -> dict[str, Any] | None:
    """Returns what `keys` reads; None where the model lacks one of the parts."""
    latent, experts = config.latent, config.experts
    if latent is None or experts is None or experts.shared is None or experts.shared % experts.width:
        return None
    return {
        **size_keys(config, architecture, model_type),
        "head_dim": latent.rotary_width,
        "q_lora_rank": latent.query_rank,
        "kv_lora_rank": latent.key_value_rank,
        "qk_rope_head_dim": latent.rotary_width,
        "qk_nope_head_dim": latent.plain_width,
        "v_head_dim": latent.value_width,
        "n_routed_experts": experts.count,
        "n_shared_experts": experts.shared // experts.width,
        "num_experts_per_tok": experts.chosen,
        "moe_intermediate_size": experts.width,
        "routed_scaling_factor": experts.scale,
        "first_k_dense_replace": len(config.dense_layers),
        "moe_layer_freq": 1,
        **balance_keys(experts),
    }


def rules(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours.

    They turn coordinates (0, 1), (2, 3), ... by pairs, we turn (i, i + e/2): the rows that make them change
    places.
    """
    assert config.latent is not None
    latent = config.latent
    found = expert_rules(config, ATTENTION_BLOCK | _ATTENTION | _DENSE)
    pairs = [*range(0, latent.rotary_width, 2), *range(1, latent.rotary_width, 2)]
    head = [*range(latent.plain_width), *(latent.plain_width + row for row in pairs)]
    queries = [start * latent.head_width + row for start in range(config.heads) for row in head]
    down = [*range(latent.key_value_rank), *(latent.key_value_rank + row for row in pairs)]
    query = "q_proj" if latent.query_rank is None else "q_b_proj"
    for layer in range(config.layers):
        ours, its = f"blocks.{layer}.attention", f"model.layers.{layer}.self_attn"
        found.append(_reordered(f"{ours}.query_up.weight", f"{its}.{query}.weight", queries))
        found.append(_reordered(f"{ours}.key_value_down.weight", f"{its}.kv_a_proj_with_mqa.weight", down))
    return found


def _reordered(ours: str, theirs: str, rows: list[int]) -> Rule:
    """The rule of a tensor whose row i is their row `rows[i]`."""
    back = sorted(range(len(rows)), key=rows.__getitem__)
    plain = same(ours, theirs)
    return Rule(
        plain.ours, plain.theirs, lambda tensors: [tensors[0][rows]], lambda tensors: [tensors[0][back]]
    )
