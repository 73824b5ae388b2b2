"""GGUF: one file for llama.cpp and what stands on it: sizes, tokenizer and weights together.

```
header | key-value metadata | name, shape and type of each tensor | the tensors, one after another
```

llama.cpp's own converter knows only published tokenizers, by a hash of what they do to a test text, and
refuses the ones that are made here. So the file is written directly, with the `gguf` package for the
container and the block formats, and says which split of llama.cpp's the tokenizer has (`gguf_tokenizer`).

Matrices take the type that was asked for; vectors (norms) stay in float32. In `q4_0` files the embedding
and the head are `q8_0`: they decide every token, and four bits cost most there.

Source: ggml-org/ggml, docs/gguf.md; block formats: ggml-common.h.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ingot.errors import ArtifactError, ConfigError, ResourceError, did_you_mean
from ingot.export.gguf_tokenizer import vocabulary
from ingot.export.source import Source, read_source
from ingot.export.whole_file import whole_file
from ingot.models.decoder import DecoderConfig

TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")
BLOCK = 32
"""Weights that share one scale in the block formats."""

_OUTER = ("token_embd.weight", "output.weight")


@dataclass(frozen=True)
class Layout:
    """How llama.cpp names one architecture.

    Args:
        parts: the values of `DecoderConfig` that it stands for.
        outer: our weight -> its name, outside of the blocks.
        block: our weight in a block -> its name in one.
    """

    parts: dict[str, str | None]
    outer: dict[str, str]
    block: dict[str, str]

    def names(self, config: DecoderConfig) -> dict[str, str]:
        """Returns our weight -> its name, for every weight; a tied head is not stored."""
        names = {ours: its for ours, its in self.outer.items() if not (config.tied and ours == "head.weight")}
        for layer in range(config.layers):
            names |= {f"blocks.{layer}.{ours}": f"blk.{layer}.{its}" for ours, its in self.block.items()}
        return names


LAYOUTS = {
    "qwen3": Layout(
        parts={"norm": "rms", "head_norm": "rms", "positions": "rotary", "activation": "swiglu"},
        outer={
            "embedding.weight": "token_embd.weight",
            "norm.weight": "output_norm.weight",
            "head.weight": "output.weight",
        },
        block={
            "attention_norm.weight": "attn_norm.weight",
            "attention.query.weight": "attn_q.weight",
            "attention.key.weight": "attn_k.weight",
            "attention.value.weight": "attn_v.weight",
            "attention.output.weight": "attn_output.weight",
            "attention.query_norm.weight": "attn_q_norm.weight",
            "attention.key_norm.weight": "attn_k_norm.weight",
            "feed_forward_norm.weight": "ffn_norm.weight",
            "feed_forward.gate.weight": "ffn_gate.weight",
            "feed_forward.up.weight": "ffn_up.weight",
            "feed_forward.down.weight": "ffn_down.weight",
        },
    ),
}
"""llama.cpp's architectures that models of ours have the parts of."""


class _Stored(NamedTuple):
    """One tensor on its way into the file."""

    name: str
    weight: Tensor
    kind: str


def export_gguf(folder: Path, out: Path, kind: str = "f16") -> dict[str, Any]:
    """Writes a model folder as one GGUF file; it appears whole or not at all.

    Args:
        folder: a dense model folder with its tokenizer.
        out: the file to make.
        kind: how matrices are stored, one of `TYPES`.

    Returns:
        `architecture` (llama.cpp's name), `type`, `bytes` and `tensors`.

    Raises:
        ConfigError: an unknown type.
        ArtifactError: `out` exists, or the model or its tokenizer is nothing that llama.cpp runs.
        ResourceError: the package `gguf` is missing.
    """
    if kind not in TYPES:
        raise ConfigError(f"unknown type '{kind}'", where="--type", fix=did_you_mean(kind, TYPES))
    package = _package()
    source = read_source(folder)
    architecture = _architecture(source)
    names = LAYOUTS[architecture].names(source.config)
    state = source.model().state_dict()
    strange = sorted(set(state) - set(names) - ({"head.weight"} if source.config.tied else set()))
    if strange:
        what = f"llama.cpp's {architecture} has no place for the weights {', '.join(strange[:3])}"
        raise ArtifactError(what, where=folder, fix="keep to the Hugging Face folder")
    stored = list(_stored(names, state, kind, folder))
    with whole_file(out) as aside:
        writer = package.GGUFWriter(aside, architecture)
        try:
            _metadata(package, writer, source, kind)
            _tokenizer(writer, source)
            _write(package, writer, stored)
        finally:
            writer.close()
    return {
        "architecture": architecture,
        "type": kind,
        "bytes": out.stat().st_size,
        "tensors": len(stored),
    }


