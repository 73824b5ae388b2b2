"""The Hugging Face folder of an encoder-decoder, both ways: `config.json` and `model.safetensors`."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file

from ingot.errors import ArtifactError
from ingot.models.config_file import CONFIG, read_keys, understood
from ingot.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from ingot.models.families import marian, t5
from ingot.models.families.rules import fitting, written
from ingot.models.weight_files import WEIGHTS, read_folder

FAMILIES: tuple[ModuleType, ...] = (t5, marian)


def save(
    folder: Path,
    model: EncoderDecoder,
    dtype: torch.dtype = torch.float32,
    special: dict[str, int] | None = None,
) -> None:
    """Writes an encoder-decoder into a folder that exists: `config.json`, weights, `generation_config.json`.

    Args:
        folder: where to; files of the same names are replaced.
        model: any dtype and device.
        dtype: of the stored weights.
        special: token ids by role for `config.json`, where the model does not know better.

    Raises:
        ArtifactError: no published family has these parts together.
    """
    family, config = by_parts(model.config)
    weights = written(family.mapping(model.config), model.state_dict(), dtype)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    config["dtype"] = str(dtype).removeprefix("torch.")
    config |= {name: one for name, one in (special or {}).items() if config.get(name) is None}
    roles = ("pad_token_id", "decoder_start_token_id", "eos_token_id")
    generation = {name: config[name] for name in roles if config[name] is not None}
    for name, content in (("config.json", config), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def by_parts(config: EncoderDecoderConfig) -> tuple[ModuleType, dict[str, Any]]:
    """Returns the family that has a model's parts, and what its `config.json` says about the model.

    Raises:
        ArtifactError: none has them together; says which parts each has not.
    """
    ours, missed = config.plain(), []
    for family in FAMILIES:
        raw = family.describe(config)
        if raw is not None:
            return family, raw
        other = [f"{name} {ours[name]}" for name, only in family.PARTS.items() if ours[name] != only]
        missed.append(f"{family.MODEL_TYPE} ({', '.join(other) or 'another scale or activation'})")
    raise ArtifactError(
        f"no published encoder-decoder has these parts; what differs: {'; '.join(missed)}",
        where="saving the model",
        fix="keep the parts of one family, or save the weights yourself with safetensors",
    )


def read_config(folder: Path) -> tuple[EncoderDecoderConfig, ModuleType, dict[str, Any]]:
    """Reads which encoder-decoder a folder holds.

    Returns:
        Our configuration, its family, and everything that `config.json` says.

    Raises:
        ArtifactError: no readable `config.json`, a model of another architecture, or one with its own code.
    """
    raw = read_keys(folder)
    known = {name: family for family in FAMILIES for name in family.ARCHITECTURES}
    named = [known[name] for name in raw.get("architectures") or [] if name in known]
    if not named:
        what = f"architecture {raw.get('architectures')} is not a known encoder-decoder"
        raise ArtifactError(what, where=folder / CONFIG, fix=f"known: {', '.join(known)}")
    return understood(named[0].read, raw, folder), named[0], raw


def load(folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> EncoderDecoder:
    """Loads the encoder-decoder of a folder.

    A head that is stored beside another embedding is read, even where `config.json` calls it tied:
    `transformers` writes the newer T5 like that.

    Args:
        folder: with `config.json` and safetensors weights, in one file or several.
        dtype: to hold the weights in.
        device: where to hold them.

    Raises:
        ArtifactError: files that are missing, damaged or do not fit together, weights that are missing, too
            many, or not finite.
    """
    config, family, _ = read_config(folder)
    found = read_folder(folder)
    head, embedding = found.get("lm_head.weight"), found.get("shared.weight")
    if config.tied and head is not None and embedding is not None:
        if head.shape == embedding.shape and torch.equal(head, embedding):
            del found["lm_head.weight"]
        else:
            config = config.model_copy(update={"tied": False})
    model = EncoderDecoder(config)
    own = {name: one.shape for name, one in model.state_dict().items()}
    state = fitting(family.mapping(config), found, own, lambda name: name in family.SPARE, folder)
    model.load_state_dict(state, strict=False)
    return model.to(device, dtype).eval()
