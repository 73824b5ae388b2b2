"""The int8 model folder: compressed-tensors' "naive-quantized" format, which `transformers` loads as it is.

Each int8 layer is stored as `NAME.weight` (int8 [o, i]) and `NAME.weight_scale` (float32 [o, 1]);
`config.json` says so in its `quantization_config`. `pip install compressed-tensors` is all that
`AutoModelForCausalLM.from_pretrained` needs. The packed format of the same package was tried and is
not used: `transformers` 5.23 cannot load an embedding that is packed.

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
from ingot.compress.quantize import Quantized, quantize
from ingot.compress.quantized import QuantizedEmbedding, QuantizedLinear
from ingot.errors import ArtifactError
from ingot.models import huggingface
from ingot.models.decoder import Decoder

FORMAT = "naive-quantized"
SCHEME: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": FORMAT,
    "quantization_status": "compressed",
    "config_groups": {
        "group_0": {
            "targets": ["Linear", "Embedding"],
            "format": FORMAT,
            "weights": {
                "num_bits": 8,
                "type": "int",
                "symmetric": True,
                "strategy": "channel",
                "dynamic": False,
            },
            "input_activations": None,
            "output_activations": None,
        }
    },
    "ignore": [],
}
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
    for ours, theirs in _names(model).items():
        layer = model.get_submodule(ours.removesuffix(".weight"))
        if isinstance(layer, Quantized):
            weights[theirs] = layer.weight.cpu().contiguous().clone()
            weights[f"{theirs}_scale"] = layer.scale.float().cpu()[:, None].clone()
        else:
            weights[theirs] = layer.get_parameter("weight").detach().float().cpu().contiguous()
    if model.config.tied:
        weights["lm_head.weight_scale"] = weights["model.embed_tokens.weight_scale"].clone()
    save_file(weights, folder / huggingface.WEIGHTS, metadata={"format": "pt"})
    config = huggingface.describe(model.config, torch.float32, special)
    huggingface.write_configs(folder, config | {"quantization_config": SCHEME}, special)


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
    _check_format(raw.get("quantization_config"), folder)
    path = folder / huggingface.WEIGHTS
    stored = huggingface.read_weights(path)
    model = Decoder(config).to(dtype)
    for ours, theirs in huggingface.weight_names(config).items():
        name = ours.removesuffix(".weight")
        layer = model.get_submodule(name)
        shape = layer.get_parameter("weight").shape
        if isinstance(layer, nn.Linear | nn.Embedding):
            weight = _take(stored, theirs, torch.int8, shape, path)
            scale = _take(stored, f"{theirs}_scale", torch.float32, (shape[0], 1), path)
            swapped = QuantizedLinear if isinstance(layer, nn.Linear) else QuantizedEmbedding
            model.set_submodule(name, swapped(weight, scale[:, 0].to(dtype)))
        else:
            layer.get_parameter("weight").data.copy_(_take(stored, theirs, None, shape, path))
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


def _names(model: Decoder) -> dict[str, str]:
    return huggingface.weight_names(model.config)


def _check_format(scheme: Any, folder: Path) -> None:
    said = scheme.get("format") if isinstance(scheme, dict) else None
    if said != FORMAT:
        raise ArtifactError(
            f"weights are stored as {said or 'dense'}, not as {FORMAT}",
            where=folder / "config.json",
            fix="quantize the model with `ingot quantize`",
        )


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
