"""The Hugging Face folder of an encoder, both ways: `config.json` and `model.safetensors`."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ingot.errors import ArtifactError, IngotError
from ingot.models.config_file import CONFIG, read_keys, understood
from ingot.models.encoder import Encoder, EncoderConfig
from ingot.models.families import bert, modernbert, roberta
from ingot.models.heads import HeadConfig
from ingot.models.weight_files import WEIGHTS, listed, read_folder

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
    raw = read_keys(folder)
    for family in FAMILIES:
        for name in raw.get("architectures") or []:
            if name in family.ARCHITECTURES:
                task = family.ARCHITECTURES[name]
                return understood(functools.partial(family.read, task=task), raw, folder), family, raw
    known = ", ".join(name for family in FAMILIES for name in family.ARCHITECTURES)
    what = f"architecture {raw.get('architectures')} is not a known encoder"
    raise ArtifactError(what, where=folder / CONFIG, fix=f"known: {known}")


def load(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    head: HeadConfig | None = None,
    seed: int = 0,
) -> Encoder:
    """Loads the encoder of a folder.

    Args:
        folder: with `config.json` and safetensors weights, in one file or several.
        dtype: to hold the weights in.
        device: where to hold them.
        head: a fresh head instead of the folder's, as fine-tuning begins; None keeps what is there.
        seed: of the fresh head.

    Raises:
        ArtifactError: files that are missing, damaged or do not fit together, weights that are missing, too
            many, or not finite.
    """
    config, family, _ = read_config(folder)
    pickled = [file.name for file in folder.glob("*.bin")]
    if pickled and not any(folder.glob("*.safetensors")):
        fix = "load it with transformers once and save_pretrained() it as safetensors"
        raise ArtifactError(f"{pickled[0]} is pickled: refused", where=folder, fix=fix)
    found = {_today(name): tensor for name, tensor in read_folder(folder).items()}
    state = _translated(found, config, family, folder)
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
        raise ArtifactError(f"weights are missing: {listed(missing)}", where=folder, fix="copy it anew")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            shapes = f"{list(tensor.shape)}, config.json says {list(own[name].shape)}"
            raise ArtifactError(f"weight '{name}' is {shapes}", where=folder, fix="copy or make it anew")
        if not bool(tensor.isfinite().all()):
            raise ArtifactError(f"weight '{name}' holds NaN or infinity", where=folder, fix="make it anew")
    model.load_state_dict(own | state)
    return model.to(device, dtype).eval()


def _translated(
    found: dict[str, Tensor], config: EncoderConfig, family: ModuleType, folder: Path
) -> dict[str, Tensor]:
    """Their weights by our names; what belongs to nothing is listed and refused."""
    rules = family.weights(config)
    state: dict[str, Tensor] = {}
    for theirs, ours in rules.items():
        if theirs in found:
            if len(found[theirs]) % len(ours):
                parts = f"{len(found[theirs])} rows for {len(ours)} parts"
                raise ArtifactError(
                    f"weight '{theirs}' has {parts}", where=folder, fix="copy or make it anew"
                )
            state |= dict(zip(ours, found[theirs].chunk(len(ours)), strict=True))
    spare = tuple(family.SPARE)
    extra = sorted(n for n in found if n not in rules and not n.startswith(spare or ("\0",)))
    extra = [name for name in extra if not name.endswith(".position_ids")]
    if extra:
        raise ArtifactError(f"weights of no part: {listed(extra)}", where=folder, fix="check config.json")
    return state


def _today(name: str) -> str:
    """A weight's name as of today: norms of the first BERT checkpoints are called gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