def _package() -> Any:
    try:
        return importlib.import_module("gguf")
    except ImportError:
        raise ResourceError(
            "the package 'gguf' is missing", where="GGUF", fix="pip install 'ingot[export]'"
        ) from None


def _architecture(source: Source) -> str:
    """The architecture that has the model's parts and no others: what it cannot say is not left out."""
    config = source.config
    others = {key: field.default for key, field in type(config).model_fields.items() if key not in _SIZES}
    for name, layout in LAYOUTS.items():
        if all(getattr(config, part) == value for part, value in (others | layout.parts).items()):
            return name
    what = f"no architecture of llama.cpp has the parts of this model; known: {', '.join(LAYOUTS)}"
    raise ArtifactError(what, where=source.folder, fix="keep to the Hugging Face folder")


def _stored(names: dict[str, str], state: dict[str, Tensor], kind: str, folder: Path) -> Iterator[_Stored]:
    for ours, its in names.items():
        weight = state[ours]
        if weight.dim() < 2:
            yield _Stored(its, weight, "f32")
            continue
        if kind.startswith("q") and weight.shape[-1] % BLOCK:
            what = f"'{ours}' has rows of {weight.shape[-1]} weights, and {kind} stores blocks of {BLOCK}"
            fix = "use --type f32, f16 or bf16, or widths that are multiples of 32"
            raise ArtifactError(what, where=folder, fix=fix)
        yield _Stored(its, weight, "q8_0" if kind == "q4_0" and its in _OUTER else kind)


def _metadata(package: Any, writer: Any, source: Source, kind: str) -> None:
    config = source.config
    origin = source.origin()
    writer.add_name(origin["model"])
    writer.add_type("model")
    writer.add_file_type(package.LlamaFileType[_FILE_TYPES[kind]])
    writer.add_quantization_version(package.GGML_QUANT_VERSION)
    for key, value in origin.items():
        writer.add_string(f"ingot.{key}", value)
    writer.add_vocab_size(config.vocabulary)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.feed_forward)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_width)


_SIZES = {
    "vocabulary",
    "width",
    "layers",
    "heads",
    "kv_heads",
    "head_width",
    "feed_forward",
    "context",
    "rope_theta",
    "norm_epsilon",
    "tied",
}
"""What `_metadata` says of a model, whatever its architecture."""

_FILE_TYPES = {
    "f32": "ALL_F32",
    "f16": "MOSTLY_F16",
    "bf16": "MOSTLY_BF16",
    "q8_0": "MOSTLY_Q8_0",
    "q4_0": "MOSTLY_Q4_0",
}


def _tokenizer(writer: Any, source: Source) -> None:
    tokenizer = source.tokenizer()
    told = vocabulary(tokenizer.parts, source.config.vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(told.pre)
    writer.add_token_list(told.names)
    writer.add_token_types(told.kinds)
    writer.add_token_merges(told.merges)
    for role, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("pad", writer.add_pad_token_id),
        ("unk", writer.add_unk_token_id),
    ):
        said = source.raw.get(f"{role}_token_id")
        if isinstance(said, int):
            add(said)
        elif role in tokenizer.parts.roles:
            add(tokenizer.role_id(role))
    writer.add_add_bos_token(told.wrapped)
    if tokenizer.parts.chat_template is not None:
        writer.add_chat_template(tokenizer.parts.chat_template)


def _write(package: Any, writer: Any, stored: list[_Stored]) -> None:
    """Writes the header, then one tensor after another: no more than one is held twice."""
    kinds = package.GGMLQuantizationType
    for one in stored:
        kind = kinds[one.kind.upper()]
        block, size = package.GGML_QUANT_SIZES[kind]
        length = one.weight.numel() // block * size
        writer.add_tensor_info(one.name, one.weight.shape, np.dtype(np.float32), length, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for one in stored:
        writer.write_tensor_data(package.quants.quantize(one.weight.float().numpy(), kinds[one.kind.upper()]))
