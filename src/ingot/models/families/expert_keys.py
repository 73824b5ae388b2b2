"""What families with experts share: keys of `config.json`, and the names of the experts' weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingot.models.decoder_config import DecoderConfig
from ingot.models.families.decoder_keys import BLOCK, by_name
from ingot.models.families.rules import Rule, same, stacked
from ingot.nn.experts import ExpertsConfig

ATTENTION_BLOCK = {ours: its for ours, its in BLOCK.items() if not ours.startswith("feed_forward.")}
"""LLaMA's names of all that is not the feed-forward layer."""

MODULES = {
    "experts.gate": "mlp.experts.{}.gate_proj",
    "experts.up": "mlp.experts.{}.up_proj",
    "experts.down": "mlp.experts.{}.down_proj",
    "router": "mlp.gate",
    "shared.gate": "mlp.shared_experts.gate_proj",
    "shared.up": "mlp.shared_experts.up_proj",
    "shared.down": "mlp.shared_experts.down_proj",
}
"""Modules of a layer of experts, ours -> theirs; the braces stand for the number of an expert."""


def balance(raw: Mapping[str, Any], usual: float = 0.0) -> dict[str, Any]:
    """Returns what `config.json` says of the terms of the loss, for `ExpertsConfig`.

    The weight is taken as it is, though what it weighs differs: `transformers` sums over the choices of a
    token and takes the mean over layers, our term is 1 in each layer that is balanced.

    Args:
        raw: content of `config.json`.
        usual: the weight of the balance where it says nothing.
    """
    return {
        "balance_loss": raw.get("router_aux_loss_coef", usual) or None,
        "router_z": raw.get("router_z_loss_coef") or None,
    }


def balance_keys(experts: ExpertsConfig) -> dict[str, Any]:
    """Returns what `balance` reads."""
    z = {} if experts.router_z is None else {"router_z_loss_coef": experts.router_z}
    return {"router_aux_loss_coef": experts.balance_loss or 0.0, **z, "output_router_logits": False}


def expert_rules(
    config: DecoderConfig, block: Mapping[str, str] = BLOCK, modules: Mapping[str, str] = MODULES
) -> list[Rule]:
    """Returns the rules of a decoder with experts.

    Args:
        config: whose weights.
        block: modules of a layer without experts, ours -> theirs.
        modules: those of the feed-forward layer of one with experts.
    """
    assert config.experts is not None
    sparse = [layer for layer in range(config.layers) if layer not in config.dense_layers]
    layers = tuple(f"blocks.{layer}.feed_forward." for layer in sparse)
    rules = [rule for rule in by_name(config, block) if not rule.ours[0].startswith(layers)]
    for layer, ours in zip(sparse, layers, strict=True):
        for module, its in modules.items():
            name, other = f"{ours}{module}.weight", f"model.layers.{layer}.{its}.weight"
            each = tuple(other.format(expert) for expert in range(config.experts.count))
            rules.append(stacked(name, each) if "{}" in its else same(name, other))
    return rules
