"""llama.cpp's architectures: which of our models each is, what it calls the weights, what it has to be told.

A model is written as the architecture that has its parts and no others: what a file cannot say is refused,
not left out. Where llama.cpp computes with other weights than ours, `gguf_weights` rewrites them.

Source: ggml-org/llama.cpp, src/llama-model.cpp and gguf-py/gguf/constants.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ingot.export.gguf_weights import (
    ATTENTION,
    Weights,
    divisors,
    fused_all,
    fused_attention,
    latent,
    norms_from_zero,
    side_by_side,
)
from ingot.models.decoder import DecoderConfig

SIZES = {
    *("vocabulary", "width", "layers", "heads", "kv_heads", "head_width"),
    *("feed_forward", "context", "rope_theta", "norm_epsilon", "tied"),
}
"""What any file says of a model, whatever its architecture."""

_ALL_BIASES = (*ATTENTION, "output", "up", "down")
_OUTER = {
    "embedding": "token_embd",
    "positions": "position_embd",
    "norm": "output_norm",
    "head": "output",
}
_BLOCK = {
    "attention_norm": "attn_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.output": "attn_output",
    "attention.query_norm": "attn_q_norm",
    "attention.key_norm": "attn_k_norm",
    "attention_output_norm": "post_attention_norm",
    "feed_forward_norm": "ffn_norm",
    "feed_forward.gate": "ffn_gate",
    "feed_forward.up": "ffn_up",
    "feed_forward.down": "ffn_down",
    "feed_forward_output_norm": "post_ffw_norm",
    "feed_forward.router": "ffn_gate_inp",
    **{f"feed_forward.experts.{part}": f"ffn_{part}_exps" for part in ("gate", "up", "down")},
    **{f"feed_forward.shared.{part}": f"ffn_{part}_shexp" for part in ("gate", "up", "down")},
    "attention.query_down": "attn_q_a",
    "attention.query_up": "attn_q_b",
    "attention.key_value_down": "attn_kv_a_mqa",
    "attention.key_value_norm": "attn_kv_a_norm",
}

Parts = Mapping[str, Any]
"""A part -> the value it has, or a function of the configuration that says whether it fits."""


@dataclass(frozen=True)
class Layout:
    """One architecture.

    Args:
        name: llama.cpp's.
        parts: what it stands for, beyond the parts that a `DecoderConfig` has by itself.
        tells: keys of its metadata beside or instead of the usual ones.
        rewrite: our weights of one block, or outside of them, without a prefix -> those it computes with.
    """

    name: str
    parts: Parts = field(default_factory=dict)
    tells: Callable[[DecoderConfig], dict[str, Any]] = lambda config: {}
    rewrite: Callable[[Weights, DecoderConfig], Weights] = lambda weights, config: weights

    def lacks(self, config: DecoderConfig) -> list[str]:
        """Returns the parts of a model that this architecture has not."""
        others = {key: one.default for key, one in type(config).model_fields.items() if key not in SIZES}
        return [key for key, wanted in (others | dict(self.parts)).items() if not _is(config, key, wanted)]

    def metadata(self, config: DecoderConfig) -> dict[str, Any]:
        """Returns what the file says of a model, without the architecture's name before the keys."""
        epsilon = "layer_norm_rms_epsilon" if config.norm.startswith("rms") else "layer_norm_epsilon"
        told = {
            "vocab_size": config.vocabulary,
            "context_length": config.context,
            "embedding_length": config.width,
            "block_count": config.layers,
            "feed_forward_length": config.feed_forward,
            "attention.head_count": config.heads,
            "attention.head_count_kv": config.kv_heads,
            "attention.key_length": config.head_width,
            "attention.value_length": config.head_width,
            f"attention.{epsilon}": config.norm_epsilon,
        }
        if config.positions == "rotary":
            told |= {"rope.freq_base": config.rope_theta, "rope.dimension_count": config.rotary_width}
        return told | self.tells(config)

    def weights(self, config: DecoderConfig, state: Weights) -> Iterator[tuple[str, Tensor]]:
        """Yields the names and weights of the file; a tied head is not stored.

        Args:
            config: of the model.
            state: its weights.
        """
        prefixes = ["", *(f"blocks.{layer}." for layer in range(config.layers))]
        for number, prefix in enumerate(prefixes):
            own = {name[len(prefix) :]: weight for name, weight in state.items() if name.startswith(prefix)}
            if not prefix:
                own = {name: weight for name, weight in own.items() if not name.startswith("blocks.")}
                if config.tied:
                    own.pop("head.weight", None)
            for name, weight in self.rewrite(own, config).items():
                yield (f"blk.{number - 1}." if prefix else "") + _named(name), weight
        scaling = config.rope_scaling
        if scaling is not None and scaling.kind == "llama3":
            yield "rope_freqs.weight", divisors(config, scaling)


