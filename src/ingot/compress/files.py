"""The int8 model folder: compressed-tensors' "naive-quantized" format, which `transformers` loads as it is.

Each int8 layer is stored as `NAME.weight` (int8 [o, i]) and `NAME.weight_scale` (float32 [o, 1]);
`config.json` says so in its `quantization_config`. `pip install compressed-tensors` is all that
`AutoModelForCausalLM.from_pretrained` needs. The packed format of the same package was tried and is
not used for these: `transformers` 5.23 cannot load an embedding that is packed.

Experts are stored packed, each by itself: `NAME.weight_packed` (int32 [o, ceil(i / 4)]), `NAME.weight_scale`
and `NAME.weight_shape`: `transformers` takes int8 experts in no other form (and makes them dense).

Source: the compressed-tensors package, 0.20, `compressors/naive_quantized` and `quantization/quant_config`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ingot.artifact import publish
from ingot.compress.quantize import int8_form, quantize
from ingot.compress.quantized import QuantizedEmbedding, QuantizedLinear
from ingot.compress.quantized_experts import QuantizedStacked, packed, unpacked
from ingot.errors import ArtifactError
from ingot.models import huggingface
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.models.families import shapes
from ingot.models.families.rules import stored_shapes
from ingot.nn.experts import Stacked

FORMAT, PACKED = "naive-quantized", "pack-quantized"
MIXED = "mixed-precision"
"""What the package calls a folder of several formats."""

_WEIGHTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
_EXPERTS = r"re:.*\.experts\.\d+\..*"
ROLES = ("bos_token_id", "eos_token_id", "pad_token_id")
NOT_COPIED = {"artifact.json", "config.json", "generation_config.json", "plan.json", "metrics.jsonl"}


def save_int8(folder: Path, model: Decoder, special: dict[str, int] | None = None) -> None:
    """Writes an int8 model's weights and configuration into a folder that exists.

    Args:
        folder: where to; files of the same names are replaced.
        model: with int8 layers, as `quantize` gives it.
        special: token ids by role, as in `huggingface.save`.
    """
    weights: dict[str, Tensor] = {}
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    for rule in huggingface.row_rules(model.config):
        module, _, kind = rule.ours[0].rpartition(".")
        made = rule.write([state[rule.ours[0]]])
        if kind != "weight" or f"{module}.scale" not in state:
            weights |= {name: one.float().contiguous() for name, one in zip(rule.theirs, made, strict=True)}
            continue
        scales = rule.write([state[f"{module}.scale"].float()[..., None]])
        packs = isinstance(model.get_submodule(module), QuantizedStacked)
        for name, weight, scale in zip(rule.theirs, made, scales, strict=True):
            weights[f"{name}_scale"] = scale.contiguous().clone()
            if packs:
                weights[f"{name}_packed"] = packed(weight)
                weights[f"{name}_shape"] = torch.tensor(weight.shape)
            else:
                weights[name] = weight.contiguous().clone()
    if model.config.tied:
        weights["lm_head.weight_scale"] = weights["model.embed_tokens.weight_scale"].clone()
    save_file(weights, folder / huggingface.WEIGHTS, metadata={"format": "pt"})
    config = huggingface.describe(model.config, torch.float32, special)
    huggingface.write_configs(folder, config | {"quantization_config": scheme(model.config)}, special)


def load_int8(folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Decoder:
    """Loads an int8 model to run as it is stored: weights stay int8.

    Args:
        folder: as `save_int8` or `quantize_folder` wrote it.
        dtype: to compute in.
        device: where to hold the weights.

    Raises:
        ArtifactError: another format, or files that are missing, truncated or do not fit together.
    """
    config, raw = huggingface.read_config(folder)
    _check_format(raw.get("quantization_config"), scheme(config)["format"], folder)
    path = folder / huggingface.WEIGHTS
    stored = huggingface.read_weights(path)
    model = Decoder(config).to(dtype)
    own, sizes = model.state_dict(), shapes(config)
    for rule in huggingface.row_rules(config):
        name, _, kind = rule.ours[0].rpartition(".")
        layer = model.get_submodule(name)
        its = stored_shapes([rule], sizes).items()
        if kind != "weight" or not isinstance(layer, nn.Linear | nn.Embedding | Stacked):
            (tensor,) = rule.read([_take(stored, name, None, shape, path) for name, shape in its])
            own[rule.ours[0]].copy_(tensor)
            continue
        if isinstance(layer, Stacked):
            (weight,) = rule.read([_unpacked(stored, name, shape, path) for name, shape in its])
        else:
            (weight,) = rule.read([_take(stored, name, torch.int8, shape, path) for name, shape in its])
        (scale,) = rule.read(
            [_take(stored, f"{name}_scale", torch.float32, (len_, 1), path) for name, (len_, _) in its]
        )
        model.set_submodule(name, int8_form(layer)(weight, scale[..., 0].to(dtype)))
    if config.tied:
        embedding = model.embedding
        assert isinstance(embedding, QuantizedEmbedding)
        model.set_submodule("head", QuantizedLinear(embedding.weight, embedding.scale))
    return model.to(device).eval()


def quantize_folder(folder: Path, out: Path) -> dict[str, float]:
    """Makes an int8 model folder from a model folder; `out` appears whole or not at all.

    Args:
        folder: a dense model folder.
        out: a folder that does not exist yet.

    Returns:
        What `write_int8` counted.

    Raises:
        ArtifactError: `out` exists, or `folder` is no dense model folder.
    """
    if out.exists():
        raise ArtifactError("exists already", where=out, fix="name another folder or remove this one")
    with publish(out) as temporary:
        return write_int8(folder, temporary)


def write_int8(folder: Path, out: Path) -> dict[str, float]:
    """Writes the int8 form of a model folder, tokenizer and all, into a folder that exists.

    Returns:
        `bytes` of the int8 weight file, `fp32_bytes` that the same weights take in float32, their
        `ratio`, and the number of `parameters`.

    Raises:
        ArtifactError: `folder` is no dense model folder.
    """
    _, raw = huggingface.read_config(folder)
    if raw.get("quantization_config"):
        raise ArtifactError("is quantized already", where=folder, fix="name the model that it came from")
    model = huggingface.load(folder)
    save_int8(out, quantize(model), {role: raw[role] for role in ROLES if raw.get(role) is not None})
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.suffix in (".json", ".jinja") and file.name not in NOT_COPIED:
            shutil.copyfile(file, out / file.name)
    if (folder / "generation_config.json").exists():
        shutil.copyfile(folder / "generation_config.json", out / "generation_config.json")
    size, parameters = (out / huggingface.WEIGHTS).stat().st_size, model.parameter_count()
    dense = 4 * parameters
    return {"bytes": size, "fp32_bytes": dense, "ratio": size / dense, "parameters": parameters}


def scheme(config: DecoderConfig) -> dict[str, Any]:
    """Returns what `config.json` says of how a model's weights are stored."""

    def group(target: list[str], form: str) -> dict[str, Any]:
        none = {"input_activations": None, "output_activations": None}
        return {"targets": target, "format": form, "weights": _WEIGHTS, **none}

    groups = {"group_0": group(["Linear", "Embedding"], FORMAT)}
    if config.experts is not None:
        groups["group_1"] = group([_EXPERTS], PACKED)
    return {
        "quant_method": "compressed-tensors",
        "format": FORMAT if config.experts is None else MIXED,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": [],
    }


