"""Families: published architectures as presets and maps of names.

A decoder family is a file with

```
MODEL_TYPE, ARCHITECTURES      what its config.json calls it
read(raw) -> DecoderConfig     from their config.json
describe(config) -> dict       to it; None where it lacks the parts
mapping(config) -> [Rule]      which of their weights are which of ours (rules.py)
PREFIX, SPARE                  what names of a bare model lack, patterns of names that may be left over
```

It is found by architecture when a folder is read, and by parts when one is written. Encoders and others have
tables of their own (`encoder_folder`, `encoder_decoder_folder`).
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any

import torch

from ingot.errors import ArtifactError, IngotError, did_you_mean
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.models.families import (
    deepseek,
    deepseek_v2,
    gemma2,
    gemma3,
    gpt2,
    llama,
    mistral,
    mixtral,
    neox,
    olmo2,
    phi3,
    qwen2,
    qwen3,
    qwen3_moe,
    smollm3,
)
from ingot.models.families.rules import Rule

FAMILIES: tuple[ModuleType, ...] = (
    qwen3,
    llama,
    smollm3,
    qwen2,
    mistral,
    gemma3,
    gemma2,
    olmo2,
    phi3,
    neox,
    gpt2,
    mixtral,
    qwen3_moe,
    deepseek,
    deepseek_v2,
)
"""A model is written as the first that has its parts."""


def by_architecture(raw: dict[str, Any], where: object) -> ModuleType:
    """Returns the family of a `config.json`.

    Raises:
        ArtifactError: it is none of ours; the nearest is named.
    """
    known = {name: family for family in FAMILIES for name in family.ARCHITECTURES}
    said = [name for name in raw.get("architectures") or [] if isinstance(name, str)]
    for name in said:
        if name in known:
            return known[name]
    near = did_you_mean(said[0], known) if said else ""
    raise ArtifactError(
        f"architecture {raw.get('architectures')} is not known",
        where=where,
        fix=near or f"known: {', '.join(known)}",
    )


def by_parts(config: DecoderConfig) -> tuple[ModuleType, dict[str, Any]]:
    """Returns the first family whose `config.json` says everything about a model, and that content.

    Raises:
        ArtifactError: none does; says which parts are not Qwen3's, and which family comes nearest.
    """
    wanted = config.plain()
    missed: dict[str, list[str]] = {}
    for family in FAMILIES:
        raw = family.describe(config)
        if raw is None:
            continue
        try:
            said = family.read(raw)
        except (IngotError, TypeError):
            continue
        if said == config:
            return family, raw
        found = said.plain()
        missed[family.MODEL_TYPE] = [key for key in wanted if found[key] != wanted[key]]
    usual = DecoderConfig.model_fields
    own = [
        f"{key} {wanted[key]}"
        for key in wanted
        if not usual[key].is_required() and wanted[key] != _plain(key)
    ]
    near = min(missed, key=lambda name: len(missed[name]), default=None)
    raise ArtifactError(
        f"a model with {', '.join(own)} has no published folder format"
        + (f"; the nearest, {near}, differs in {', '.join(missed[near])}" if near else ""),
        where="saving the model",
        fix="keep one family's parts, or save its weights yourself with safetensors",
    )


def _plain(key: str) -> Any:
    default = DecoderConfig.model_fields[key].default
    return list(default) if isinstance(default, tuple) else default


@lru_cache(maxsize=64)
def shapes(config: DecoderConfig) -> dict[str, torch.Size]:
    """Returns the shapes of the weights that a folder stores, by our names: a tied head is not stored."""
    with torch.device("meta"):
        state = Decoder(config).state_dict()
    return {
        name: tensor.shape for name, tensor in state.items() if not (config.tied and name == "head.weight")
    }


def rules(family: ModuleType, config: DecoderConfig) -> list[Rule]:
    """Returns the rules that hold for a model: those of weights that it has.

    Raises:
        ArtifactError: the family says nothing of one of its weights.
    """
    own = shapes(config)
    kept = [rule for rule in family.mapping(config) if own.keys() >= set(rule.ours)]
    untold = sorted(own.keys() - {name for rule in kept for name in rule.ours})
    if untold:
        what = f"{family.MODEL_TYPE} has no place for {', '.join(untold[:4])}"
        raise ArtifactError(what, where="saving the model", fix="keep one family's parts")
    return kept
