"""GGUF: every weight read back by a dequantiser of the test's own; the same tokens and ids from llama.cpp."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import SIZES, TEXT, greedy

from ingot.artifact import write_record
from ingot.compress import quantize_folder
from ingot.errors import ArtifactError, ConfigError
from ingot.export.gguf import export_gguf
from ingot.export.gguf_layouts import Layout, layout_of
from ingot.export.gguf_tokenizer import CONTROL, NORMAL, UNUSED, vocabulary
from ingot.models import huggingface
from ingot.models.decoder import DecoderConfig
from ingot.tokenizer.parts import Parts
from ingot.tokenizer.tokenizer import Tokenizer
from ingot.tokenizer.training import TokenizerConfig

gguf = pytest.importorskip("gguf")

Make = Callable[..., Path]


def field(reader: Any, name: str) -> Any:
    return reader.fields[name].contents()


def dequantised(raw: np.ndarray, kind: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The weights, and how far each may be from what was stored. Written from ggml's block layouts."""
    data = np.frombuffer(raw.tobytes(), np.uint8)
    if kind == "F32":
        return data.view(np.float32).reshape(shape), np.zeros(shape)
    if kind == "F16":
        weights = data.view(np.float16).astype(np.float32).reshape(shape)
        return weights, np.abs(weights) * 2.0**-11 + 2.0**-24
    if kind == "BF16":
        weights = (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
        return weights, np.abs(weights) * 2.0**-8
    if kind == "Q8_0":  # a float16 scale, then 32 signed bytes
        blocks = data.reshape(-1, 34)
        scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
        weights = scale * blocks[:, 2:].view(np.int8)
        return weights.reshape(shape), np.broadcast_to(0.5 * scale, weights.shape).reshape(
            shape
        ) + 0.07 * np.abs(scale).max()
    assert kind == "Q4_0"  # a float16 scale, then 16 bytes: the low halves are the first 16 weights
    blocks = data.reshape(-1, 18)
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    halves = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.float32)
    weights = scale * (halves - 8)
    return weights.reshape(shape), np.broadcast_to(1.01 * np.abs(scale), weights.shape).reshape(shape)


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0", "q4_0"])
@pytest.mark.parametrize("tied", [False, True])
def test_every_weight_comes_back_within_the_bound_of_its_format(
    made: Make, tmp_path: Path, kind: str, tied: bool
) -> None:
    folder, out = made(tied=tied), tmp_path / "m.gguf"
    told = export_gguf(folder, out, kind)
    model = huggingface.load(folder)
    layout = layout_of(model.config)
    assert isinstance(layout, Layout) and layout.name == "qwen3"
    expected = dict(layout.weights(model.config, model.state_dict()))
    tensors = {one.name: one for one in gguf.GGUFReader(out).tensors}
    assert len(tensors) == told["tensors"] == len(expected)
    assert set(tensors) == set(expected)
    assert ("output.weight" in tensors) is not tied
    kinds = {one.tensor_type.name for one in tensors.values()}
    assert kinds == {"F32", kind.upper()} | ({"Q8_0"} if kind == "q4_0" else set())
    for its, tensor_of_ours in expected.items():
        weight = tensor_of_ours.numpy()
        tensor = tensors[its]
        assert tuple(reversed(tensor.shape.tolist())) == weight.shape
        back, bound = dequantised(tensor.data, tensor.tensor_type.name, weight.shape)
        assert (np.abs(back - weight) <= bound + 1e-7).all(), its
    assert told["bytes"] == out.stat().st_size


def test_sizes_and_tokenizer_and_origin_are_inside(made: Make, tmp_path: Path) -> None:
    folder, out = made(vocabulary=352), tmp_path / "m.gguf"
    record = write_record(folder, kind="model", name="base")
    export_gguf(folder, out, "f16")
    reader = gguf.GGUFReader(out)
    tokenizer = Tokenizer.load(folder)
    sizes = {
        "block_count": 2,
        "embedding_length": 64,
        "feed_forward_length": 96,
        "context_length": 128,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.key_length": 32,
        "attention.value_length": 32,
        "rope.freq_base": 50_000.0,
        "vocab_size": 352,
    }
    assert {key: field(reader, f"qwen3.{key}") for key in sizes} == sizes
    assert field(reader, "qwen3.attention.layer_norm_rms_epsilon") == pytest.approx(1e-6)
    names, kinds = (field(reader, f"tokenizer.ggml.{key}") for key in ("tokens", "token_type"))
    assert names[:320] == [tokenizer.token(token) for token in range(320)]
    assert len(set(names)) == 352
    assert kinds == [NORMAL] * 316 + [CONTROL] * 4 + [UNUSED] * 32
    assert len(field(reader, "tokenizer.ggml.merges")) == len(tokenizer.merges) > 0
    assert field(reader, "tokenizer.ggml.model") == "gpt2"
    assert field(reader, "tokenizer.ggml.pre") == "qwen2"
    assert field(reader, "tokenizer.ggml.eos_token_id") == tokenizer.eos_id
    assert field(reader, "tokenizer.ggml.bos_token_id") == tokenizer.bos_id
    assert field(reader, "tokenizer.ggml.add_bos_token") is False
    assert field(reader, "tokenizer.chat_template") == tokenizer.parts.chat_template
    assert field(reader, "ingot.model") == "base@1"
    assert field(reader, "ingot.fingerprint") == record.fingerprint
    assert field(reader, "ingot.weights_sha256") == record.files["model.safetensors"]


