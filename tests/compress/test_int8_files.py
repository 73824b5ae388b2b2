"""The int8 folder: both ways by us, and by `transformers` with its package; damage is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ingot.compress import dequantized, load_int8, quantize, quantize_folder, save_int8
from ingot.errors import ArtifactError
from ingot.models import huggingface
from ingot.models.decoder import Decoder, DecoderConfig

TOKENS = torch.randint(0, 512, (2, 40), generator=torch.Generator().manual_seed(3))


def trained(tied: bool = False) -> Decoder:
    model = DecoderConfig(
        vocabulary=512,
        width=96,
        layers=2,
        heads=4,
        kv_heads=2,
        head_width=24,
        feed_forward=256,
        context=64,
        tied=tied,
    ).build(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dense model folder with what lies beside a model."""
    folder = tmp_path / "aligned@1"
    folder.mkdir()
    special = {"bos_token_id": 508, "eos_token_id": 510, "pad_token_id": 511}
    huggingface.save(folder, trained(), special=special)
    for name in ("tokenizer.json", "tokenizer_config.json", "artifact.json", "metrics.jsonl", "plan.json"):
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize("tied", [False, True])
def test_saved_and_loaded_is_the_same_model(tmp_path: Path, tied: bool) -> None:
    model = quantize(trained(tied))
    save_int8(tmp_path, model)
    loaded = load_int8(tmp_path)
    assert loaded.embedding.weight.dtype == torch.int8
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    with torch.no_grad():
        assert torch.equal(loaded(TOKENS).logits, model(TOKENS).logits)
        low = load_int8(tmp_path, dtype=torch.bfloat16)(TOKENS).logits
        assert low.dtype == torch.bfloat16
        assert (low.float() - model(TOKENS).logits).abs().max() < 0.2


@pytest.mark.parametrize("tied", [False, True])
def test_transformers_loads_it(tmp_path: Path, tied: bool) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("compressed_tensors")
    model = quantize(trained(tied))
    save_int8(tmp_path, model, {"bos_token_id": 508, "eos_token_id": 510, "pad_token_id": 511})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    dense = dequantized(model)
    with torch.no_grad():
        assert (theirs(TOKENS).logits - dense(TOKENS).logits).abs().max() < 1e-4
        assert (theirs(TOKENS).logits - load_int8(tmp_path)(TOKENS).logits).abs().max() < 1e-4
    for ours, name in huggingface.weight_names(model.config).items():  # embedding and head too
        assert torch.equal(theirs.get_parameter(name), dense.get_parameter(ours)), name


def test_a_folder_becomes_a_small_folder(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8"
    counted = quantize_folder(folder, out)
    names = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert {file.name for file in out.iterdir()} == names | {"tokenizer_config.json"}
    assert (out / "generation_config.json").read_text() == (folder / "generation_config.json").read_text()
    config, before = (json.loads((f / "config.json").read_text()) for f in (out, folder))
    assert config.pop("quantization_config")["quant_method"] == "compressed-tensors"
    assert config == before
    assert counted["bytes"] == (out / "model.safetensors").stat().st_size
    assert counted["fp32_bytes"] <= (folder / "model.safetensors").stat().st_size
    assert counted["ratio"] <= 0.32
    assert torch.equal(dequantized(load_int8(out)).head.weight, dequantized(quantize(trained())).head.weight)


def test_an_existing_or_quantized_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8"
    quantize_folder(folder, out)
    with pytest.raises(ArtifactError, match="exists already"):
        quantize_folder(folder, out)
    with pytest.raises(ArtifactError, match="quantized already"):
        quantize_folder(out, tmp_path / "again")
    with pytest.raises(ArtifactError, match="dense, not as"):
        load_int8(folder)
    with pytest.raises(ArtifactError, match="not a model folder"):
        quantize_folder(tmp_path, tmp_path / "third")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aligned@1", "int8"]


def test_damage_is_one_clear_line(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8"
    quantize_folder(folder, out)
    weights = out / "model.safetensors"
    whole, tensors = weights.read_bytes(), load_file(weights)
    name = "model.layers.0.mlp.up_proj.weight"

    def refused(match: str) -> None:
        with pytest.raises(ArtifactError, match=match) as caught:
            load_int8(out)
        assert "\n" not in str(caught.value)

    for length in (0, 7, 100, len(whole) - 1):
        weights.write_bytes(whole[:length])
        refused("truncated")
    weights.unlink()
    refused("no such weight file")
    save_file({k: v for k, v in tensors.items() if k != name}, weights)
    refused(f"'{name}' is missing")
    save_file({k: v for k, v in tensors.items() if k != f"{name}_scale"}, weights)
    refused(f"'{name}_scale' is missing")
    save_file({**tensors, name: tensors[name].float()}, weights)
    refused("not torch.int8")
    save_file({**tensors, name: tensors[name][:3].clone()}, weights)
    refused("config.json says")
