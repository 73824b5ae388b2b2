"""Every dense decoder family against `transformers`: logits, tokens, folders in and out, published sizes."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from ingot.errors import ArtifactError
from ingot.inference.computing.native import packing as native
from ingot.inference.computing.native.runner import runner as native_runner
from ingot.inference.computing.paged_attention import TorchRunner
from ingot.inference.computing.pages import PAGE, Pages, pages_for
from ingot.inference.computing.passes import Runner, Segment, assemble
from ingot.models import huggingface
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.models.families import FAMILIES, by_parts, rules, shapes

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
NEOX = {key: value for key, value in SIZES.items() if key != "num_key_value_heads"}
GPT2 = {"vocab_size": 97, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.3, 1.6],
    "long_factor": [1.0, 2.0, 3.0, 4.0],
}
# name: (class of the configuration, settings); windows are shorter than the texts.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", GPT2),
    "gpt2 untied": ("GPT2Config", GPT2 | {"tie_word_embeddings": False, "n_inner": 40}),
    "pythia": ("GPTNeoXConfig", NEOX),
    "neox one after the other": (
        "GPTNeoXConfig",
        NEOX | {"use_parallel_residual": False, "rotary_pct": 1.0, "attention_bias": False},
    ),
    "llama": ("LlamaConfig", SIZES),
    "llama 3": ("LlamaConfig", SIZES | {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "llama with biases": ("LlamaConfig", SIZES | {"attention_bias": True, "mlp_bias": True, "head_dim": 12}),
    "smollm3": ("SmolLM3Config", SIZES | {"tie_word_embeddings": True, "pad_token_id": 0}),
    "smollm3 with windows and biases": (
        "SmolLM3Config",
        SIZES
        | {"use_sliding_window": True, "sliding_window": 7, "no_rope_layers": [1, 0, 0, 1]}
        | {"attention_bias": True, "mlp_bias": True, "pad_token_id": 0, "tie_word_embeddings": False},
    ),
    "mistral": ("MistralConfig", SIZES | {"sliding_window": 7}),
    "mistral without window": ("MistralConfig", SIZES | {"sliding_window": None}),
    "qwen2": ("Qwen2Config", SIZES | {"tie_word_embeddings": True}),
    "qwen2 with windows": (
        "Qwen2Config",
        SIZES | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2},
    ),
    "qwen3": ("Qwen3Config", SIZES | {"head_dim": 8}),
    "qwen3 yarn": ("Qwen3Config", SIZES | {"head_dim": 16, "rope_parameters": YARN}),
    "gemma2": ("Gemma2Config", SIZES | {"head_dim": 8, "query_pre_attn_scalar": 12, "sliding_window": 6}),
    "gemma3": (
        "Gemma3TextConfig",
        SIZES | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6, "sliding_window_pattern": 3},
    ),
    "olmo2": ("Olmo2Config", SIZES),
    "phi3": ("Phi3Config", SIZES | {"pad_token_id": 0, "sliding_window": 9, "partial_rotary_factor": 0.5}),
    "phi3 long": (
        "Phi3Config",
        SIZES
        | {"max_position_embeddings": 256, "original_max_position_embeddings": 8, "pad_token_id": 0}
        | {"rope_parameters": LONG},
    ),
}


def theirs(name: str, spread: float = 0.2, **more: Any) -> Any:
    """A model of theirs; no weight is zero or one, so that no part can hide."""
    kind, keys = CASES[name]
    config = getattr(transformers, kind)(**{**keys, **more}, bos_token_id=None, eos_token_id=None)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * spread)
    return model


def some_tokens(t: int = 48) -> Tensor:
    return torch.randint(0, 97, (2, t), generator=torch.Generator().manual_seed(2))


class Fed:
    """Texts that grow in our cache, all of them by one pass at a time.

    Args:
        model: that reads them.
        texts: how many.
    """

    def __init__(self, model: Decoder, texts: int) -> None:
        self.runner: Runner = TorchRunner(model)
        self.pages = Pages(texts * pages_for(model.config.context))
        self.tables = [array("i") for _ in range(texts)]
        self.stored = [0] * texts

    def read(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Adds tokens to every text; returns the logits after the last of each, [texts, v]."""
        segments = []
        for i, (new, table) in enumerate(zip(tokens, self.tables, strict=True)):
            while len(table) * PAGE < self.stored[i] + len(new):
                table.append(self.pages.take())
            segments.append(Segment(new, self.stored[i], table))
            self.stored[i] += len(new)
        return self.runner(assemble(segments), self.pages)


