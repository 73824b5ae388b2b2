"""int8 experts: products as of the dense ones, hardly another model, a folder that `transformers` reads."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ingot.compress import dequantized, load_int8, quantize, quantize_folder, save_int8
from ingot.compress.quantized import MOST_ROWS, quantize_rows
from ingot.compress.quantized_experts import QuantizedStacked, packed, unpacked
from ingot.errors import ArtifactError
from ingot.models import huggingface
from ingot.models.decoder import Decoder, DecoderConfig

SIZES: dict[str, Any] = {
    "vocabulary": 300, "width": 48, "layers": 2, "heads": 4, "kv_heads": 2, "head_width": 12,
    "feed_forward": 64, "context": 64,
}  # fmt: skip
LATENT = {"query_rank": 24, "key_value_rank": 16, "plain_width": 8, "rotary_width": 4, "value_width": 12}
MIXTURES: dict[str, dict[str, Any]] = {
    "Mixtral": {"head_norm": None, "experts": {"count": 4, "chosen": 2, "width": 64}},
    "Qwen3Moe": {"experts": {"count": 6, "chosen": 2, "width": 39}, "dense_layers": [0]},
    "DeepseekV3": {
        "head_norm": None, "latent": LATENT, "kv_heads": 4, "dense_layers": [0],
        "experts": {
            "count": 6, "chosen": 2, "width": 40, "shared": 40, "scoring": "sigmoid", "scale": 2.5,
            "balance_bias": 0.001, "router_precision": "float32",
        },
    },
}  # fmt: skip
TOKENS = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(3))


def trained(name: str, **more: Any) -> Decoder:
    """A mixture all of whose weights do something."""
    model = DecoderConfig.parse({**SIZES, **MIXTURES[name], **more}).build(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        for key, buffer in model.named_buffers():
            if key.endswith("router.bias"):
                buffer.add_(torch.rand(buffer.shape, generator=generator) * 0.1)
    return model.eval()


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 5), width=st.integers(1, 41), seed=st.integers(0, 2**31))
def test_packing_is_the_published_one(rows: int, width: int, seed: int) -> None:
    helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-128, 128, (rows, width), generator=generator).to(torch.int8)
    stored = packed(weight)
    assert torch.equal(stored, helpers.pack_to_int32(weight, 8))
    assert torch.equal(unpacked(stored, width), weight)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.sampled_from([0, 1, 2, MOST_ROWS, MOST_ROWS + 1, 30]), min_size=1, max_size=5),
    o=st.integers(1, 20),
    i=st.sampled_from([1, 7, 32, 64, 65]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_every_row_meets_its_own_expert(counts: list[int], o: int, i: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight, scale = quantize_rows(torch.randn(len(counts), o, i))
    layer = QuantizedStacked(weight, scale.to(dtype))
    x = torch.randn(sum(counts), i).to(dtype)
    made = layer(x, torch.tensor(counts))
    assert made.dtype == dtype and made.shape == (len(x), o)
    owners = [expert for expert, count in enumerate(counts) for _ in range(count)]
    for row, expert, y in zip(x, owners, made, strict=True):
        expected = layer.dense()[expert].double() @ row.double()
        bound = 1e-4 if dtype == torch.float32 else 0.02 * i**0.5
        torch.testing.assert_close(y.double(), expected, atol=bound, rtol=0.01)


@pytest.mark.parametrize("name", MIXTURES)
@torch.no_grad()
def test_a_quantized_mixture_is_hardly_another_model(name: str) -> None:
    model = trained(name)
    small = quantize(model)
    dense = dequantized(small)
    logits, before = small(TOKENS).logits, model(TOKENS).logits
    assert (dense(TOKENS).logits - logits).abs().max() < 1e-4
    lost = (before.softmax(-1) * (before.log_softmax(-1) - logits.log_softmax(-1))).sum(-1) / math.log(2)
    assert 0 < lost.mean() < 2e-3  # bits per token
    state = small.state_dict()
    experts = [key for key in state if ".experts." in key and key.endswith(".weight")]
    assert experts and all(state[key].dtype == torch.int8 for key in experts)
    routers = [key for key in state if ".router." in key]
    assert routers and all(torch.equal(state[key], model.state_dict()[key]) for key in routers)
    assert all(torch.equal(dense.state_dict()[key], state[key]) for key in routers)
    low = quantize(model.bfloat16())(TOKENS).logits.float()
    assert (low - logits).abs().mean() < 0.1


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", MIXTURES)
@torch.no_grad()
def test_saved_and_loaded_is_the_same_mixture(tmp_path: Path, name: str, tied: bool) -> None:
    model = quantize(trained(name, tied=tied))
    save_int8(tmp_path, model)
    loaded = load_int8(tmp_path)
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    assert torch.equal(loaded(TOKENS).logits, model(TOKENS).logits)
    assert load_int8(tmp_path, dtype=torch.bfloat16)(TOKENS).logits.dtype == torch.bfloat16


@pytest.mark.parametrize("name", MIXTURES)
@torch.no_grad()
def test_transformers_reads_int8_experts(tmp_path: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("compressed_tensors")
    even = {"width": 40} if name == "Qwen3Moe" else {}  # their product of experts wants whole 16 bytes
    model = quantize(trained(name, experts=MIXTURES[name]["experts"] | even))
    save_int8(tmp_path, model)
    theirs, told = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert type(theirs).__name__ == f"{name}ForCausalLM"
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert (theirs(TOKENS).logits - dequantized(model)(TOKENS).logits).abs().max() < 1e-4


def test_a_mixture_takes_a_quarter_of_the_bytes(tmp_path: Path) -> None:
    wide = {"width": 128, "head_width": 32, "feed_forward": 256}
    experts = {"count": 8, "chosen": 2, "width": 256}
    model, folder = trained("Mixtral", **wide, experts=experts), tmp_path / "dense"
    folder.mkdir()
    huggingface.save(folder, model)
    counted = quantize_folder(folder, tmp_path / "int8")
    assert counted["bytes"] == (tmp_path / "int8" / "model.safetensors").stat().st_size
    assert 0.25 < counted["ratio"] <= 0.3
    form = json.loads((tmp_path / "int8" / "config.json").read_text())["quantization_config"]
    assert form["format"] == "mixed-precision" and len(form["config_groups"]) == 2


def test_damaged_experts_are_one_clear_line(tmp_path: Path) -> None:
    save_int8(tmp_path, quantize(trained("Qwen3Moe")))
    weights = tmp_path / "model.safetensors"
    tensors = load_file(weights)
    name = "model.layers.1.mlp.experts.3.down_proj.weight"

    def refused(changed: dict[str, torch.Tensor], match: str) -> None:
        save_file(changed, weights)
        with pytest.raises(ArtifactError, match=match) as caught:
            load_int8(tmp_path)
        assert "\n" not in str(caught.value)

    for part in ("packed", "scale", "shape"):
        refused({key: one for key, one in tensors.items() if key != f"{name}_{part}"}, f"{part}' is missing")
    refused({**tensors, f"{name}_packed": tensors[f"{name}_packed"][:3].clone()}, "config.json says")
    refused({**tensors, f"{name}_packed": tensors[f"{name}_packed"].float()}, "not torch.int32")
    refused({**tensors, f"{name}_shape": torch.tensor([48, 40])}, r"is \[48, 40\], config.json says")
    save_file(tensors, weights)
    load_int8(tmp_path)


@pytest.mark.parametrize("parts", [{"bias": ("query", "down")}, {"logit_cap": 0.5}])
@torch.no_grad()
def test_nothing_is_left_out_silently(parts: dict[str, Any], tmp_path: Path) -> None:
    """Biases and caps stay, in memory; the folder has no place for them and is refused."""
    model = DecoderConfig.parse({**SIZES, **parts}).build(0).eval()
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)) * 0.3)
    small = quantize(model)
    logits, wanted = small(TOKENS).logits, dequantized(small)(TOKENS).logits
    assert wanted.abs().max() > 0.3
    assert (logits - wanted).abs().max() < 1e-4
    with pytest.raises(ArtifactError, match=r"bias|logit_cap"):
        save_int8(tmp_path, small)
