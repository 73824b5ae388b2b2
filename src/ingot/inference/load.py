"""Loading a model folder for use: weights cast once, tokenizer beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ingot import device as machine
from ingot.errors import ArtifactError
from ingot.models import huggingface
from ingot.models.decoder import Decoder
from ingot.models.encoder_decoder import EncoderDecoder
from ingot.models.kinds import DECODER, ENCODER, kind_of
from ingot.models.linear_decoder import LinearDecoder
from ingot.tokenizer import Tokenizer

Writer = Decoder | LinearDecoder | EncoderDecoder
"""A model that writes."""


def load_model(
    folder: Path | str, device: str = "cpu", dtype: torch.dtype | None = None
) -> tuple[Decoder, Tokenizer]:
    """Loads the decoder and the tokenizer of a folder; `config.json` says whether it is quantized.

    Args:
        folder: a Hugging Face folder.
        device: where to compute; 'auto' takes CUDA where there is one.
        dtype: to compute in; None takes bf16 where it is fast, else fp32.

    Returns:
        The model in evaluation mode, and its tokenizer.

    Raises:
        ArtifactError: files that are missing, damaged, or do not belong together.
    """
    folder = Path(folder)
    device = machine.resolve(device)
    dtype = dtype or machine.best_dtype(device)
    config, raw = huggingface.read_config(folder)
    tokenizer = _fitting(Tokenizer.load(folder), config.vocabulary, folder)
    if "quantization_config" in raw:
        from ingot.compress import load_int8

        model = load_int8(folder, dtype=dtype, device=device)
    else:
        model = huggingface.load(folder, dtype=dtype, device=device)
    return model.eval().requires_grad_(False), tokenizer


def load_writer(
    folder: Path | str, device: str = "cpu", dtype: torch.dtype | None = None
) -> tuple[Writer, Tokenizer]:
    """Loads the model of a folder, of any kind that writes, and its tokenizer; see `load_model`.

    Raises:
        ArtifactError: also an encoder, which does not write.
    """
    folder = Path(folder)
    kind, _ = kind_of(folder)
    if kind is DECODER:
        return load_model(folder, device, dtype)
    if kind is ENCODER:
        fix = "`ingot embed` makes vectors with it"
        raise ArtifactError("holds an encoder, which writes no text", where=folder, fix=fix)
    device = machine.resolve(device)
    tokenizer = Tokenizer.load(folder)
    model: Any = kind.door.load(folder, dtype=dtype or machine.best_dtype(device), device=device)
    _fitting(tokenizer, model.config.vocabulary, folder)
    return model.eval().requires_grad_(False), tokenizer


def _fitting(tokenizer: Tokenizer, vocabulary: int, folder: Path) -> Tokenizer:
    """The tokenizer, where it has a name for each row of the embedding."""
    if tokenizer.vocab_size != vocabulary:
        what = f"the tokenizer has {tokenizer.vocab_size} entries, the model {vocabulary}"
        fix = "put the files of one model together; `ingot import` takes in one whose embedding is padded"
        raise ArtifactError(what, where=folder, fix=fix)
    return tokenizer