@torch.no_grad()
def greedy(model: Decoder, prompts: list[Tensor], new: int) -> list[list[int]]:
    """The likeliest tokens after prompts of several lengths, with our cache."""
    fed = Fed(model, len(prompts))
    made = [fed.read([prompt.tolist() for prompt in prompts]).argmax(-1)]
    for _ in range(new - 1):
        made.append(fed.read(made[-1][:, None].tolist()).argmax(-1))
    return torch.stack(made, 1).tolist()


@torch.no_grad()
def agrees(model: Any, prompt: Tensor, made: list[int]) -> bool:
    """Whether a model of theirs would have made the same tokens: each is its likeliest after those before."""
    text = torch.cat([prompt, torch.tensor(made)])
    return bool((model(text[None]).logits[0, len(prompt) - 1 : -1].argmax(-1) == text[len(prompt) :]).all())


@pytest.mark.parametrize("name", CASES)
def test_a_family_in_and_out(tmp_path: Path, name: str) -> None:
    model, tokens = theirs(name), some_tokens()
    model.save_pretrained(tmp_path / "theirs")
    ours = huggingface.load(tmp_path / "theirs")
    with torch.no_grad():
        wanted = model(tokens).logits
        assert wanted.std() > 0.3
        assert (ours(tokens).logits - wanted).abs().max() <= 1e-4
    assert ours.parameter_count() == sum(p.numel() for p in model.parameters())

    prompts = [tokens[0, :19], tokens[1, :11]]
    made = greedy(ours, prompts, 24)
    assert all(agrees(model, *pair) for pair in zip(prompts, made, strict=True))

    (tmp_path / "ours").mkdir()
    huggingface.save(tmp_path / "ours", ours)
    stored, back = (load_file(tmp_path / side / "model.safetensors") for side in ("theirs", "ours"))
    if "without window" not in name:  # which is written as the LLaMA that it is
        assert stored.keys() == back.keys()
        assert all(torch.equal(stored[key], back[key]) for key in stored)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32)
    assert type(again) is type(model) or "without window" in name
    assert all(agrees(again, *pair) for pair in zip(prompts, made, strict=True))
    assert huggingface.read_config(tmp_path / "ours")[0] == ours.config


def test_their_generate_makes_our_tokens(tmp_path: Path) -> None:
    model, prompt = theirs("gemma3"), some_tokens()[0, :19]
    model.save_pretrained(tmp_path)
    (made,) = greedy(huggingface.load(tmp_path), [prompt], 24)
    (text,) = model.generate(prompt[None], max_new_tokens=24, do_sample=False, pad_token_id=0).tolist()
    assert text[19:] == made


@pytest.mark.parametrize("name", ["smollm3", "smollm3 with windows and biases"])
@torch.no_grad()
def test_layers_without_rotation_in_every_runner(tmp_path: Path, name: str) -> None:
    """PyTorch over pages, and the compiled step where there is a compiler, one token after another."""
    model, tokens = theirs(name), some_tokens(60)[:1]
    model.save_pretrained(tmp_path)
    ours, wanted = huggingface.load(tmp_path).requires_grad_(False), model(tokens).logits[0]
    turned = huggingface.load(tmp_path)
    turned.config = turned.config.model_copy(update={"unturned_layers": ()})
    assert (turned(tokens).logits[0] - wanted).abs().max() > 0.1  # the test would see it
    assert native.unsupported(ours) is None
    for compiled in (None, native_runner(ours)):
        fed = Fed(ours, 1)
        fed.runner = compiled or fed.runner
        fed.read(tokens[:, :30].tolist())
        for place in range(30, 60):
            assert (fed.read(tokens[:, place, None].tolist())[0] - wanted[place]).abs().max() < 1e-4


