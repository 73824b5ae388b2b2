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
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ingot.errors import ArtifactError, ConfigError, ResourceError, did_you_mean
from ingot.export.gguf_layouts import Layout, layout_of
from ingot.export.gguf_tokenizer import vocabulary
from ingot.export.source import Source, read_source
from ingot.export.whole_file import whole_file

TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")
BLOCK = 32
"""Weights that share one scale in the block formats."""

_OUTER = ("token_embd.weight", "output.weight")
_PRECISE = ("position_embd.weight", "ffn_gate_inp.weight")
"""Small matrices that decide much: places, and which expert a token goes to."""


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
    layout = _layout(source)
    stored = list(_stored(layout.weights(source.config, source.model().state_dict()), kind, folder))
    with whole_file(out) as aside:
        writer = package.GGUFWriter(aside, layout.name)
        try:
            _metadata(package, writer, source, layout, kind)
            _tokenizer(writer, source)
            _write(package, writer, stored)
        finally:
            writer.close()
    return {
        "architecture": layout.name,
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


def _layout(source: Source) -> Layout:
    found = layout_of(source.config)
    if isinstance(found, Layout):
        return found
    what = f"no architecture of llama.cpp has the parts of this model: {found}"
    raise ArtifactError(what, where=source.folder, fix="keep to the Hugging Face folder")


def _stored(weights: Iterator[tuple[str, Tensor]], kind: str, folder: Path) -> Iterator[_Stored]:
    for name, weight in weights:
        if weight.dim() < 2 or name.endswith(_PRECISE):
            yield _Stored(name, weight, "f32")
            continue
        if kind.startswith("q") and weight.shape[-1] % BLOCK:
            what = f"'{name}' has rows of {weight.shape[-1]} weights, and {kind} stores blocks of {BLOCK}"
            fix = "use --type f32, f16 or bf16, or widths that are multiples of 32"
            raise ArtifactError(what, where=folder, fix=fix)
        yield _Stored(name, weight, "q8_0" if kind == "q4_0" and name in _OUTER else kind)


def _metadata(package: Any, writer: Any, source: Source, layout: Layout, kind: str) -> None:
    config = source.config
    origin = source.origin()
    writer.add_name(origin["model"])
    writer.add_type("model")
    writer.add_file_type(package.LlamaFileType[_FILE_TYPES[kind]])
    writer.add_quantization_version(package.GGML_QUANT_VERSION)
    for key, value in origin.items():
        writer.add_string(f"ingot.{key}", value)
    add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for key, value in layout.metadata(config).items():
        add[type(value)](f"{layout.name}.{key}", value)


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
