"""A LoRA folder as PEFT writes it: read, checked against the base, and named as our modules are.

```
adapter_config.json          kind, alpha, base
adapter_model.safetensors    base_model.model.<their module>.lora_A.weight [r, i], ....lora_B.weight [o, r]
```

The rules of the model's family say which of their modules are which of ours. A module of theirs that holds
several of ours (queries, keys and values in one tensor) is cut by the rows of `lora_B`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ingot.adapt.lora import LowRank, scale
from ingot.compress import QuantizedLinear
from ingot.errors import ArtifactError, IngotError, did_you_mean
from ingot.models import huggingface
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.models.families import FAMILIES, rules, shapes
from ingot.models.families.rules import Rule, same
from ingot.models.weight_files import read_weights

CONFIG = "adapter_config.json"
FACTORS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_AGAIN = "copy the folder again, or save the adapter anew"
_PLAIN = "train a plain LoRA adapter, or merge this one into its base with peft"

_FREE = frozenset(
    {
        "peft_type",
        "auto_mapping",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "r",
        "target_modules",
        "exclude_modules",
        "lora_alpha",
        "lora_dropout",
        "use_rslora",
        "layers_to_transform",
        "layers_pattern",
        "rank_pattern",
        "alpha_pattern",
        "megatron_core",
        "qalora_group_size",
        "loftq_config",
        "eva_config",
    }
)
"""Keys that say nothing about the arithmetic, or are read below. Any other one must be empty."""

_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Ways to begin that leave the base as it is; others (pissa, olora, corda, loftq) take a part out of it."""


@dataclass(frozen=True)
class Adapter:
    """A low-rank change of some of a model's linear layers.

    Args:
        changes: by the names of our modules.
        base: what the folder calls the model that it was trained on, or None.
    """

    changes: dict[str, LowRank]
    base: str | None

    @property
    def rank(self) -> int:
        """The largest rank."""
        return max(change.down.shape[0] for change in self.changes.values())

    def bytes(self) -> int:
        """Returns the memory held."""
        return sum(factor.nbytes for change in self.changes.values() for factor in change)


def read_adapter(folder: Path | str, model: Decoder) -> Adapter:
    """Reads an adapter for a model.

    Args:
        folder: as PEFT writes it.
        model: the base; the adapter gets its device and the number type of its vectors.

    Raises:
        ArtifactError: files that are missing or damaged, an adapter of another kind, or of another base.
    """
    folder = Path(folder)
    keys = _read_keys(folder)
    pairs = _pairs(read_weights(folder / FACTORS), folder)
    _check_base(keys.get("base_model_name_or_path"), model, folder)
    where = folder / FACTORS
    like = model.norm.get_parameter("weight")
    changes: dict[str, LowRank] = {}
    found = _rules_for(pairs.keys(), model, where)
    for module, (down, up) in pairs.items():
        rank = len(down)
        alpha = _of(keys.get("alpha_pattern"), module, keys.get("lora_alpha"), folder)
        promised = _of(keys.get("rank_pattern"), module, keys.get("r"), folder)
        if promised != rank:
            said = f"'{module}' has rank {rank}, {CONFIG} says {promised}"
            raise ArtifactError(said, where=where, fix=_AGAIN)
        up = up.float() * scale(alpha, rank, bool(keys.get("use_rslora")))
        for name, rows in _cut(found[f"{module}.weight"], up, module, where):
            changes[name] = LowRank(down.to(like), rows.contiguous().to(like))
            _check_shape(name, changes[name], model, where)
    return Adapter(changes, keys.get("base_model_name_or_path"))


def _read_keys(folder: Path) -> dict[str, Any]:
    """The content of adapter_config.json, once it is sure to be of a plain LoRA adapter."""
    path = folder / CONFIG
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        fix = "name a folder that peft's save_pretrained() wrote"
        raise ArtifactError(f"no {CONFIG}: not an adapter's folder", where=folder, fix=fix) from None
    except (ValueError, OSError, RecursionError) as error:
        raise ArtifactError(f"not readable as JSON ({error})", where=path, fix=_AGAIN) from None
    if not isinstance(raw, dict):
        raise ArtifactError("holds no keys", where=path, fix=_AGAIN)
    if raw.get("peft_type") != "LORA":
        what = f"an adapter of kind {raw.get('peft_type')!r}; only LORA is understood"
        raise ArtifactError(what, where=path, fix=_PLAIN)
    if raw.get("task_type") not in (None, "CAUSAL_LM"):
        what = f"an adapter for {raw['task_type']!r}, not for CAUSAL_LM"
        raise ArtifactError(what, where=path, fix="give one that was trained on a causal language model")
    start = raw.get("init_lora_weights", True)
    if start not in _STARTS:
        what = f"init_lora_weights {start!r} changes the base too"
        raise ArtifactError(what, where=path, fix="save it with path_initial_model_for_weight_conversion")
    for key in sorted(raw.keys() - _FREE - {"task_type", "init_lora_weights"}):
        if raw[key] and not (key == "bias" and raw[key] == "none"):
            raise ArtifactError(f"{key} is {str(raw[key])[:60]}: not supported", where=path, fix=_PLAIN)
    for key in ("r", "lora_alpha"):
        if not _is_number(raw.get(key)):
            raise ArtifactError(f"{key} is {str(raw.get(key))[:60]}", where=path, fix=_AGAIN)
    for key in ("rank_pattern", "alpha_pattern"):
        if not isinstance(raw.get(key) or {}, dict):
            raise ArtifactError(f"{key} is no mapping", where=path, fix=_AGAIN)
    return raw


