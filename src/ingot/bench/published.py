"""Published families, each as a small model with random weights made by `transformers`' own classes.

Weights are far from where training starts, biases and norms included: a part that is left out, or meets the
wrong weight, shows in the logits.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from ingot.errors import ConfigError, ResourceError, did_you_mean
from ingot.tokenizer.tokenizer import Tokenizer

VOCABULARY = 320
CONTEXT = 128
_TEXT = (
    "def low(lower, lowest=12345):\n    return 'the newest and the widest', don't stop: naïve café 東京!\n"
)

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": False,
}


@dataclass(frozen=True)
class Published:
    """A family as its paper and the reference implementation have it.

    Args:
        name: as people call it.
        paper: where it is described, as a link.
        model: the class of `transformers` that computes it; its `config_class` makes the sizes.
        settings: of the small model, beside or instead of `SIZES`.
        kind: which of our models it is.
        drop: keys of `SIZES` that its configuration does not know.
    """

    name: str
    paper: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    kind: Literal["decoder", "encoder", "encoder-decoder", "linear"] = "decoder"
    drop: tuple[str, ...] = ()


def _arxiv(number: str) -> str:
    return f"https://arxiv.org/abs/{number}"


_GPT2 = {"n_embd": 64, "n_layer": 4, "n_head": 4, "n_inner": 96, "n_positions": CONTEXT}
_GPT2_DROPS = tuple(name for name in SIZES if name not in ("vocab_size", "tie_word_embeddings"))
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "norm_topk_prob": True}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_ENCODER = ("num_key_value_heads", "tie_word_embeddings")
_DEEPSEEK = {
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "n_shared_experts": 1,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}

PUBLISHED = (
    Published(
        "GPT-2",
        "https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf",
        "GPT2LMHeadModel",
        {**_GPT2, "tie_word_embeddings": True},
        drop=_GPT2_DROPS,
    ),
    Published("GPT-NeoX / Pythia", _arxiv("2204.06745"), "GPTNeoXForCausalLM", drop=("num_key_value_heads",)),
    Published("LLaMA 1", _arxiv("2302.13971"), "LlamaForCausalLM", {"num_key_value_heads": 4}),
    Published("Llama 2", _arxiv("2307.09288"), "LlamaForCausalLM"),
    Published("Llama 3", _arxiv("2407.21783"), "LlamaForCausalLM", {"rope_parameters": _LLAMA3_ROPE}),
    Published("SmolLM2", _arxiv("2502.02737"), "LlamaForCausalLM", {"tie_word_embeddings": True}),
    Published(
        "SmolLM3",
        "https://hf.co/blog/smollm3",
        "SmolLM3ForCausalLM",
        {"tie_word_embeddings": True, "pad_token_id": 0},
    ),
    Published("Mistral", _arxiv("2310.06825"), "MistralForCausalLM", {"sliding_window": 24}),
    Published("Qwen2 / 2.5", _arxiv("2407.10671"), "Qwen2ForCausalLM"),
    Published("Qwen3", _arxiv("2505.09388"), "Qwen3ForCausalLM", {"head_dim": 32}),
    Published(
        "Gemma 2",
        _arxiv("2408.00118"),
        "Gemma2ForCausalLM",
        {"head_dim": 32, "sliding_window": 24, "query_pre_attn_scalar": 32, "tie_word_embeddings": True},
    ),
    Published(
        "Gemma 3",
        _arxiv("2503.19786"),
        "Gemma3ForCausalLM",
        {
            "head_dim": 32,
            "sliding_window": 24,
            "query_pre_attn_scalar": 32,
            "tie_word_embeddings": True,
            "num_hidden_layers": 6,  # of which the last sees everything
        },
    ),
    Published("OLMo 2", _arxiv("2501.00656"), "Olmo2ForCausalLM"),
    Published(
        "Phi-3",
        _arxiv("2404.14219"),
        "Phi3ForCausalLM",
        {"pad_token_id": 0, "sliding_window": None, "partial_rotary_factor": 0.75},
    ),
    Published("Mixtral", _arxiv("2401.04088"), "MixtralForCausalLM", {"num_local_experts": 4}),
    Published("Qwen3-MoE", _arxiv("2505.09388"), "Qwen3MoeForCausalLM", {**_EXPERTS, "head_dim": 32}),
    Published("DeepSeek-V3", _arxiv("2412.19437"), "DeepseekV3ForCausalLM", _DEEPSEEK),
    Published(
        "Qwen3-Next (gated DeltaNet)",
        _arxiv("2412.06464"),
        "Qwen3NextForCausalLM",
        {
            "head_dim": 32,
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "mlp_only_layers": [0, 1, 2, 3],
        },
        kind="linear",
    ),
    Published("BERT", _arxiv("1810.04805"), "BertForMaskedLM", kind="encoder", drop=_ENCODER),
    Published(
        "RoBERTa",
        _arxiv("1907.11692"),
        "RobertaForMaskedLM",
        {"pad_token_id": 1, "type_vocab_size": 1},
        kind="encoder",
        drop=_ENCODER,
    ),
    Published(
        "ModernBERT",
        _arxiv("2412.13663"),
        "ModernBertForMaskedLM",
        {"local_attention": 16, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2},
        kind="encoder",
        drop=_ENCODER,
    ),
    *(
        Published(
            name,
            _arxiv(number),
            "T5ForConditionalGeneration",
            {
                "d_model": 64,
                "d_kv": 16,
                "d_ff": 96,
                "num_layers": 3,
                "num_heads": 4,
                "vocab_size": VOCABULARY,
                "feed_forward_proj": activation,
                "tie_word_embeddings": tied,
                "decoder_start_token_id": 0,
            },
            kind="encoder-decoder",
            drop=tuple(SIZES),
        )
        for name, number, activation, tied in (
            ("T5", "1910.10683", "relu", True),
            ("T5 v1.1", "2002.05202", "gated-gelu", False),
        )
    ),
)
"""Every family that walks in and out, in the order of their table."""


def chosen(names: list[str]) -> tuple[Published, ...]:
    """Returns families by name, spelt as loosely as people do; none means all.

    Raises:
        ConfigError: an unknown one, with the nearest known.

    Example:
        >>> [one.name for one in chosen(["qwen3", "t5"])]
        ['Qwen3', 'T5']
    """
    known = {_plain(one.name): one for one in PUBLISHED}
    for name in names:
        if _plain(name) not in known:
            nearest = did_you_mean(name, [one.name for one in PUBLISHED])
            raise ConfigError(f"unknown family '{name}'", where="bench parity", fix=nearest)
    return tuple(known[_plain(name)] for name in names) or PUBLISHED


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def reference() -> Any:
    """Returns the package `transformers`.

    Raises:
        ResourceError: it is missing.
    """
    try:
        return importlib.import_module("transformers")
    except ImportError:
        fix = "pip install 'ingot[hf]'"
        raise ResourceError("the package 'transformers' is missing", where="bench parity", fix=fix) from None


def write(one: Published, folder: Path, spread: float = 0.1, changes: Mapping[str, Any] | None = None) -> Any:
    """Makes the small model, saves it as its authors do, with a tokenizer beside it, and returns it.

    Args:
        one: the family.
        folder: to make.
        spread: standard deviation of what is added to the weights that its class begins with; half of it to
            biases and norms.
        changes: other sizes, of which those are taken that the family has.
    """
    module = getattr(reference(), one.model)
    sizes = {name: value for name, value in SIZES.items() if name not in one.drop} | dict(one.settings)
    sizes |= {name: value for name, value in (changes or {}).items() if name in sizes}
    config = module.config_class(**sizes)
    torch.manual_seed(1)
    model = module(config).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            size = spread if parameter.dim() > 1 else spread / 2
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
    model.save_pretrained(folder)
    Tokenizer.train([_TEXT] * 3, vocabulary=VOCABULARY).save(folder)
    return model
