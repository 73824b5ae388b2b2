"""Adapters as PEFT writes them: logits against PEFT's own over transformers, and folders that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ingot.errors import ArtifactError, RequestError
from ingot.inference.computing.adapter_folder import read_adapter
from ingot.inference.computing.adapters import Adapters
from ingot.models import huggingface
from ingot.models.decoder import Decoder

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
QWEN3: dict[str, Any] = SIZES | {"head_dim": 8}
LATENT = {
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 12,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
ALL = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split()  # noqa: SIM905
CASES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "qwen3": ("Qwen3Config", QWEN3, ALL),
    "llama": ("LlamaConfig", SIZES, ["q_proj", "v_proj"]),
    "gemma3": ("Gemma3TextConfig", QWEN3 | {"query_pre_attn_scalar": 8, "sliding_window": 6}, ALL),
    "three in one": ("Phi3Config", SIZES | {"pad_token_id": 0}, ["qkv_proj", "o_proj", "gate_up_proj"]),
    "head by head": (
        "GPTNeoXConfig",
        {key: value for key, value in SIZES.items() if key != "num_key_value_heads"},
        ["query_key_value", "dense", "dense_h_to_4h"],
    ),
    "other order of rows": (
        "DeepseekV3Config",
        SIZES | LATENT,
        ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"],
    ),
}
TOKENS = torch.tensor([[3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46, 26, 43]])


def made(folder: Path, case: str = "qwen3", **lora: Any) -> tuple[Any, Decoder, Path]:
    """PEFT's model with random factors, our base, and the folder of the adapter."""
    kind, settings, targets = CASES[case]
    torch.manual_seed(0)
    base = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**settings)).eval()
    base.save_pretrained(folder / "base")
    ours = huggingface.load(folder / "base")
    config = peft.LoraConfig(**({"r": 4, "lora_alpha": 6, "target_modules": targets} | lora))
    theirs = peft.get_peft_model(base, config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.2)
    theirs.save_pretrained(folder / "adapter")
    return theirs, ours, folder / "adapter"


def ours_with(model: Decoder, folder: Path) -> torch.Tensor:
    adapters = Adapters(model)
    adapters.load("one", folder)
    with torch.inference_mode(), adapters.applied([adapters.number("one")], [0, TOKENS.shape[1]]):
        return model(TOKENS).logits


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_peft(tmp_path: Path, case: str) -> None:
    theirs, ours, folder = made(tmp_path, case)
    with torch.inference_mode():
        expected = theirs(TOKENS).logits
        plain = ours(TOKENS).logits
    assert (expected - plain).abs().max() > 0.02  # it changes something
    torch.testing.assert_close(ours_with(ours, folder), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "lora",
    [
        {"use_rslora": True},
        {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"v_proj": 3, "layers.1.self_attn.q_proj": 1}},
        {"layers_to_transform": [1]},
    ],
    ids=["rslora", "patterns", "one layer"],
)
def test_scales_and_ranks_of_their_own(tmp_path: Path, lora: dict[str, Any]) -> None:
    theirs, ours, folder = made(tmp_path, **lora)
    with torch.inference_mode():
        expected = theirs(TOKENS).logits
    torch.testing.assert_close(ours_with(ours, folder), expected, atol=1e-4, rtol=1e-4)


def test_an_adapter_of_our_own_modules(tmp_path: Path) -> None:
    """PEFT over our model itself: names are ours, no family's."""
    _, ours, _ = made(tmp_path)
    again = huggingface.load(tmp_path / "base")
    wrapped = peft.get_peft_model(again, peft.LoraConfig(r=3, target_modules=["query", "gate", "down"]))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.2)
    wrapped.save_pretrained(tmp_path / "own")
    with torch.inference_mode():
        expected = wrapped.base_model.model(TOKENS).logits
    torch.testing.assert_close(ours_with(ours, tmp_path / "own"), expected, atol=1e-4, rtol=1e-4)


def test_the_dense_change_is_the_merged_weight(tmp_path: Path) -> None:
    theirs, ours, folder = made(tmp_path)
    before = ours.get_submodule("blocks.1.feed_forward.up").weight.clone()
    change = read_adapter(folder, ours).changes["blocks.1.feed_forward.up"].dense()
    merged = theirs.merge_and_unload().model.layers[1].mlp.up_proj.weight
    torch.testing.assert_close(before + change, merged.detach())