@pytest.mark.parametrize("name", CASES)
def test_a_family_in_bfloat16(tmp_path: Path, name: str) -> None:
    model = theirs(name, spread=0.0).bfloat16()
    model.save_pretrained(tmp_path)
    ours = huggingface.load(tmp_path, dtype=torch.bfloat16)
    tokens = some_tokens()
    with torch.no_grad():
        assert (ours(tokens).logits.float() - model(tokens).logits.float()).abs().max() <= 2e-2


@pytest.mark.parametrize("name", ["gpt2", "llama 3", "gemma3", "phi3"])
def test_shards_are_read_as_one(tmp_path: Path, name: str) -> None:
    model = theirs(name)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    ours = huggingface.load(tmp_path)
    with torch.no_grad():
        assert (ours(some_tokens()).logits - model(some_tokens()).logits).abs().max() <= 1e-4


@pytest.mark.parametrize("name", ["gpt2", "pythia", "gemma2", "olmo2"])
def test_what_we_trained_leaves_as_it_is(tmp_path: Path, name: str) -> None:
    theirs(name).save_pretrained(tmp_path)
    ours, tokens = huggingface.load(tmp_path).train(), some_tokens()
    loss = torch.nn.functional.cross_entropy(
        ours(tokens[:, :-1]).logits.flatten(0, 1), tokens[:, 1:].flatten()
    )
    loss.backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())
    torch.optim.SGD(ours.parameters(), lr=0.1).step()
    (tmp_path / "trained").mkdir()
    huggingface.save(tmp_path / "trained", ours)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "trained", dtype=torch.float32)
    with torch.no_grad():
        assert (again(tokens).logits - ours(tokens).logits).abs().max() <= 1e-4