def _is(config: DecoderConfig, key: str, wanted: Any) -> bool:
    """Whether a part is what it has to be."""
    return bool(wanted(config)) if callable(wanted) else getattr(config, key) == wanted


def _named(name: str) -> str:
    """Their name of one of our weights; one that is theirs already stays."""
    module, _, kind = name.rpartition(".")
    return f"{(_OUTER | _BLOCK).get(module, module)}.{kind}"


def _own_scale(config: DecoderConfig) -> bool:
    """Scores are divided by sqrt(e), and nothing else."""
    return config.score_scale is None or math.isclose(config.score_scale, config.head_width**-0.5)


def _embedding_by_width(config: DecoderConfig) -> bool:
    return config.embedding_scale is not None and math.isclose(
        config.embedding_scale, config.width**0.5, rel_tol=1e-6
    )


def _unscaled_or(*kinds: str) -> Callable[[DecoderConfig], bool]:
    return lambda config: config.rope_scaling is None or config.rope_scaling.kind in kinds


def _no_window(config: DecoderConfig) -> bool:
    """No layer sees less than the context; llama.cpp's `llama` passes over windows."""
    return config.window is None or config.window >= config.context


def _windows_every(period: int) -> Callable[[DecoderConfig], bool]:
    """Whether all layers but each so-manieth have the window, which is how llama.cpp counts them."""
    return lambda config: all(
        config.local(layer) == bool((layer + 1) % period) for layer in range(config.layers)
    )


def _unturned_every(period: int) -> Callable[[DecoderConfig], bool]:
    """Whether each so-manieth layer leaves queries and keys unturned; llama.cpp knows no other period."""
    return lambda config: config.unturned_layers == tuple(range(period - 1, config.layers, period))


def _rope(config: DecoderConfig) -> dict[str, Any]:
    """What stretches the frequencies; those of Llama 3 are a tensor instead."""
    scaling = config.rope_scaling
    if scaling is None or scaling.kind != "linear":
        return {}
    return {"rope.scaling.type": "linear", "rope.scaling.factor": scaling.factor}


def _gemma(config: DecoderConfig) -> dict[str, Any]:
    told: dict[str, Any] = {"attention.sliding_window": config.window or config.context, **_rope(config)}
    if config.score_cap is not None:
        told["attn_logit_softcapping"] = config.score_cap
    if config.logit_cap is not None:
        told["final_logit_softcapping"] = config.logit_cap
    return told


def _experts(config: DecoderConfig) -> dict[str, Any]:
    if config.experts is None:
        return _rope(config)
    return {
        "expert_count": config.experts.count,
        "expert_used_count": config.experts.chosen,
        "expert_feed_forward_length": config.experts.width,
        **_rope(config),
    }


def _plain_experts(config: DecoderConfig) -> bool:
    """Softmax over all, weights normalised, none shared: what `llama` and `qwen3moe` compute."""
    one = config.experts
    return one is None or (
        one.scoring == "softmax"
        and one.normalised
        and one.scale == 1
        and one.groups == 1
        and one.shared is None
    )


def _deepseek(config: DecoderConfig) -> dict[str, Any]:
    sizes, experts = config.latent, config.experts
    assert sizes is not None and experts is not None and experts.shared is not None
    return {
        **_experts(config),
        "attention.head_count_kv": 1,  # all heads share the latent
        "attention.q_lora_rank": sizes.query_rank,
        "attention.kv_lora_rank": sizes.key_value_rank,
        "attention.key_length": sizes.key_value_rank + sizes.rotary_width,
        "attention.value_length": sizes.key_value_rank,
        "attention.key_length_mla": sizes.head_width,
        "attention.value_length_mla": sizes.value_width,
        "leading_dense_block_count": len(config.dense_layers),
        "expert_shared_count": experts.shared // experts.width,
        "expert_weights_scale": experts.scale,
        "expert_weights_norm": experts.normalised,
        "expert_gating_func": 1 if experts.scoring == "softmax" else 2,
        "expert_group_count": experts.groups,
        "expert_group_used_count": experts.chosen_groups,
    }


