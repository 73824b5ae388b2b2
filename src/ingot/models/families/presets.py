"""Sizes that were published, by name: what a well-known model is made of, without its weights.

A size is given as its `config.json` has it, so that it goes the same way as a folder. Of models whose makers
say nothing of their sizes (Claude, GPT-4, Gemini ...) nobody outside can name a number: `CLOSED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ingot.models.decoder import DecoderConfig
from ingot.models.families import by_architecture


@dataclass(frozen=True)
class Preset:
    """A published size.

    Args:
        raw: its `config.json`, as far as sizes go; of families without a folder format, a `DecoderConfig`.
        parameters: as published, tied weights counted once.
        source: of the number.
    """

    raw: Mapping[str, Any]
    parameters: int
    source: str


_GPT2 = "Radford et al. 2019, table 2; counted from the released weights"


def _gpt2(
    width: int, layers: int, heads: int, parameters: int, context: int = 1024, source: str = _GPT2
) -> Preset:
    raw = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": 50257,
        "n_positions": context,
        "n_embd": width,
        "n_layer": layers,
        "n_head": heads,
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    }
    return Preset(raw, parameters, source)


def _pythia(width: int, layers: int, heads: int, parameters: int, vocabulary: int = 50304) -> Preset:
    raw = {
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 2048,
        "rotary_pct": 0.25,
        "rotary_emb_base": 10000,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "use_parallel_residual": True,
        "attention_bias": True,
        "tie_word_embeddings": False,
    }
    return Preset(raw, parameters, "Biderman et al. 2023, arXiv 2304.01373, table 1")


def _llama(
    architecture: str,
    kind: str,
    *,
    vocabulary: int,
    width: int,
    layers: int,
    heads: int,
    feed_forward: int,
    parameters: int,
    source: str,
    kv_heads: int | None = None,
    context: int = 4096,
    epsilon: float = 1e-5,
    theta: float = 10_000.0,
    tied: bool = False,
    **more: Any,
) -> Preset:
    raw = {
        "architectures": [architecture],
        "model_type": kind,
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads or heads,
        "intermediate_size": feed_forward,
        "max_position_embeddings": context,
        "rms_norm_eps": epsilon,
        "rope_theta": theta,
        "hidden_act": "silu",
        "tie_word_embeddings": tied,
        **more,
    }
    return Preset(raw, parameters, source)


def _of_llama(*sizes: int, parameters: int, source: str, **more: Any) -> Preset:
    width, layers, heads, kv_heads, feed_forward, vocabulary = sizes
    return _llama(
        "LlamaForCausalLM",
        "llama",
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        feed_forward=feed_forward,
        vocabulary=vocabulary,
        parameters=parameters,
        source=source,
        **more,
    )


def _of_qwen3(*sizes: int, parameters: int, tied: bool = False) -> Preset:
    width, layers, heads, kv_heads, feed_forward = sizes
    return _llama(
        "Qwen3ForCausalLM",
        "qwen3",
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        feed_forward=feed_forward,
        vocabulary=151_936,
        parameters=parameters,
        source="Qwen Team 2025, arXiv 2505.09388, table 1",
        context=40_960,
        epsilon=1e-6,
        theta=1_000_000.0,
        tied=tied,
        head_dim=128,
    )


_LLAMA1 = "Touvron et al. 2023, arXiv 2302.13971, table 2"
_LLAMA2 = "Touvron et al. 2023, arXiv 2307.09288"
_LLAMA3 = "Llama Team 2024, arXiv 2407.21783, table 3"
_SMOL = "Allal et al. 2025, arXiv 2502.02737"
_GEMMA2 = "Gemma Team 2024, arXiv 2408.00118, tables 1 and 2"
_GEMMA2_PARTS: dict[str, Any] = {
    "head_dim": 256,
    "sliding_window": 4096,
    "query_pre_attn_scalar": 256,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "hidden_activation": "gelu_pytorch_tanh",
}
_DEEPSEEK_V3: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "vocab_size": 129_280,
    "hidden_size": 7168,
    "intermediate_size": 18_432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "n_shared_experts": 1,
    "n_routed_experts": 256,
    "routed_scaling_factor": 2.5,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "n_group": 8,
    "topk_group": 4,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "norm_topk_prob": True,
    "hidden_act": "silu",
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
}

PRESETS: dict[str, Preset] = {
    "gpt2": _gpt2(768, 12, 12, 124_439_808),
    "gpt2-medium": _gpt2(1024, 24, 16, 354_823_168),
    "gpt2-large": _gpt2(1280, 36, 20, 774_030_080),
    "gpt2-xl": _gpt2(1600, 48, 25, 1_557_611_200),
    "gpt3-175b": _gpt2(
        12_288, 96, 96, 174_600_000_000, 2048, "Brown et al. 2020, arXiv 2005.14165, table D.1; all dense"
    ),
    "pythia-70m": _pythia(512, 6, 8, 70_426_624),
    "pythia-160m": _pythia(768, 12, 12, 162_322_944),
    "pythia-410m": _pythia(1024, 24, 16, 405_334_016),
    "pythia-1b": _pythia(2048, 16, 8, 1_011_781_632),
    "pythia-1.4b": _pythia(2048, 24, 16, 1_414_647_808),
    "pythia-2.8b": _pythia(2560, 32, 32, 2_775_208_960),
    "pythia-6.9b": _pythia(4096, 32, 32, 6_857_302_016, 50_432),
    "pythia-12b": _pythia(5120, 36, 40, 11_846_072_320, 50_688),
    "llama-7b": _of_llama(4096, 32, 32, 32, 11_008, 32_000, parameters=6_738_415_616, source=_LLAMA1),
    "llama-13b": _of_llama(5120, 40, 40, 40, 13_824, 32_000, parameters=13_015_864_320, source=_LLAMA1),
    "llama-33b": _of_llama(6656, 60, 52, 52, 17_920, 32_000, parameters=32_528_943_616, source=_LLAMA1),
    "llama-65b": _of_llama(8192, 80, 64, 64, 22_016, 32_000, parameters=65_285_660_672, source=_LLAMA1),
    "llama-2-70b": _of_llama(8192, 80, 64, 8, 28_672, 32_000, parameters=68_976_648_192, source=_LLAMA2),
    "llama-3-8b": _of_llama(
        4096, 32, 32, 8, 14_336, 128_256,
        parameters=8_030_261_248, source=_LLAMA3, theta=500_000.0, context=8192,
    ),
    "llama-3-70b": _of_llama(
        8192, 80, 64, 8, 28_672, 128_256,
        parameters=70_553_706_496, source=_LLAMA3, theta=500_000.0, context=8192,
    ),
    "llama-3-405b": _of_llama(
        16_384, 126, 128, 8, 53_248, 128_256,
        parameters=405_853_388_800, source=_LLAMA3, theta=500_000.0, context=8192,
    ),
    "smollm2-135m": _of_llama(
        576, 30, 9, 3, 1536, 49_152,
        parameters=134_515_008, source=_SMOL, tied=True, theta=100_000.0, context=8192,
    ),
    "smollm2-360m": _of_llama(
        960, 32, 15, 5, 2560, 49_152,
        parameters=361_821_120, source=_SMOL, tied=True, theta=100_000.0, context=8192,
    ),
    "smollm2-1.7b": _of_llama(
        2048, 24, 32, 32, 8192, 49_152,
        parameters=1_711_376_384, source=_SMOL, tied=True, theta=130_000.0, context=8192,
    ),
    "smollm3-3b": _llama(
        "SmolLM3ForCausalLM", "smollm3",
        vocabulary=128_256, width=2048, layers=36, heads=16, kv_heads=4, feed_forward=11_008,
        parameters=3_075_098_624, source="Hugging Face 2025, hf.co/blog/smollm3",
        context=65_536, epsilon=1e-6, theta=5_000_000.0, tied=True,
    ),
    "mistral-7b": _llama(
        "MistralForCausalLM", "mistral",
        vocabulary=32_000, width=4096, layers=32, heads=32, kv_heads=8, feed_forward=14_336,
        parameters=7_241_732_096, source="Jiang et al. 2023, arXiv 2310.06825, table 1",
        context=8192, sliding_window=4096,
    ),
    "mixtral-8x7b": _llama(
        "MixtralForCausalLM", "mixtral",
        vocabulary=32_000, width=4096, layers=32, heads=32, kv_heads=8, feed_forward=14_336,
        parameters=46_702_792_704, source="Jiang et al. 2024, arXiv 2401.04088, table 1",
        context=32_768, theta=1_000_000.0, num_local_experts=8, num_experts_per_tok=2,
    ),
    "qwen2.5-0.5b": _llama(
        "Qwen2ForCausalLM", "qwen2",
        vocabulary=151_936, width=896, layers=24, heads=14, kv_heads=2, feed_forward=4864,
        parameters=494_032_768, source="Qwen Team 2024, arXiv 2412.15115, table 1",
        context=32_768, theta=1_000_000.0, epsilon=1e-6, tied=True, use_sliding_window=False,
    ),
    "qwen2.5-7b": _llama(
        "Qwen2ForCausalLM", "qwen2",
        vocabulary=152_064, width=3584, layers=28, heads=28, kv_heads=4, feed_forward=18_944,
        parameters=7_615_616_512, source="Qwen Team 2024, arXiv 2412.15115, table 1",
        context=131_072, theta=1_000_000.0, epsilon=1e-6, use_sliding_window=False,
    ),
    "qwen3-0.6b": _of_qwen3(1024, 28, 16, 8, 3072, parameters=596_049_920, tied=True),
    "qwen3-1.7b": _of_qwen3(2048, 28, 16, 8, 6144, parameters=1_720_574_976, tied=True),
    "qwen3-4b": _of_qwen3(2560, 36, 32, 8, 9728, parameters=4_022_468_096, tied=True),
    "qwen3-8b": _of_qwen3(4096, 36, 32, 8, 12_288, parameters=8_190_735_360),
    "qwen3-14b": _of_qwen3(5120, 40, 40, 8, 17_408, parameters=14_768_307_200),
    "qwen3-32b": _of_qwen3(5120, 64, 64, 8, 25_600, parameters=32_762_123_264),
    "qwen3-30b-a3b": _llama(
        "Qwen3MoeForCausalLM", "qwen3_moe",
        vocabulary=151_936, width=2048, layers=48, heads=32, kv_heads=4, feed_forward=6144,
        parameters=30_532_122_624, source="Qwen Team 2025, arXiv 2505.09388, table 2",
        context=40_960, theta=1_000_000.0, epsilon=1e-6, head_dim=128,
        num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768, norm_topk_prob=True,
        decoder_sparse_step=1, mlp_only_layers=[],
    ),
    "gemma-2-2b": _llama(
        "Gemma2ForCausalLM", "gemma2",
        vocabulary=256_000, width=2304, layers=26, heads=8, kv_heads=4, feed_forward=9216,
        parameters=2_614_341_888, source=_GEMMA2, context=8192, epsilon=1e-6, tied=True, **_GEMMA2_PARTS,
    ),
    "gemma-2-9b": _llama(
        "Gemma2ForCausalLM", "gemma2",
        vocabulary=256_000, width=3584, layers=42, heads=16, kv_heads=8, feed_forward=14_336,
        parameters=9_241_705_984, source=_GEMMA2, context=8192, epsilon=1e-6, tied=True, **_GEMMA2_PARTS,
    ),
    "olmo-2-7b": _llama(
        "Olmo2ForCausalLM", "olmo2",
        vocabulary=100_352, width=4096, layers=32, heads=32, feed_forward=11_008,
        parameters=7_298_617_344, source="OLMo Team 2025, arXiv 2501.00656, table 1",
        theta=500_000.0, epsilon=1e-6,
    ),
    "phi-3-mini": _llama(
        "Phi3ForCausalLM", "phi3",
        vocabulary=32_064, width=3072, layers=32, heads=32, feed_forward=8192,
        parameters=3_821_079_552, source="Microsoft 2024, arXiv 2404.14219, section 2", sliding_window=None,
    ),
    "deepseek-v3": Preset(
        _DEEPSEEK_V3, 671_026_419_200, "DeepSeek-AI 2024, arXiv 2412.19437, section 4.2; no extra head"
    ),
    "deepseek-r1": Preset(
        _DEEPSEEK_V3, 671_026_419_200, "DeepSeek-AI 2025, arXiv 2501.12948: DeepSeek-V3's architecture"
    ),
    "palm-540b": Preset(
        {
            "vocabulary": 256_000,
            "width": 18_432,
            "layers": 118,
            "heads": 48,
            "kv_heads": 1,
            "head_width": 256,
            "feed_forward": 73_728,
            "context": 2048,
            "norm": "layer",
            "head_norm": None,
            "arrangement": "parallel",
            "tied": True,
        },
        540_350_000_000,
        "Chowdhery et al. 2022, arXiv 2204.02311, table 1",
    ),
    "mpt-7b": Preset(
        {
            "vocabulary": 50_432,
            "width": 4096,
            "layers": 32,
            "heads": 32,
            "kv_heads": 32,
            "head_width": 128,
            "feed_forward": 16_384,
            "context": 2048,
            "norm": "layer",
            "norm_epsilon": 1e-5,
            "head_norm": None,
            "positions": "alibi",
            "activation": "gelu",
            "tied": True,
        },
        6_649_286_656,
        "MosaicML 2023, counted from the released weights",
    ),
}  # fmt: skip
"""By the name that people type."""

CLOSED = ("claude", "gpt-4", "gpt-4o", "gpt-5", "o1", "o3", "gemini", "grok-2", "palm-2")
"""Models whose sizes were never published: nobody outside can make one of that size."""


def config_of(name: str) -> DecoderConfig:
    """Returns the sizes and parts of a published model.

    Args:
        name: one of `PRESETS`.

    Example:
        >>> config_of("llama-3-8b").kv_heads
        8
    """
    raw = dict(PRESETS[name].raw)
    if "architectures" not in raw:
        return DecoderConfig(**raw)
    config: DecoderConfig = by_architecture(raw, name).read(raw)
    return config