def edited(folder: Path, **keys: Any) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    return folder


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"peft_type": None}, "None"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"target_parameters": ["experts.gate_up_proj"]}, "target_parameters"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
        ({"something_new": {"a": 1}}, "something_new"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"task_type": "SEQ_CLS"}, "SEQ_CLS"),
        ({"lora_alpha": "16"}, "lora_alpha"),
        ({"lora_alpha": True}, "lora_alpha"),
        ({"r": 0}, "r is 0"),
        ({"r": 5}, "rank 4"),
        ({"alpha_pattern": ["q_proj"]}, "alpha_pattern"),
        ({"alpha_pattern": {"(a+)+$": 2}}, "pattern"),
        ({"alpha_pattern": {"q_proj": float("nan")}}, "nan"),
    ],
)
def test_other_kinds_are_refused_by_name(tmp_path: Path, keys: dict[str, Any], named: str) -> None:
    _, ours, folder = made(tmp_path)
    with pytest.raises(ArtifactError, match=named):
        read_adapter(edited(folder, **keys), ours)


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    _, ours, folder = made(tmp_path)
    factors = folder / "adapter_model.safetensors"
    whole = load_file(factors)
    one = next(name for name in whole if "layers.1.self_attn.q_proj.lora_B" in name)

    def refused(changed: dict[str, torch.Tensor], match: str) -> None:
        save_file(changed, factors)
        with pytest.raises(ArtifactError, match=match):
            read_adapter(folder, ours)

    refused({}, "no factors")
    refused({name: tensor for name, tensor in whole.items() if name != one}, "belong together")
    refused(whole | {one: whole[one][:-1].clone()}, "outputs|maps")
    refused(whole | {one: whole[one] * float("nan")}, "finite")
    refused(whole | {one: whole[one].int()}, "int32")
    refused({name.replace("layers.1", "layers.7"): t for name, t in whole.items()}, r"layers\.7")
    refused({name.replace("q_proj", "query"): t for name, t in whole.items()}, "query")
    wider = {name: t.repeat(1, 2) if "q_proj.lora_A" in name else t for name, t in whole.items()}
    refused(wider, "maps 32 to 32, its change 64")
    refused({name.replace("lora_A", "lora_magnitude"): t for name, t in whole.items()}, "no factor")
    factors.write_bytes(factors.read_bytes()[:100])
    with pytest.raises(ArtifactError, match="damaged"):
        read_adapter(folder, ours)
    factors.unlink()
    with pytest.raises(ArtifactError, match="no such"):
        read_adapter(folder, ours)
    for text in ("{", "[1]", "[" * 100_000):
        (folder / "adapter_config.json").write_text(text)
        with pytest.raises(ArtifactError, match=r"JSON|keys"):
            read_adapter(folder, ours)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(ArtifactError, match=r"no adapter_config\.json"):
        read_adapter(folder, ours)


def test_heads_embeddings_and_experts_are_refused(tmp_path: Path) -> None:
    _, ours, folder = made(tmp_path / "head", target_modules=["lm_head", "q_proj"])
    with pytest.raises(ArtifactError, match="lm_head"):
        read_adapter(folder, ours)
    factors = folder / "adapter_model.safetensors"
    save_file({name: t for name, t in load_file(factors).items() if "base_layer" not in name}, factors)
    with pytest.raises(ArtifactError, match="'head'"):
        read_adapter(folder, ours)
    _, ours, folder = made(tmp_path / "embedding", target_modules=["embed_tokens"])
    with pytest.raises(ArtifactError, match="embed"):
        read_adapter(folder, ours)
    gpt2 = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    )
    gpt2.save_pretrained(tmp_path / "gpt2" / "base")
    turned = peft.get_peft_model(gpt2, peft.LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True))
    turned.save_pretrained(tmp_path / "gpt2" / "adapter")
    ours, folder = huggingface.load(tmp_path / "gpt2" / "base"), tmp_path / "gpt2" / "adapter"
    with pytest.raises(ArtifactError, match="fan_in_fan_out"):
        read_adapter(folder, ours)
    with pytest.raises(ArtifactError, match="transposed"):
        read_adapter(edited(folder, fan_in_fan_out=False), ours)


def test_another_base_is_refused(tmp_path: Path) -> None:
    """Of the same shapes: only what the named base says tells them apart."""
    _, ours, folder = made(tmp_path)
    read_adapter(edited(folder, base_model_name_or_path="nobody/has-this"), ours)
    read_adapter(edited(folder, base_model_name_or_path=str(tmp_path / "base")), ours)
    path = tmp_path / "base" / "config.json"
    raw = json.loads(path.read_text())
    raw["rope_parameters"]["rope_theta"] = 5e5
    path.write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match="rope_theta"):
        read_adapter(folder, ours)


def test_names_are_taken_once(tmp_path: Path) -> None:
    _, ours, folder = made(tmp_path)
    adapters = Adapters(ours)
    adapters.load("poet", folder)
    with pytest.raises(RequestError, match="loaded already"):
        adapters.load("poet", folder)
    with pytest.raises(RequestError, match="needs a name"):
        adapters.load("", folder)
    with pytest.raises(RequestError, match="did you mean 'poet'"):
        adapters.number("poets")
    first = adapters.number("poet")
    adapters.drop("poet")
    with pytest.raises(RequestError, match="load one first"):
        adapters.drop("poet")
    adapters.load("poet", folder)
    assert adapters.number("poet") != first  # another one, whatever it is called
    assert adapters.number(None) == -1


def test_nothing_stays_behind(tmp_path: Path) -> None:
    """Once the last is dropped the base is as it was, hooks included."""
    _, ours, folder = made(tmp_path)
    with torch.inference_mode():
        before = ours(TOKENS).logits
    adapters = Adapters(ours)
    adapters.load("a", folder)
    adapters.load("b", folder)
    adapters.drop("a")
    with torch.inference_mode():
        assert torch.equal(ours(TOKENS).logits, before)
    adapters.drop("b")
    assert not any(module._forward_hooks for module in ours.modules())
