"""One model folder and some text: how well does it predict it? What `ingot evaluate` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ingot.errors import DataError
from ingot.evaluate.baselines import COMMAND, ngram_bits_per_byte, xz_bits_per_byte
from ingot.evaluate.bits_per_byte import Bits
from ingot.evaluate.measured import measure
from ingot.progress import Progress
from ingot.tokenizer.tokenizer import Tokenizer


def evaluate_folder(
    folder: Path,
    texts: Sequence[str],
    device: str = "cpu",
    progress: Progress | None = None,
    train: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Measures how well a model predicts texts, beside xz and an n-gram model.

    Args:
        folder: a model folder.
        texts: documents that the model has not seen.
        device: where to compute.
        progress: is told how far it is.
        train: what the model was trained on, for the n-gram model beside it; None goes without.

    Returns:
        The figures of the model as in `evaluation.json`, `heldout` (documents, bytes, tokens), `xz`, and
        `ngram` (None without training text).

    Raises:
        DataError: there is no text.
        ArtifactError: there is no such model, or it is damaged.

    Example:
        >>> evaluate_folder(Path("runs/demo/base@1"), [Path("mine.py").read_text()])["bits_per_byte"]
        1.52
    """
    texts = [text for text in texts if text]
    if not texts:
        raise DataError("there is no text to measure on", where="evaluate", fix="give a file with text in it")
    found = measure(folder, texts, device=device, progress=progress)
    ngram = None
    if train is not None:
        tokenizer = Tokenizer.load(folder)
        ngram = ngram_bits_per_byte(train, texts, tokenizer, tokenizer.vocab_size).plain()
    unasked = ("success", "success_interval", "parse", "parse_interval")
    return {
        "heldout": heldout(found.bits),
        "xz": {"bits_per_byte": xz_bits_per_byte(texts), "command": COMMAND},
        "ngram": ngram,
        **{key: value for key, value in found.summary().items() if key not in unasked},
    }


def heldout(bits: Bits) -> dict[str, int]:
    """Returns what the text was: documents, bytes, tokens."""
    return {"documents": len(bits.bytes), "bytes": int(bits.bytes.sum()), "tokens": bits.tokens}