def test_what_llama_cpp_cannot_do_is_refused_and_leaves_nothing(made: Make, tmp_path: Path) -> None:
    folder = made(feed_forward=80)
    out = tmp_path / "out" / "m.gguf"
    with pytest.raises(ArtifactError, match=r"ffn_down.*rows of 80 .*q8_0 stores blocks of 32"):
        export_gguf(folder, out, "q8_0")
    with pytest.raises(ConfigError, match="unknown type 'q8'") as wrong:
        export_gguf(folder, out, "q8")
    assert "q8_0" in str(wrong.value)
    quantize_folder(folder, tmp_path / "int8")
    with pytest.raises(ArtifactError, match="quantized"):
        export_gguf(tmp_path / "int8", out)
    with pytest.raises(ArtifactError, match=r"no config\.json"):
        export_gguf(tmp_path, out)
    split = TokenizerConfig(split="[a-z]+| +")
    Tokenizer.train([TEXT], 320, config=split).save(folder)
    with pytest.raises(ArtifactError, match="has no split"):
        export_gguf(folder, out)
    assert not list(tmp_path.glob("out/*"))
    out.parent.mkdir(exist_ok=True)
    out.write_text("mine")
    with pytest.raises(ArtifactError, match="exists already"):
        export_gguf(made("other@1"), out)
    assert out.read_text() == "mine"


def test_a_tokenizer_of_another_kind_or_too_large_is_refused(made: Make, tmp_path: Path) -> None:
    folder = made(vocabulary=310)
    with pytest.raises(ArtifactError, match="token 319, and the embedding 310 rows"):
        export_gguf(folder, tmp_path / "m.gguf")
    unigram = Tokenizer.train([TEXT] * 3, 300, config=TokenizerConfig(kind="unigram"))
    with pytest.raises(ArtifactError, match="no byte-level BPE"):
        vocabulary(unigram.parts, 400)


def test_the_split_goes_by_the_name_that_llama_cpp_has_for_it() -> None:
    from ingot.tokenizer.split import PATTERNS

    named = {"qwen2": "qwen2", "gpt2": "gpt-2", "llama3": "dbrx"}
    for ours, its in named.items():
        assert vocabulary(Parts.of_merges([], PATTERNS[ours]), 260).pre == its


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "layer"},
        {"window": 16},
        {"logit_cap": 30.0},
        {"score_cap": 50.0},
        {"score_scale": 0.5},
        {"embedding_scale": 8.0},
        {"sinks": True},
        {"positions": "alibi"},
        {"arrangement": "sandwich"},
        {"rotary_share": 0.5},
        {"bias": ("up",)},
    ],
)
def test_parts_that_the_file_cannot_tell_are_not_left_out(changes: dict[str, Any]) -> None:
    config = DecoderConfig(vocabulary=320, **SIZES)
    assert isinstance(layout_of(config), Layout)
    lacking = layout_of(config.model_copy(update=changes))
    assert isinstance(lacking, str) and next(iter(changes)) in lacking


