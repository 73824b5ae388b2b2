"""DeepSeek-V2: 2024, arXiv 2405.04434; names as in `transformers`' DeepseekV2ForCausalLM."""

from __future__ import annotations

from typing import Any

from ingot.errors import ArtifactError
from ingot.models.decoder_config import DecoderConfig
from ingot.models.families import latent_keys
from ingot.models.families.rules import Rule

MODEL_TYPE = "deepseek_v2"
ARCHITECTURES = ("DeepseekV2ForCausalLM",)
_METHODS = ("greedy", "group_limited_greedy")


def read(raw: dict[str, Any]) -> DecoderConfig:
    """Returns our configuration of their `config.json`.

    Raises:
        KeyError: a size is missing.
        IngotError: parts that are not built here, or sizes that do not fit.
    """
    method = raw.get("topk_method", "greedy")
    if method not in _METHODS or raw.get("norm_topk_prob"):
        what = (
            f"topk_method {method!r} with norm_topk_prob {raw.get('norm_topk_prob', False)} is not supported"
        )
        raise ArtifactError(what, where="config.json", fix=f"known: {', '.join(_METHODS)}, not normalised")
    keys = latent_keys.keys(raw)
    keys["experts"] |= {"normalised": False}
    if method == "group_limited_greedy":
        keys["experts"] |= {"groups": raw["n_group"], "chosen_groups": raw["topk_group"]}
    return DecoderConfig.parse(keys, where="config.json")


def describe(config: DecoderConfig) -> dict[str, Any] | None:
    """Returns the content of `config.json` (without the number type)."""
    keys, experts = latent_keys.described(config, ARCHITECTURES[0], MODEL_TYPE), config.experts
    if keys is None or experts is None or experts.scoring != "softmax":
        return None
    return keys | {
        "scoring_func": "softmax",
        "topk_method": _METHODS[experts.groups > 1],
        "norm_topk_prob": False,
        "n_group": experts.groups,
        "topk_group": experts.chosen_groups,
    }


def mapping(config: DecoderConfig) -> list[Rule]:
    """Returns which of their weights are ours."""
    return latent_keys.rules(config)
