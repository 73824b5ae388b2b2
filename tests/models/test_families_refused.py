"""Folders that must not be loaded: each is refused in one line that says what, where and what to do."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ingot.errors import ArtifactError
from ingot.models import huggingface
from ingot.models.decoder import DecoderConfig
from ingot.models.families import FAMILIES
from ingot.models.families.decoder_keys import KINDS

LLAMA = DecoderConfig(
    vocabulary=40,
    width=16,
    layers=2,
    heads=2,
    kv_heads=1,
    head_width=8,
    feed_forward=24,
    context=16,
    head_norm=None,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    huggingface.save(tmp_path, LLAMA.build())
    return tmp_path


def change_config(folder: Path, **keys: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file({name: one.contiguous() for name, one in weights.items()}, folder / "model.safetensors")


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        huggingface.load(folder)
    text = str(caught.value)
    assert "\n" not in text and caught.value.fix
    for word in words:
        assert word in text, text


def test_an_unknown_architecture_and_the_nearest_known(folder: Path) -> None:
    change_config(folder, architectures=["LlamaForCausalLMV2"])
    refused(folder, "LlamaForCausalLMV2", "did you mean 'LlamaForCausalLM'")
    change_config(folder, architectures=["Unheard"])
    refused(folder, "Unheard", "GPT2LMHeadModel", "Qwen3ForCausalLM")
    for nothing in (None, [], [7]):
        change_config(folder, architectures=nothing)
        refused(folder, "is not known")


def test_a_model_with_code_of_its_own(folder: Path) -> None:
    change_config(folder, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    refused(folder, "auto_map", "refused")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"hidden_act": "mish"}, ["'mish'", "silu"]),
        ({"rope_parameters": {"rope_type": "mrope"}}, ["'mrope'", "yarn"]),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}, ["low"]),
        ({"partial_rotary_factor": 0.5, "rope_parameters": None}, ["partial_rotary_factor 0.5"]),
        ({"num_attention_heads": 3, "head_dim": 8, "num_key_value_heads": 2}, ["heads (3)"]),
        ({"hidden_size": "wide"}, ["'wide'"]),
        ({"num_attention_heads": 0, "head_dim": None}, ["cannot be used"]),
        ({"num_hidden_layers": -1}, ["layers"]),
        ({"num_hidden_layers": 3}, ["weights are missing", "model.layers.2.input_layernorm.weight", "more"]),
        ({"intermediate_size": 25}, ["mlp.gate_proj.weight", "[24, 16]", "[25, 16]"]),
        ({"tie_word_embeddings": False, "vocab_size": 41}, ["[40, 16]", "[41, 16]"]),
    ],
)
def test_configs_that_fit_nothing(folder: Path, keys: dict[str, Any], words: list[str]) -> None:
    change_config(folder, **keys)
    refused(folder, *words)


def test_a_config_that_is_no_config(folder: Path) -> None:
    for text in ("[1, 2]", "{", "\xff"):
        (folder / "config.json").write_text(text, encoding="latin-1")
        refused(folder, "config.json")


def test_missing_spare_and_broken_weights(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.pop("model.norm.weight"))
    refused(folder, "'model.norm.weight' is missing")
    change_weights(folder, lambda weights: weights.update({"model.norm.weight": torch.ones(16)}))
    huggingface.load(folder)
    change_weights(folder, lambda weights: weights.update({"model.layers.0.extra": torch.ones(2)}))
    refused(folder, "model.layers.0.extra", "knows nothing of")
    change_weights(folder, lambda weights: weights.pop("model.layers.0.extra"))
    change_weights(folder, lambda weights: weights["lm_head.weight"][3].fill_(float("nan")))
    refused(folder, "'lm_head.weight'", "NaN")
    change_weights(folder, lambda weights: weights["lm_head.weight"].fill_(float("inf")))
    refused(folder, "infinity")
    whole = {"lm_head.weight": torch.ones(40, 16, dtype=torch.int8)}
    change_weights(folder, lambda weights: weights.update(whole))
    refused(folder, "torch.int8")


def test_pickled_weights(folder: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("it was unpickled",)

    (folder / "model.safetensors").unlink()
    refused(folder, "no such weight file")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    refused(folder, "pytorch_model.bin", "pickled", "save_pretrained")


def sharded(folder: Path, **changes: str) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    halves = {"model-1.safetensors": names[:5], "model-2.safetensors": names[5:]}
    for file, held in halves.items():
        save_file({name: weights[name] for name in held}, folder / file)
    where = {name: file for file, held in halves.items() for name in held} | changes
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


@pytest.mark.parametrize(
    "path",
    [
        "../model-1.safetensors",
        "/etc/passwd",
        "sub/model-1.safetensors",
        "..",
        "",
        "a\\b.safetensors",
        "model.bin",
    ],
)
def test_an_index_that_leads_elsewhere(folder: Path, path: str) -> None:
    sharded(folder, **{"model.norm.weight": path})
    refused(folder, repr(path), "refused")


def test_an_index_that_promises_too_much(folder: Path) -> None:
    sharded(folder)
    huggingface.load(folder)
    (folder / "model-2.safetensors").rename(folder / "model-3.safetensors")
    refused(folder, "model-2.safetensors", "no such weight file")
    (folder / "model-3.safetensors").rename(folder / "model-2.safetensors")
    index = folder / "model.safetensors.index.json"
    where = json.loads(index.read_text())
    where["weight_map"]["model.layers.7.lost"] = "model-1.safetensors"
    index.write_text(json.dumps(where))
    refused(folder, "model.layers.7.lost")
    for text in ("{}", "[]", "nothing", '{"weight_map": 3}'):
        index.write_text(text)
        refused(folder, "no index of weights")


def test_a_tokenizer_with_more_tokens_than_the_embedding_has_rows(folder: Path) -> None:
    tokenizer: dict[str, Any] = {"model": {"vocab": {"a": 0, "b": 39}}, "added_tokens": []}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    huggingface.load(folder)
    tokenizer["added_tokens"] = [{"id": 40, "content": "<end>"}]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused(folder, "token 40", "40 rows")


def test_no_format_for_parts_that_nobody_published(tmp_path: Path) -> None:
    config = LLAMA.model_copy(update={"positions": "alibi", "norm": "layer"})
    with pytest.raises(ArtifactError, match=r"norm layer.*positions alibi.*nearest, "):
        huggingface.save(tmp_path, config.build())


def test_int8_is_refused_where_weights_are_stored_otherwise() -> None:
    """`weight_names` is what the int8 format rests on: one tensor for one, and a plain head."""
    assert huggingface.weight_names(LLAMA)["head.weight"] == "lm_head.weight"
    gemma2 = {
        "norm": "rms_one",
        "arrangement": "sandwich",
        "activation": "geglu_tanh",
        "embedding_scale": 4.0,
    }
    for cap in (None, 3.0):
        config = DecoderConfig.parse(LLAMA.plain() | gemma2 | {"logit_cap": cap})
        if cap is None:
            assert len(huggingface.weight_names(config)) == 2 * 11 + 3
        else:
            with pytest.raises(ArtifactError, match="gemma2 has more than plain weights"):
                huggingface.weight_names(config)
    with pytest.raises(ArtifactError, match="qwen2 has more than plain weights"):
        huggingface.weight_names(DecoderConfig.parse(LLAMA.plain() | {"bias": ("value", "key", "query")}))


def test_families_have_names_of_their_own() -> None:
    names = [name for family in FAMILIES for name in family.ARCHITECTURES]
    assert len(set(names)) == len(names)
    assert len({family.MODEL_TYPE for family in FAMILIES}) == len(FAMILIES)
    assert set(KINDS) == {"linear", "dynamic", "yarn", "llama3", "longrope"}