FAMILIES = {
    "llama": {"head_norm": None},
    "qwen2": {"head_norm": None, "bias": ("query", "key", "value")},
    "olmo2": {"head_norm": "whole", "arrangement": "post"},
    "phi3": {"head_norm": None, "rotary_share": 0.5},
    "gpt2": {
        "head_norm": None,
        "norm": "layer_bias",
        "positions": "learned",
        "activation": "gelu_tanh",
        "bias": ("query", "key", "value", "output", "up", "down"),
    },
    "gemma2": {
        "tied": True,
        "head_norm": None,
        "norm": "rms_one",
        "activation": "geglu_tanh",
        "arrangement": "sandwich",
        "embedding_scale": 8.0,
        "window": 16,
        "local_layers": (0,),
        "score_cap": 50.0,
        "logit_cap": 30.0,
    },
}


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_has_the_weights_that_llama_cpp_looks_for(name: str) -> None:
    model = DecoderConfig(vocabulary=320, **SIZES, **FAMILIES[name]).build(0)
    layout = layout_of(model.config)
    assert isinstance(layout, Layout) and layout.name == name
    written = dict(layout.weights(model.config, model.state_dict()))
    architecture = next(key for key, known in gguf.constants.MODEL_ARCH_NAMES.items() if known == name)
    known = {gguf.constants.TENSOR_NAMES[one] for one in gguf.constants.MODEL_TENSORS[architecture]}
    names = {re.sub(r"blk\.\d+", "blk.{bid}", name.rpartition(".")[0]) for name in written}
    assert names <= known
    # Nothing is lost on the way: as many numbers, and their squares sum to the same but for moved norms.
    own = model.parameter_count()
    assert sum(weight.numel() for weight in written.values()) == own


def test_pairs_side_by_side_turn_as_pairs_apart() -> None:
    """llama.cpp turns neighbours; scores of its weights with its rotation are ours with ours."""
    config = DecoderConfig(vocabulary=320, **SIZES, head_norm=None)
    model = config.build(0)
    layout = layout_of(config)
    assert isinstance(layout, Layout)
    written = dict(layout.weights(config, model.state_dict()))
    x = torch.randn(1, 5, config.width)
    angles = torch.outer(torch.arange(5.0), config.rope_theta ** -(torch.arange(0, 32, 2) / 32))
    cosine, sine = angles.cos()[:, None], angles.sin()[:, None]  # [t, 1, e/2]

    def neighbours(y: torch.Tensor) -> torch.Tensor:
        even, odd = y[..., 0::2], y[..., 1::2]
        return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1).flatten(-2)

    def halves(y: torch.Tensor) -> torch.Tensor:
        first, second = y.chunk(2, -1)
        return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)

    attention = model.blocks[1].attention
    ours = [halves((x @ part.weight.T).view(5, -1, 32)) for part in (attention.query, attention.key)]
    its = [neighbours((x @ written[f"blk.1.attn_{part}.weight"].T).view(5, -1, 32)) for part in "qk"]
    scores = [torch.einsum("the,she->hts", query, key.repeat_interleave(2, 1)) for query, key in (ours, its)]
    assert torch.allclose(*scores, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
def test_llama_cpp_says_the_same(made: Make, tmp_path: Path, tied: bool) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    folder = made(tied=tied)
    model, tokenizer = huggingface.load(folder), Tokenizer.load(folder)
    prompt = tokenizer.encode("def lowest(newest):")
    ours = greedy(model, prompt, 50)
    assert len(set(ours)) > 5
    for kind, bound in (("f32", 1e-4), ("q8_0", 0.5)):
        export_gguf(folder, tmp_path / f"{kind}.gguf", kind)
        # Keys and values in float32 too: by default llama.cpp keeps them in float16.
        its = llama_cpp.Llama(
            str(tmp_path / f"{kind}.gguf"), n_ctx=128, logits_all=True, verbose=False, n_threads=2, type_k=0,
            type_v=0,
        )  # fmt: skip
        its.eval(prompt + ours)
        with torch.no_grad():
            logits = model(torch.tensor([prompt + ours])).logits
        assert logits is not None
        difference = np.abs(np.array(its.scores[: len(prompt + ours)]) - logits[0].numpy()).max()
        assert difference < bound, (kind, difference)
        if kind == "f32":
            its.reset()
            said = []
            for token in its.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0):
                said.append(token)
                if len(said) == 50:
                    break
            assert said == ours
        for text in (TEXT, "  x\t\n\n 12 don't\r\n  ", "İstanbul’s 42ème “naïve” 東京 🙂"):
            assert its.tokenize(text.encode(), add_bos=False, special=False) == tokenizer.encode(text)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["gpt2", "llama3"])
def test_llama_cpp_cuts_as_we_do(made: Make, tmp_path: Path, split: str) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    folder = made()
    tokenizer = Tokenizer.train([TEXT] * 3, 320, config=TokenizerConfig(split=split))
    tokenizer.save(folder)
    assert json.loads((folder / "tokenizer.json").read_text())["pre_tokenizer"] is not None
    export_gguf(folder, tmp_path / "m.gguf", "f32")
    its = llama_cpp.Llama(str(tmp_path / "m.gguf"), vocab_only=True, verbose=False)
    for text in (TEXT, "a 123456 b12 \n\n  c", "DON'T we'll\r\n\tx  ", "東京 42ème 🙂 naïve"):
        assert its.tokenize(text.encode(), add_bos=False, special=False) == tokenizer.encode(text)