def _check_format(stored: Any, wanted: str, folder: Path) -> None:
    said = stored.get("format") if isinstance(stored, dict) else None
    if said != wanted:
        raise ArtifactError(
            f"weights are stored as {said or 'dense'}, not as {wanted}",
            where=folder / "config.json",
            fix="quantize the model with `ingot quantize`",
        )


def _unpacked(stored: dict[str, Tensor], name: str, shape: torch.Size, path: Path) -> Tensor:
    """The int8 weights [o, i] of an expert."""
    o, i = shape
    said = _take(stored, f"{name}_shape", None, (2,), path).tolist()
    if said != [o, i]:
        what = f"weight '{name}' is {said}, config.json says {[o, i]}"
        raise ArtifactError(what, where=path, fix="make the model anew")
    return unpacked(_take(stored, f"{name}_packed", torch.int32, (o, -(-i // 4)), path), i)


def _take(
    stored: dict[str, Tensor], name: str, dtype: torch.dtype | None, shape: tuple[int, ...], path: Path
) -> Tensor:
    """The stored tensor, after checking that it is what config.json promises."""
    anew = "make the model anew"
    if name not in stored:
        raise ArtifactError(f"weight '{name}' is missing", where=path, fix=anew)
    tensor = stored[name]
    if tuple(tensor.shape) != tuple(shape):
        said = f"weight '{name}' is {list(tensor.shape)}, config.json says {list(shape)}"
        raise ArtifactError(said, where=path, fix=anew)
    if dtype is not None and tensor.dtype != dtype:
        raise ArtifactError(f"weight '{name}' is {tensor.dtype}, not {dtype}", where=path, fix=anew)
    return tensor
