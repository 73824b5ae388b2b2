"""DeepSeek-V3 and R1: 2024, arXiv 2412.19437; names as in `transformers`' DeepseekV3ForCausalLM.

Of the module that predicts a second token nothing is read: the model itself does not need it.
"""

from __future__ import annotations

from typing import Any

from ingot.models.decoder_config import DecoderConfig
from ingot.models.families import latent_keys
from ingot.models.families.rules import Rule, same

MODEL_TYPE = "deepseek_v3"
ARCHITECTURES = ("DeepseekV3ForCausalLM",)
SPARE = (r"model\.layers\.61\..*",)
"""What published folders also hold: the prediction of a second token, which is their layer 61."""

_STEP = 0.001  # of the bias, section 4.2


def read(raw: dict[str, Any]) -> DecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        KeyError: a size is missing.
        IngotError: parts that are not built here, or sizes that do not fit.
    """
    keys = latent_keys.keys(raw)
    keys["experts"] |= {
        "scoring": "sigmoid",
        "normalised": raw.get("norm_topk_prob", True),
        "groups": raw.get("n_group") or 1,
        "chosen_groups": raw.get("topk_group") or 1,
        "balance_bias": raw.get("router_bias_update_speed", _STEP),
    }
    return DecoderConfig.parse(keys, where="config.json")


def describe(config: DecoderConfig) -> dict[str, Any] | None:
    """Returns the content of `config.json` (without the number type)."""
    keys, experts = latent_keys.described(config, ARCHITECTURES[0], MODEL_TYPE), config.experts
    if keys is None or experts is None or experts.balance_bias is None:
        return None
    return keys | {
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "norm_topk_prob": experts.normalised,
        "n_group": experts.groups,
        "topk_group": experts.chosen_groups,
        "router_bias_update_speed": experts.balance_bias,
        "rope_interleave": True,
    }


def mapping(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours."""
    biases = [
        same(
            f"blocks.{layer}.feed_forward.router.bias",
            f"model.layers.{layer}.mlp.gate.e_score_correction_bias",
        )
        for layer in range(config.layers)
    ]
    return latent_keys.rules(config) + biases