def _shared_experts(config: DecoderConfig) -> bool:
    one = config.experts
    return one is not None and one.shared is not None and one.shared % one.width == 0


_GEMMA: dict[str, Any] = {
    "norm": "rms_one",
    "activation": "geglu_tanh",
    "arrangement": "sandwich",
    "score_scale": _own_scale,
    "embedding_scale": _embedding_by_width,
    "window": lambda config: config.window is not None,
}

LAYOUTS = (
    Layout(
        "qwen3",
        {"rope_scaling": _unscaled_or("linear"), "window": _no_window, "local_layers": _no_window},
        _rope,
    ),
    Layout(
        "llama",
        {
            "head_norm": None,
            "rope_scaling": _unscaled_or("linear", "llama3"),
            "window": _no_window,
            "local_layers": _no_window,
            "experts": _plain_experts,
        },
        _experts,
        side_by_side,
    ),
    Layout(
        "smollm3",
        {
            "head_norm": None,
            "unturned_layers": _unturned_every(4),
            "rope_scaling": _unscaled_or("linear"),
            "window": _no_window,
            "local_layers": _no_window,
        },
        _rope,
        side_by_side,
    ),
    Layout(
        "qwen2",
        {
            "head_norm": None,
            "bias": lambda config: set(config.bias) == set(ATTENTION),
            "rope_scaling": _unscaled_or("linear"),
            "window": _no_window,
            "local_layers": _no_window,
        },
        _rope,
    ),
    Layout("qwen3moe", {"experts": _plain_experts}, _experts),
    Layout(
        "deepseek2",
        {
            "head_norm": None,
            "experts": _shared_experts,
            "dense_layers": lambda config: config.dense_layers == tuple(range(len(config.dense_layers))),
            "latent": lambda config: config.latent is not None and config.latent.query_rank is not None,
        },
        _deepseek,
        latent,
    ),
    Layout(
        "gemma2",
        {
            **_GEMMA,
            "tied": True,  # it has no head of its own
            "head_norm": None,
            "local_layers": _windows_every(2),
            "score_cap": lambda config: config.score_cap is not None,
            "logit_cap": lambda config: config.logit_cap is not None,
        },
        _gemma,
        norms_from_zero,
    ),
    Layout(
        "gemma3",
        {
            **_GEMMA,
            "head_norm": "rms_one",
            "local_layers": _windows_every(6),
            "local_rope_theta": 10_000.0,
            "rope_scaling": _unscaled_or("linear"),
            "logit_cap": None,
        },
        _gemma,
        norms_from_zero,
    ),
    Layout(
        "olmo2",
        {"arrangement": "post", "head_norm": "whole", "rope_scaling": _unscaled_or("linear")},
        _rope,
    ),
    Layout(
        "phi3",
        {
            "head_norm": None,
            "rotary_share": lambda config: True,
            "window": _no_window,
            "local_layers": _no_window,
        },
        lambda config: {
            "attention.sliding_window": 0,
            "rope.scaling.original_context_length": config.context,
        },
        fused_all,
    ),
    Layout(
        "gptneox",
        {
            "norm": "layer_bias",
            "head_norm": None,
            "activation": "gelu",
            "arrangement": lambda config: config.arrangement in ("pre", "parallel"),
            "bias": lambda config: set(config.bias) == set(_ALL_BIASES),
            "rotary_share": lambda config: True,
        },
        lambda config: {"use_parallel_residual": config.arrangement == "parallel"},
        fused_attention,
    ),
    Layout(
        "gpt2",
        {
            "norm": "layer_bias",
            "head_norm": None,
            "positions": "learned",
            "activation": "gelu_tanh",
            "bias": lambda config: set(config.bias) == set(_ALL_BIASES),
        },
        rewrite=fused_attention,
    ),
)
"""By which a model may be written; the first that has its parts is taken."""


def layout_of(config: DecoderConfig) -> Layout | str:
    """Returns the architecture of a model, or, where none has its parts, what the nearest lacks."""
    lacking = [(layout.lacks(config), layout) for layout in LAYOUTS]
    found = next((layout for lacks, layout in lacking if not lacks), None)
    if found is not None:
        return found
    lacks, nearest = min(lacking, key=lambda pair: len(pair[0]))
    return f"llama.cpp's {nearest.name} is the nearest and has no such {', '.join(lacks)}"