def _of(pattern: Mapping[str, Any] | None, module: str, usual: Any, folder: Path) -> float:
    """What a pattern says of a module: the first key that its name ends with; else the usual."""
    for key, value in (pattern or {}).items():
        if not re.fullmatch(r"[\w.]+", key):  # a stranger's regular expression may never end
            fix = "name the modules in full"
            raise ArtifactError(f"the pattern {key[:60]!r} is no name", where=folder / CONFIG, fix=fix)
        if module == key or module.endswith(f".{key}"):
            usual = value
            break
    if not _is_number(usual):
        raise ArtifactError(f"{str(usual)[:60]} for '{module}'", where=folder / CONFIG, fix=_AGAIN)
    return float(usual)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6


def _pairs(stored: Mapping[str, Tensor], folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Both factors of each of their modules."""
    where = folder / FACTORS
    sides: dict[str, dict[str, Tensor]] = {}
    for name, tensor in stored.items():
        match = re.fullmatch(r"(.+)\.lora_(A|B)\.weight", name.removeprefix(_PREFIX))
        if match is None:
            what = f"'{name}' is no factor of a linear layer"
            raise ArtifactError(what, where=where, fix=_PLAIN)
        if tensor.ndim != 2 or not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            said = f"'{name}' is {tensor.dtype} of shape {list(tensor.shape)}, or not finite"
            raise ArtifactError(said, where=where, fix=_AGAIN)
        sides.setdefault(match[1], {})[match[2]] = tensor
    if not sides:
        raise ArtifactError("holds no factors", where=where, fix=_AGAIN)
    for module, both in sides.items():
        if both.keys() != {"A", "B"} or both["A"].shape[0] != both["B"].shape[1]:
            raise ArtifactError(f"the factors of '{module}' do not belong together", where=where, fix=_AGAIN)
    return {module: (both["A"], both["B"]) for module, both in sides.items()}


def _rules_for(modules: Collection[str], model: Decoder, where: Path) -> dict[str, Rule]:
    """Rules by their names of weights, of the first family that has all of the modules."""
    families = list(_families(model.config))
    for found in families:
        if all(f"{module}.weight" in found for module in modules):
            return found
    known = [name.removesuffix(".weight") for name in families[0]]
    name = min(module for module in modules if module not in known)
    raise ArtifactError(
        f"changes '{name}', which the base does not have",
        where=where,
        fix=f"is it an adapter of this model? {did_you_mean(name, known)}"[:200],
    )


def _families(config: DecoderConfig) -> Iterator[dict[str, Rule]]:
    """Rules by their names of weights. Families of the same parts may store them differently, and an adapter
    can be of our own modules."""
    for family in FAMILIES:
        try:
            raw = family.describe(config)
            if raw is not None and family.read(raw) == config:
                yield {name: rule for rule in rules(family, config) for name in rule.theirs}
        except (IngotError, TypeError):
            continue
    yield {name: same(name, name) for name in shapes(config)}


def _cut(rule: Rule, up: Tensor, module: str, where: Path) -> Iterator[tuple[str, Tensor]]:
    """Our modules that one of theirs holds, each with its rows of `up`."""
    if len(rule.theirs) != 1:
        what = f"changes '{module}', one of many experts' weights, which lie in one tensor here"
        raise ArtifactError(what, where=where, fix="adapt attention and dense layers only")
    # Which rows are whose: the rule itself says it, read as if each row held its number.
    try:
        numbers = rule.read([torch.arange(len(up), dtype=torch.float64)[:, None]])
    except RuntimeError:
        numbers = []
    if len(numbers) != len(rule.ours) or any(one.ndim != 2 or one.shape[1] != 1 for one in numbers):
        what = f"'{module}' has {len(up)} outputs, or is stored transposed"
        raise ArtifactError(what, where=where, fix="is it an adapter of this model?")
    for name, rows in zip(rule.ours, numbers, strict=True):
        yield name.removesuffix(".weight"), up[rows[:, 0].long()]


def _check_shape(name: str, change: LowRank, model: Decoder, where: Path) -> None:
    """Refuses a change of what is no linear layer inside a block, or of another size."""
    module = model.get_submodule(name)
    if name == "head" or not isinstance(module, nn.Linear | QuantizedLinear):
        fix = "adapt linear layers of the blocks only"
        raise ArtifactError(f"changes '{name}': not supported", where=where, fix=fix)
    outputs, inputs = module.weight.shape
    made = change.up.shape[0], change.down.shape[1]
    if made != (outputs, inputs):
        what = f"'{name}' maps {inputs} to {outputs}, its change {made[1]} to {made[0]}"
        raise ArtifactError(what, where=where, fix="is it an adapter of this model?")


def _check_base(name: object, model: Decoder, folder: Path) -> None:
    """Refuses another base, where the folder that the adapter names is still there to be looked at."""
    if not isinstance(name, str) or not (Path(name) / "config.json").is_file():
        return
    try:
        trained, _ = huggingface.read_config(Path(name))
    except IngotError:
        return  # a base that cannot be read here says nothing
    one, other = trained.plain(), model.config.plain()
    for key in one.keys() - {"context", "vocabulary"}:
        if one[key] != other[key]:
            what = f"was trained on {name}, whose {key} is {one[key]}, not {other[key]}"
            raise ArtifactError(what[:300], where=folder, fix="load it on the base that it was trained on")
