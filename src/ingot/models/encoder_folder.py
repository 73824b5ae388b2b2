"""The Hugging Face folder of an encoder, both ways: `config.json` and `model.safetensors`."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ingot.errors import ArtifactError, ConfigError, IngotError
from ingot.models.encoder import Encoder, EncoderConfig
from ingot.models.families import bert, modernbert, roberta
from ingot.models.heads import HeadConfig
from ingot.models.huggingface import WEIGHTS, read_weights

FAMILIES: tuple[ModuleType, ...] = (bert, roberta, modernbert)


def save(
    folder: Path, model: Encoder, dtype: torch.dtype = torch.float32, special: dict[str, int] | None = None
) -> None:
    """Writes an encoder into a folder that exists, as the family that has its parts.

    An embedding head has no weights and is not written: `load` is told of it again.

    Args:
        folder: where to; files of the same names are replaced.
        model: any dtype and device.
        dtype: of the stored weights.
        special: token ids by role for `config.json`.

    Raises:
        ArtifactError: no published family has these parts together.
    """
    family = family_of(model.config)
    state = model.state_dict()
    weights: dict[str, Tensor] = {}
    for theirs, ours in family.weights(model.config).items():
        if not (model.config.tied and ours == ("head.output.weight",)):
            weights[theirs] = torch.cat([state[name].detach() for name in ours]).to("cpu", dtype).clone()
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    config = {**family.describe(model.config), "dtype": str(dtype).removeprefix("torch."), **(special or {})}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def family_of(config: EncoderConfig) -> ModuleType:
    """Returns the family whose `config.json` says everything about a model.

    Raises:
        ArtifactError: none does.
    """
    bare = config.head is not None and config.head.task == "embedding"
    wanted = config.model_copy(update={"head": None}) if bare else config
    missed = []
    for family in FAMILIES:
        raw = family.describe(wanted)
        try:
            said = family.read(raw, family.ARCHITECTURES[raw["architectures"][0]])
        except (IngotError, TypeError):
            missed.append(f"{raw['model_type']} (cannot say it)")
            continue
        if said == wanted:
            return family
        ours, theirs = wanted.plain(), said.plain()
        missed.append(f"{raw['model_type']} ({', '.join(key for key in ours if ours[key] != theirs[key])})")
    raise ArtifactError(
        f"no published encoder has these parts; what differs: {'; '.join(missed)}",
        where="saving the model",
        fix="keep the parts of one family, or save the weights yourself with safetensors",
    )


def read_config(folder: Path) -> tuple[EncoderConfig, ModuleType, dict[str, Any]]:
    """Reads which encoder a folder holds.

    Returns:
        Our configuration, the family, and everything that `config.json` says.

    Raises:
        ArtifactError: no readable `config.json`, a model of another architecture, or one with its own code.
    """
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            "no config.json: not a model folder", where=folder, fix="check the path"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ArtifactError("not readable as JSON", where=path, fix="copy or make it anew") from None
    if not isinstance(raw, dict):
        raise ArtifactError("holds no keys", where=path, fix="copy or make it anew")
    if raw.get("auto_map"):
        fix = "load it with transformers, if you trust it"
        raise ArtifactError("asks for code of its own (auto_map): refused", where=path, fix=fix)
    for family in FAMILIES:
        for name in raw.get("architectures") or []:
            if name in family.ARCHITECTURES:
                try:
                    return family.read(raw, family.ARCHITECTURES[name]), family, raw
                except KeyError as missing:
                    fix = "copy or make it anew"
                    raise ArtifactError(f"key {missing} is missing", where=path, fix=fix) from None
                except ConfigError as error:
                    raise ArtifactError(error.what, where=error.where, fix=error.fix) from None
    known = ", ".join(name for family in FAMILIES for name in family.ARCHITECTURES)
    raise ArtifactError(
        f"architecture {raw.get('architectures')} is not a known encoder", where=path, fix=f"known: {known}"
    )


def load(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    head: HeadConfig | None = None,
    seed: int = 0,
) -> Encoder:
    """Loads the encoder of a folder.

    Args:
        folder: with `config.json` and `model.safetensors`.
        dtype: to hold the weights in.
        device: where to hold them.
        head: a fresh head instead of the folder's, as fine-tuning begins; None keeps what is there.
        seed: of the fresh head.

    Raises:
        ArtifactError: files that are missing, damaged or do not fit together, weights that are missing, too
            many, or not finite.
    """
    config, family, _ = read_config(folder)
    path = folder / WEIGHTS
    pickled = [file.name for file in folder.glob("*.bin")]
    if not path.exists() and pickled:
        fix = "load it with transformers once and save_pretrained() it as safetensors"
        raise ArtifactError(f"{pickled[0]} is pickled: refused", where=folder, fix=fix)
    found = {_today(name): tensor for name, tensor in read_weights(path).items()}
    state = _translated(found, config, family, path)
    if head is not None:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
        config = config.model_copy(update={"head": head})
    model = config.build(seed)
    if config.tied and "embedding.weight" in state:
        state["head.output.weight"] = state["embedding.weight"]
    own = model.state_dict()
    fresh = {name for name in own if head is not None and name.startswith("head.")}
    missing = sorted(own.keys() - state.keys() - fresh)
    if missing:
        raise ArtifactError(f"weights are missing: {_listed(missing)}", where=path, fix="copy it anew")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            shapes = f"{list(tensor.shape)}, config.json says {list(own[name].shape)}"
            raise ArtifactError(f"weight '{name}' is {shapes}", where=path, fix="copy or make it anew")
        if not bool(tensor.isfinite().all()):
            raise ArtifactError(f"weight '{name}' holds NaN or infinity", where=path, fix="make it anew")
    model.load_state_dict(own | state)
    return model.to(device, dtype).eval()


def _translated(
    found: dict[str, Tensor], config: EncoderConfig, family: ModuleType, path: Path
) -> dict[str, Tensor]:
    """Their weights by our names; what belongs to nothing is listed and refused."""
    rules = family.weights(config)
    state: dict[str, Tensor] = {}
    for theirs, ours in rules.items():
        if theirs in found:
            if len(found[theirs]) % len(ours):
                parts = f"{len(found[theirs])} rows for {len(ours)} parts"
                raise ArtifactError(f"weight '{theirs}' has {parts}", where=path, fix="copy or make it anew")
            state |= dict(zip(ours, found[theirs].chunk(len(ours)), strict=True))
    spare = tuple(family.SPARE)
    extra = sorted(n for n in found if n not in rules and not n.startswith(spare or ("\0",)))
    extra = [name for name in extra if not name.endswith(".position_ids")]
    if extra:
        raise ArtifactError(f"weights of no part: {_listed(extra)}", where=path, fix="check config.json")
    return state


def _today(name: str) -> str:
    """A weight's name as of today: norms of the first BERT checkpoints are called gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
