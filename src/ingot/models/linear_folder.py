"""The Hugging Face folder of a linear-time decoder, both ways: `config.json` and safetensors weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ingot.errors import ArtifactError, ConfigError
from ingot.models.families import qwen3_next as family
from ingot.models.huggingface import write_configs
from ingot.models.linear_config import LinearDecoderConfig
from ingot.models.linear_decoder import LinearDecoder
from ingot.models.weight_files import WEIGHTS, listed, read_folder

_AGAIN = "copy or make it anew"


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
    state = model.state_dict()
    weights: dict[str, Tensor] = {}
    for rule in family.mapping(model.config):
        stored = rule.write([state[name].detach().to("cpu", dtype) for name in rule.ours])
        weights |= {name: one.contiguous().clone() for name, one in zip(rule.theirs, stored, strict=True)}
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
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "no config.json: not a model folder"
        raise ArtifactError(what, where=folder, fix="name a model folder") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ArtifactError("not readable as JSON", where=path, fix=_AGAIN) from None
    if not isinstance(raw, dict):
        raise ArtifactError("holds no keys", where=path, fix=_AGAIN)
    if raw.get("auto_map"):
        fix = "use a version of the model that needs no code"
        raise ArtifactError("asks to run code of its own (auto_map): refused", where=path, fix=fix)
    if not set(raw.get("architectures") or []) & set(family.ARCHITECTURES):
        what = f"architecture {raw.get('architectures')} is not a known linear-time decoder"
        raise ArtifactError(what, where=path, fix=f"known: {', '.join(family.ARCHITECTURES)}")
    try:
        return family.read(raw), raw
    except KeyError as missing:
        raise ArtifactError(f"key {missing} is missing", where=path, fix=_AGAIN) from None
    except (ConfigError, ArtifactError) as error:
        raise ArtifactError(error.what, where=error.where or path, fix=error.fix or _AGAIN) from None
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise ArtifactError(f"holds a value that cannot be used ({error})", where=path, fix=_AGAIN) from None


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
    own = model.state_dict()
    found = family.mapping(config)
    expected: dict[str, torch.Size] = {}
    for rule in found:
        shaped = rule.write([torch.empty_like(own[name], device="meta") for name in rule.ours])
        expected |= {name: one.shape for name, one in zip(rule.theirs, shaped, strict=True)}
    if config.tied:
        stored.pop("lm_head.weight", None)
    _check(stored, expected, folder)
    state: dict[str, Tensor] = {}
    for rule in found:
        read = rule.read([stored[name] for name in rule.theirs])
        state |= {name: one.to(device, dtype) for name, one in zip(rule.ours, read, strict=True)}
    if config.tied:
        state["head.weight"] = state["embedding.weight"]
    model.load_state_dict(state)
    return model.eval()


def _check(stored: dict[str, Tensor], expected: dict[str, torch.Size], folder: Path) -> None:
    """Refuses weights that are not what `config.json` promises."""
    missing = sorted(expected.keys() - stored.keys())
    if missing:
        raise ArtifactError(f"weights are missing: {listed(missing)}", where=folder, fix=_AGAIN)
    extra = sorted(
        name
        for name in stored.keys() - expected.keys()
        if not any(re.fullmatch(s, name) for s in family.SPARE)
    )
    if extra:
        what = f"weights that config.json knows nothing of: {listed(extra)}"
        raise ArtifactError(what, where=folder, fix="check that weights and config.json are of one model")
    for name, shape in expected.items():
        if stored[name].shape != shape:
            said = f"weight '{name}' is {list(stored[name].shape)}, config.json says {list(shape)}"
            raise ArtifactError(said, where=folder, fix=_AGAIN)
        if not bool(stored[name].isfinite().all()):
            raise ArtifactError(f"weight '{name}' holds NaN or infinity", where=folder, fix="make it anew")
