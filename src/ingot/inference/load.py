"""Loading a model folder for use: weights cast once, tokenizer beside them."""

from __future__ import annotations

from pathlib import Path

import torch

from ingot import device as machine
from ingot.errors import ArtifactError
from ingot.models import huggingface
from ingot.models.decoder import Decoder
from ingot.tokenizer import Tokenizer


def load_model(
    folder: Path | str, device: str = "cpu", dtype: torch.dtype | None = None
) -> tuple[Decoder, Tokenizer]:
    """Loads the model and the tokenizer of a folder; `config.json` says whether it is quantized.

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
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size != config.vocabulary:
        what = f"the tokenizer has {tokenizer.vocab_size} entries, the model {config.vocabulary}"
        fix = "put the files of one model together; `ingot import` takes in one whose embedding is padded"
        raise ArtifactError(what, where=folder, fix=fix)
    if "quantization_config" in raw:
        from ingot.compress import load_int8

        model = load_int8(folder, dtype=dtype, device=device)
    else:
        model = huggingface.load(folder, dtype=dtype, device=device)
    return model.eval().requires_grad_(False), tokenizer
