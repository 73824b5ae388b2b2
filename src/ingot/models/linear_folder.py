"""The Hugging Face folder of a linear-time decoder, both ways: `config.json` and safetensors weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ingot.errors import ArtifactError
from ingot.models.config_file import CONFIG, read_keys, understood
from ingot.models.families import qwen3_next as family
from ingot.models.families.rules import fitting, written
from ingot.models.huggingface import write_configs
from ingot.models.linear_config import LinearDecoderConfig
from ingot.models.linear_decoder import LinearDecoder
from ingot.models.weight_files import WEIGHTS, read_folder


def save(
    folder: Path,
    model: LinearDecoder,
    dtype: torch.dtype = torch.float32,
    special: dict[str, int] | None = None,
) -> None:
    """Writes a linear-time decoder into a folder that exists.

    Args:
        folder: where to; files of the same names are replaced.
        model: any dtype and device.
        dtype: of the stored weights.
        special: token ids by role for `config.json` and `generation_config.json`.
    """
    weights = written(family.mapping(model.config), model.state_dict(), dtype)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    config = family.describe(model.config) | {"dtype": str(dtype).removeprefix("torch.")} | (special or {})
    write_configs(folder, config, special)


def read_config(folder: Path) -> tuple[LinearDecoderConfig, dict[str, Any]]:
    """Reads which linear-time decoder a folder holds.

    Returns:
        Our configuration, and everything that `config.json` says.

    Raises:
        ArtifactError: no readable `config.json`, a model of another architecture or with parts that are not
            built here, or one with code of its own.
    """
    raw = read_keys(folder)
    if not set(raw.get("architectures") or []) & set(family.ARCHITECTURES):
        what = f"architecture {raw.get('architectures')} is not a known linear-time decoder"
        raise ArtifactError(what, where=folder / CONFIG, fix=f"known: {', '.join(family.ARCHITECTURES)}")
    return understood(family.read, raw, folder), raw


def load(folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> LinearDecoder:
    """Loads the linear-time decoder of a folder.

    Args:
        folder: with `config.json` and safetensors weights, in one file or several.
        dtype: to hold the weights in.
        device: where to hold them.

    Raises:
        ArtifactError: files that are missing, damaged or do not fit together; weights that are missing, too
            many, of another shape or not finite.
    """
    config, _ = read_config(folder)
    stored = read_folder(folder)
    model = LinearDecoder(config).to(device, dtype)
    if config.tied:
        stored.pop("lm_head.weight", None)
    own = {name: one.shape for name, one in model.state_dict().items()}

    def left_over(name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in family.SPARE)

    read = fitting(family.mapping(config), stored, own, left_over, folder)
    state = {name: one.to(device, dtype) for name, one in read.items()}
    if config.tied:
        state["head.weight"] = state["embedding.weight"]
    model.load_state_dict(state)
    return model.eval()
