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

from ingot.errors import ArtifactError, ConfigError
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.models.families import by_architecture, by_parts, rules, shapes
from ingot.models.families.rules import Rule
from ingot.models.weight_files import WEIGHTS, listed, read_folder, read_weights

__all__ = ["WEIGHTS", "read_weights"]  # what others find here although it is elsewhere

_AGAIN = "make the model anew"
_HEADS = (r"lm_head\.weight", r"embed_out\.weight")


def weight_names(config: DecoderConfig) -> dict[str, str]:
    """Returns our weight name -> theirs, for every weight that is stored (a tied head is not).

    Raises:
        ArtifactError: the model has more than weights that are stored one by one as they are (the int8 format
            rests on that), or no family has these parts.
    """
    family, _ = by_parts(config)
    found = rules(family, config)
    plain = all(rule.read is rule.write and rule.ours[0].endswith(".weight") for rule in found)
    if config.logit_cap is not None or not plain:
        raise ArtifactError(
            f"{family.MODEL_TYPE} has more than plain weights (biases, a cap, joined tensors)",
            where="the model's format",
            fix="use the model as it is",
        )
    return {rule.ours[0]: rule.theirs[0] for rule in found}


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
    state = model.state_dict()
    weights: dict[str, Tensor] = {}
    for rule in rules(family, model.config):
        stored = rule.write([state[name].detach().to("cpu", dtype) for name in rule.ours])
        weights |= {name: one.contiguous().clone() for name, one in zip(rule.theirs, stored, strict=True)}
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
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            "no config.json: not a model folder", where=folder, fix="name a model folder"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ArtifactError("not readable as JSON", where=path, fix=_AGAIN) from None
    if not isinstance(raw, dict):
        raise ArtifactError("holds no keys", where=path, fix=_AGAIN)
    if raw.get("auto_map"):
        fix = "use a version of the model that needs no code (look for one without auto_map)"
        raise ArtifactError("asks to run code of its own (auto_map): refused", where=path, fix=fix)
    family = by_architecture(raw, path)
    try:
        return family.read(raw), raw
    except KeyError as missing:
        what = f"key {missing} is missing, which {raw['architectures'][0]} has"
        raise ArtifactError(what, where=path, fix=_AGAIN) from None
    except (ConfigError, ArtifactError) as error:
        raise ArtifactError(error.what, where=error.where or path, fix=error.fix or _AGAIN) from None
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ArtifactError(f"holds a value that cannot be used ({error})", where=path, fix=_AGAIN) from None


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
    family = by_architecture(raw, folder / "config.json")
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
    found = rules(family, config)
    expected = _expected(found, config)
    prefix = getattr(family, "PREFIX", "model.")  # what a model that was saved without its head lacks
    stored = {_prefixed(name, prefix, expected): tensor for name, tensor in stored.items()}
    missing = sorted(expected.keys() - stored.keys())
    if missing:
        one = f"weight '{missing[0]}' is missing"
        raise ArtifactError(
            one if len(missing) == 1 else f"weights are missing: {listed(missing)}", where=folder, fix=_AGAIN
        )
    spare = "|".join([*getattr(family, "SPARE", ()), *(_HEADS if config.tied else ())])
    extra = sorted(stored.keys() - expected.keys())
    extra = [name for name in extra if not any(re.fullmatch(spare, f"{p}{name}") for p in ("", prefix))]
    if extra:
        what = f"weights that config.json knows nothing of: {listed(extra)}"
        raise ArtifactError(what, where=folder, fix="check that weights and config.json are of one model")
    for name, shape in expected.items():
        if stored[name].shape != shape:
            said = f"weight '{name}' is {list(stored[name].shape)}, config.json says {list(shape)}"
            raise ArtifactError(said, where=folder, fix=_AGAIN)
        if not stored[name].is_floating_point():
            said = f"weight '{name}' is stored as {stored[name].dtype}"
            raise ArtifactError(said, where=folder, fix="load the dense model that it was made from")
        if not bool(stored[name].isfinite().all()):
            raise ArtifactError(f"weight '{name}' holds NaN or infinity", where=folder, fix=_AGAIN)
    state: dict[str, Tensor] = {}
    for rule in found:
        ours = rule.read([stored[name] for name in rule.theirs])
        state |= dict(zip(rule.ours, ours, strict=True))
    return state


def _expected(found: list[Rule], config: DecoderConfig) -> dict[str, torch.Size]:
    """Their names and shapes, as they would be written."""
    own = shapes(config)
    expected: dict[str, torch.Size] = {}
    for rule in found:
        written = rule.write([torch.empty(own[name], device="meta") for name in rule.ours])
        expected |= {name: one.shape for name, one in zip(rule.theirs, written, strict=True)}
    return expected


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
