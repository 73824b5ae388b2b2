"""The Hugging Face folder of an encoder-decoder, both ways: `config.json` and `model.safetensors`."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ingot.errors import ArtifactError, ConfigError
from ingot.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from ingot.models.families import marian, t5
from ingot.models.families.rules import Rule
from ingot.models.weight_files import WEIGHTS, listed, read_folder

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
    state = model.state_dict()
    weights: dict[str, Tensor] = {}
    for rule in family.mapping(model.config):
        theirs = rule.write([state[name].detach() for name in rule.ours])
        weights |= {
            name: one.to("cpu", dtype).contiguous().clone()
            for name, one in zip(rule.theirs, theirs, strict=True)
        }
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
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "no config.json: not a model folder"
        raise ArtifactError(what, where=folder, fix="check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ArtifactError("not readable as JSON", where=path, fix="copy or make it anew") from None
    if not isinstance(raw, dict):
        raise ArtifactError("holds no keys", where=path, fix="copy or make it anew")
    if raw.get("auto_map"):
        fix = "load it with transformers, if you trust it"
        raise ArtifactError("asks for code of its own (auto_map): refused", where=path, fix=fix)
    known = {name: family for family in FAMILIES for name in family.ARCHITECTURES}
    named = [known[name] for name in raw.get("architectures") or [] if name in known]
    if not named:
        what = f"architecture {raw.get('architectures')} is not a known encoder-decoder"
        raise ArtifactError(what, where=path, fix=f"known: {', '.join(known)}")
    try:
        return named[0].read(raw), named[0], raw
    except KeyError as missing:
        raise ArtifactError(f"key {missing} is missing", where=path, fix="copy or make it anew") from None
    except ConfigError as error:
        raise ArtifactError(error.what, where=error.where, fix=error.fix) from None
    except (TypeError, ValueError, ZeroDivisionError) as error:
        what = f"holds a value that cannot be used ({error})"
        raise ArtifactError(what, where=path, fix="copy or make it anew") from None


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
    model.load_state_dict(
        _translated(found, family.mapping(config), family.SPARE, model.state_dict(), folder), strict=False
    )
    return model.to(device, dtype).eval()


def _translated(
    found: dict[str, Tensor], rules: list[Rule], spare: tuple[str, ...], own: dict[str, Tensor], folder: Path
) -> dict[str, Tensor]:
    """Their weights by our names: each of them finite and in its shape, none missing, none left over."""
    known = {name for rule in rules for name in rule.theirs}
    missing = sorted(known - found.keys())
    if missing:
        raise ArtifactError(f"weights are missing: {listed(missing)}", where=folder, fix="copy it anew")
    extra = sorted(found.keys() - known - set(spare))
    if extra:
        raise ArtifactError(f"weights of no part: {listed(extra)}", where=folder, fix="check config.json")
    state: dict[str, Tensor] = {}
    for rule in rules:
        state |= dict(zip(rule.ours, rule.read([found[name] for name in rule.theirs]), strict=True))
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            shapes = f"{list(tensor.shape)}, config.json says {list(own[name].shape)}"
            raise ArtifactError(f"weight '{name}' is {shapes}", where=folder, fix="copy or make it anew")
        if not bool(tensor.isfinite().all()):
            raise ArtifactError(f"weight '{name}' holds NaN or infinity", where=folder, fix="make it anew")
    return state
