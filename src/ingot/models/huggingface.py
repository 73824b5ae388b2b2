"""The Hugging Face folder, both ways: our native format on disk.

```
config.json             family by its architecture -> DecoderConfig
model.safetensors       or shards with an index; the family's rules say which tensor is which of ours
generation_config.json  (the tokenizer writes its own files beside them)
```

A model is written as the first family that has its parts: Qwen3, where they are the decoder's own.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ingot.errors import ArtifactError
from ingot.models.config_file import CONFIG, read_keys, understood
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.models.families import by_architecture, by_parts, rules, shapes
from ingot.models.families.rules import Rule, fitting, stored_shapes, written
from ingot.models.weight_files import WEIGHTS, read_folder, read_weights

__all__ = ["WEIGHTS", "read_weights"]  # what others find here although it is elsewhere

_AGAIN = "make the model anew"
_OF_ROWS = (".weight", ".router.bias")
_HEADS = (r"lm_head\.weight", r"embed_out\.weight")


def row_rules(config: DecoderConfig) -> list[Rule]:
    """Returns the rules of a model whose stored matrices have the rows of ours, perhaps in another order or
    expert by expert: what is said of rows (the scales of the int8 format) can be stored by the same rules.

    Raises:
        ArtifactError: the model has more than that, or no family has these parts.
    """
    family, _ = by_parts(config)
    found = rules(family, config)
    plain = all(len(rule.ours) == 1 and rule.ours[0].endswith(_OF_ROWS) for rule in found)
    if config.logit_cap is not None or not plain:
        raise ArtifactError(
            f"{family.MODEL_TYPE} has more than plain weights (biases, a cap, joined tensors)",
            where="the model's format",
            fix="use the model as it is",
        )
    return found


def weight_names(config: DecoderConfig) -> dict[str, str]:
    """Returns our weight name -> theirs, for what is stored in one piece (a tied head and experts are not).

    Raises:
        ArtifactError: as `row_rules`.
    """
    return {rule.ours[0]: rule.theirs[0] for rule in row_rules(config) if len(rule.theirs) == 1}


def describe(
    config: DecoderConfig, dtype: torch.dtype, special: dict[str, int] | None = None
) -> dict[str, Any]:
    """Returns the content of `config.json`.

    Args:
        config: the model's sizes and parts.
        dtype: of the stored weights.
        special: token ids by role (`bos_token_id`, `eos_token_id`, `pad_token_id`), where known.

    Raises:
        ArtifactError: the model is made of parts that no family has together.
    """
    return {**by_parts(config)[1], "dtype": str(dtype).removeprefix("torch."), **(special or {})}


def save(
    folder: Path, model: Decoder, dtype: torch.dtype = torch.float32, special: dict[str, int] | None = None
) -> None:
    """Writes the model into a folder that exists.

    Args:
        folder: where to; files of the same names are replaced.
        model: any dtype and device.
        dtype: of the stored weights.
        special: token ids by role for `config.json` and `generation_config.json`.

    Raises:
        ArtifactError: no published format holds a model of these parts.
    """
    family, _ = by_parts(model.config)
    weights = written(rules(family, model.config), model.state_dict(), dtype)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    write_configs(folder, describe(model.config, dtype, special), special)


def write_configs(folder: Path, config: dict[str, Any], special: dict[str, int] | None) -> None:
    """Writes `config.json` and `generation_config.json`."""
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    generation = {**(special or {}), "do_sample": True, "temperature": 0.8, "top_p": 0.95}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")


def read_config(folder: Path) -> tuple[DecoderConfig, dict[str, Any]]:
    """Reads the sizes of a folder's model.

    Returns:
        Our configuration, and everything that `config.json` says.

    Raises:
        ArtifactError: no readable `config.json`, a model of an unknown architecture or with parts that are
            not built here, or one that asks for code of its own.
    """
    raw = read_keys(folder)
    return understood(by_architecture(raw, folder / CONFIG).read, raw, folder), raw


def load(folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Decoder:
    """Loads the model of a folder.

    Args:
        folder: with `config.json` and safetensors weights, in one file or several.
        dtype: to hold the weights in.
        device: where to hold them.

    Raises:
        ArtifactError: files that are missing, truncated or do not fit together; weights that are missing, too
            many, of another shape or not finite; a tokenizer with more tokens than the embedding has rows.
    """
    config, raw = read_config(folder)
    family = by_architecture(raw, folder / CONFIG)
    _check_tokenizer(folder, config.vocabulary)
    state = _translated(read_folder(folder), config, family, folder)
    if config.tied:
        state["head.weight"] = state["embedding.weight"]
    model = Decoder(config).to(device, dtype)
    model.load_state_dict({name: tensor.to(device, dtype) for name, tensor in state.items()})
    return model.eval()


def _translated(
    stored: dict[str, Tensor], config: DecoderConfig, family: ModuleType, folder: Path
) -> dict[str, Tensor]:
    """Stored tensors as ours, after checking that they are what `config.json` promises."""
    found, own = rules(family, config), shapes(config)
    expected = stored_shapes(found, own)
    prefix = getattr(family, "PREFIX", "model.")  # what a model that was saved without its head lacks
    stored = {_prefixed(name, prefix, expected): tensor for name, tensor in stored.items()}
    spare = "|".join([*getattr(family, "SPARE", ()), *(_HEADS if config.tied else ())])

    def left_over(name: str) -> bool:
        return any(re.fullmatch(spare, whole) for whole in (name, f"{prefix}{name}"))

    return fitting(found, stored, own, left_over, folder)


def _prefixed(name: str, prefix: str, expected: dict[str, torch.Size]) -> str:
    """The name that it is expected under: that of a bare model lacks a prefix."""
    return prefix + name if name not in expected and prefix + name in expected else name


def _check_tokenizer(folder: Path, vocabulary: int) -> None:
    """Refuses a tokenizer.json that would ask for rows that the embedding does not have."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        known = raw["model"]["vocab"]
        ids = list(known.values()) if isinstance(known, dict) else [len(known) - 1]
        ids += [token["id"] for token in raw.get("added_tokens") or []]
        largest = max(ids, default=0)
    except (ValueError, KeyError, TypeError):
        return  # a tokenizer that cannot be read is for whoever wants to use it
    if largest >= vocabulary:
        what = f"the tokenizer has a token {largest}, and the embedding {vocabulary} rows"
        raise ArtifactError(what, where=folder, fix="put the files of one model together")