def test_a_bare_gpt2_as_it_lies_on_the_hub(tmp_path: Path) -> None:
    """Names without `transformer.`, and the masks that old versions stored."""
    model = theirs("gpt2")
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    bare |= {"h.0.attn.bias": torch.ones(1, 1, 64, 64), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    save_file(bare, tmp_path / "model.safetensors")
    with torch.no_grad():
        ours = huggingface.load(tmp_path)
        assert (ours(some_tokens()).logits - model(some_tokens()).logits).abs().max() <= 1e-4


def test_old_configs_of_gemma3_and_phi3_say_the_same(tmp_path: Path) -> None:
    config = huggingface.describe(DecoderConfig.parse(_gemma3()), torch.float32)
    new = _read(tmp_path, config)
    older = {key: value for key, value in config.items() if key not in ("rope_parameters", "layer_types")}
    assert _read(tmp_path, older | {"sliding_window_pattern": 3}) == new
    _, keys = CASES["phi3 long"]
    raw = {"architectures": ["Phi3ForCausalLM"], "rms_norm_eps": 1e-5, **keys}
    said = {key: value for key, value in LONG.items() if key != "rope_theta"}
    for name in ("su", "longrope"):
        older = {key: value for key, value in raw.items() if key != "rope_parameters"}
        older |= {"rope_theta": 1e4, "rope_scaling": said | {"type": name}}
        older["rope_scaling"].pop("rope_type")
        assert _read(tmp_path, older) == _read(tmp_path, raw)


def _gemma3() -> dict[str, Any]:
    return {
        **{"vocabulary": 97, "width": 32, "layers": 4, "heads": 4, "kv_heads": 2, "head_width": 8},
        **{"feed_forward": 48, "context": 64, "rope_theta": 1e6, "local_rope_theta": 1e4, "window": 6},
        **{"norm": "rms_one", "head_norm": "rms_one", "arrangement": "sandwich", "activation": "geglu_tanh"},
        **{"embedding_scale": 32**0.5, "local_layers": [0, 1, 3], "tied": True, "score_scale": 256**-0.5},
    }


def _read(folder: Path, raw: dict[str, Any]) -> DecoderConfig:
    (folder / "config.json").write_text(json.dumps(raw))
    return huggingface.read_config(folder)[0]


# ---- published sizes


@pytest.mark.parametrize("kind", ["GPT2", "GPTNeoX", "Mistral", "Gemma2", "Olmo2", "Phi3", "SmolLM3"])
def test_their_default_size_has_as_many_parameters_as_theirs(kind: str) -> None:
    config = getattr(transformers, f"{kind}Config")()
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    raw = json.loads(config.to_json_string(use_diff=False)) | {"architectures": [type(model).__name__]}
    family = next(one for one in FAMILIES if raw["architectures"][0] in one.ARCHITECTURES)
    own = shapes(family.read(raw))
    assert sum(shape.numel() for shape in own.values()) == sum(p.numel() for p in model.parameters())


# ---- the table of families

PARTS = {
    "norm": st.sampled_from(["rms", "rms_one", "layer", "layer_bias"]),
    "head_norm": st.sampled_from(["rms", "rms_one", "whole", None]),
    "positions": st.sampled_from(["rotary", "learned", "sinusoidal", "alibi", None]),
    "activation": st.sampled_from(["swiglu", "geglu", "geglu_tanh", "gelu", "gelu_tanh", "squared_relu"]),
    "arrangement": st.sampled_from(["pre", "post", "sandwich", "parallel"]),
    "bias": st.sampled_from(
        [(), ("query", "key", "value"), ("query", "key", "value", "output", "up", "down")]
    ),
    "rotary_share": st.sampled_from([1.0, 0.5]),
    "window": st.sampled_from([None, 4]),
    "local_layers": st.sampled_from([None, (0, 2)]),
    "unturned_layers": st.sampled_from([(), (1,), (0, 2)]),
    "tied": st.booleans(),
    "sinks": st.booleans(),
    "score_cap": st.sampled_from([None, 5.0]),
    "logit_cap": st.sampled_from([None, 7.0]),
    "embedding_scale": st.sampled_from([None, 2.0]),
}
LITTLE = {"vocabulary": 29, "width": 16, "layers": 3, "heads": 4, "kv_heads": 2, "head_width": 4}
LITTLE |= {"feed_forward": 24, "context": 16}


@settings(max_examples=150, deadline=None)
@given(parts=st.fixed_dictionaries({}, optional=PARTS))
def test_a_model_is_written_whole_or_refused(parts: dict[str, Any]) -> None:
    config = DecoderConfig.parse({**LITTLE, **parts})
    try:
        family, raw = by_parts(config)
    except ArtifactError:
        return
    assert family.read(raw) == config
    named = [name for rule in rules(family, config) for name in rule.ours]
    assert sorted(named) == sorted(shapes(config))


@settings(max_examples=60, deadline=None)
@given(parts=st.fixed_dictionaries({}, optional=PARTS), seed=st.integers(0, 99))
def test_all_parts_go_together(parts: dict[str, Any], seed: int) -> None:
    """Any composition runs, is causal, and says the same token by token as at once."""
    model = DecoderConfig.parse({**LITTLE, **parts}).build(seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
        tokens = torch.randint(0, 29, (2, 12), generator=generator)
        whole = model(tokens).logits
        cut = model(tokens[:, :7]).logits
        assert (whole[:, :7] - cut).abs().max() < 1e-4
        fed = Fed(model, 2)
        fed.read(tokens[:, :5].tolist())
        for place in range(5, 12):
            step = fed.read(tokens[:, place, None].tolist())
            assert (step - whole[:, place]).abs().max() < 1e-4
