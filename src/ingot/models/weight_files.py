"""The weight files of a model folder: one safetensors file, or several with an index; nothing pickled."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ingot.errors import ArtifactError, IngotError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_AGAIN = "copy or make it anew"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads every tensor of a safetensors file.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise ArtifactError("no such weight file", where=path, fix="make the model anew") from None
    except IngotError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"damaged or truncated ({error})", where=path, fix=_AGAIN) from None


def weight_files(folder: Path) -> list[Path]:
    """Returns the files that hold a folder's weights.

    Raises:
        ArtifactError: there are none, they are pickled, or the index is damaged or names files elsewhere.
    """
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if (folder / INDEX).exists():
        return [folder / name for name in sorted(set(_index(folder / INDEX).values()))]
    pickled = sorted(file.name for pattern in _PICKLED for file in folder.glob(pattern))
    if pickled:
        raise ArtifactError(
            f"{pickled[0]} is pickled, which can run code when it is read: refused",
            where=folder,
            fix="load it once with transformers, where you trust it, and save_pretrained() it as safetensors",
        )
    raise ArtifactError("no such weight file", where=folder / WEIGHTS, fix=_AGAIN)


def read_folder(folder: Path) -> dict[str, Tensor]:
    """Reads every tensor of a model folder.

    Raises:
        ArtifactError: files that are missing, damaged, pickled, or hold other tensors than the index says.
    """
    found: dict[str, Tensor] = {}
    for path in weight_files(folder):
        held = read_weights(path)
        twice = sorted(found.keys() & held.keys())
        if twice:
            raise ArtifactError(f"weight '{twice[0]}' is in another file too", where=path, fix=_AGAIN)
        found |= held
    if not (folder / WEIGHTS).exists():
        promised = _index(folder / INDEX)
        lost = sorted(promised.keys() - found.keys())
        if lost:
            what = f"promises weights that are in no file: {listed(lost)}"
            raise ArtifactError(what, where=folder / INDEX, fix=_AGAIN)
    return found


def _index(path: Path) -> dict[str, str]:
    """Which file holds which tensor. Files are names in the same folder, never paths."""
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = {str(tensor): str(file) for tensor, file in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ArtifactError("is no index of weights", where=path, fix=_AGAIN) from None
    for name in names.values():
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            fix = "an index names safetensors files beside it; do not trust this folder"
            raise ArtifactError(f"names the file {name!r}: refused", where=path, fix=fix)
    return names


def listed(names: list[str], most: int = 5) -> str:
    """Returns the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
