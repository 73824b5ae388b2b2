"""How one vector is made of a text, and the files in which a folder says so.

```
modules.json             [the model, Pooling, Normalize]       as sentence-transformers writes them
1_Pooling/config.json    {"pooling_mode_mean_tokens": true, ...}
```

Source: Reimers and Gurevych 2019, arXiv 1908.10084, section 3.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ingot.config import Config
from ingot.errors import ArtifactError
from ingot.models.heads import pool

MODULES = "modules.json"
FILES = (MODULES, "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json")
"""What belongs to a folder of embeddings besides the model itself."""

_MODES: dict[str, Literal["first", "mean", "last"]] = {
    "pooling_mode_cls_token": "first",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
_SHORT: dict[str, Literal["first", "mean", "last"]] = {"cls": "first", "mean": "mean", "lasttoken": "last"}
_FIX = "make vectors of it with sentence-transformers"


class PoolingConfig(Config):
    """How the hidden states of a text become one vector.

    Args:
        pooling: the first token's state, the mean over all tokens, or the last token's state.
        normalised: whether the vector has length 1.
    """

    pooling: Literal["first", "mean", "last"] = "mean"
    normalised: bool = True

    def vectors(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Makes one vector of each text.

        Args:
            hidden: [b, t, d].
            mask: [b, t] bool, true where tokens are; padding stands on the right.

        Returns:
            [b, d] float32.
        """
        hidden = hidden.float()
        if self.pooling == "last":
            last = mask.sum(1).clamp(min=1) - 1
            made = hidden[torch.arange(len(hidden), device=hidden.device), last]
        else:
            made = pool(hidden, mask, self.pooling)
        return normalize(made, dim=-1) if self.normalised else made


def read_pooling(folder: Path) -> PoolingConfig | None:
    """Returns what a folder says about its vectors, or None where it says nothing.

    Raises:
        ArtifactError: files that cannot be read, or a way to make vectors that is not built here.
    """
    if not (folder / MODULES).is_file():
        return None
    modules = _json(folder / MODULES)
    if not isinstance(modules, list) or not all(isinstance(one, dict) for one in modules):
        raise ArtifactError("is no list of modules", where=folder / MODULES, fix="copy it anew")
    found: dict[str, str] = {str(one.get("type")).rpartition(".")[2]: str(one.get("path")) for one in modules}
    other = sorted(found.keys() - {"Transformer", "Pooling", "Normalize"})
    if other:
        what = f"vectors go through {', '.join(other)}, which is not built here"
        raise ArtifactError(what, where=folder / MODULES, fix=_FIX)
    if "Pooling" not in found:
        raise ArtifactError("names no Pooling", where=folder / MODULES, fix=_FIX)
    inner = PurePosixPath(found["Pooling"])
    if inner.is_absolute() or ".." in inner.parts:
        raise ArtifactError(f"the path '{inner}' leads out of the folder", where=folder / MODULES)
    path = folder / inner / "config.json"
    said = _json(path)
    if not isinstance(said, dict):
        raise ArtifactError("holds no keys", where=path, fix="copy it anew")
    return PoolingConfig(pooling=_mode(said, path), normalised="Normalize" in found)


def write_pooling(folder: Path, config: PoolingConfig, width: int) -> None:
    """Writes what `read_pooling` and sentence-transformers read.

    Args:
        folder: of the model.
        config: how vectors are made.
        width: d of the vectors.
    """
    names = ["Transformer", "Pooling", *(["Normalize"] if config.normalised else [])]
    modules = [
        {
            "idx": place,
            "name": str(place),
            "path": f"{place}_{name}" if place else "",
            "type": f"sentence_transformers.models.{name}",
        }
        for place, name in enumerate(names)
    ]
    modes = {key: mode == config.pooling for key, mode in _MODES.items()}
    inner = folder / "1_Pooling"
    inner.mkdir(exist_ok=True)
    (inner / "config.json").write_text(
        json.dumps({"word_embedding_dimension": width, **modes}, indent=2) + "\n", encoding="utf-8"
    )
    (folder / MODULES).write_text(json.dumps(modules, indent=2) + "\n", encoding="utf-8")


def _mode(said: dict[str, Any], path: Path) -> Literal["first", "mean", "last"]:
    """The one way of pooling that a file names, in its long or its short form."""
    named = [key for key, on in said.items() if key.startswith("pooling_mode_") and on is True]
    if isinstance(said.get("pooling_mode"), str):
        named.append(said["pooling_mode"])
    known = _MODES | _SHORT
    if len(named) != 1 or named[0] not in known:
        what = f"pooling by {', '.join(named) or 'nothing'} is not built here"
        raise ArtifactError(what, where=path, fix=f"known: {', '.join(_SHORT)}; else {_FIX}")
    return known[named[0]]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ArtifactError("missing, or not readable as JSON", where=path, fix="copy it anew") from None
