"""One model folder and some text: how well does it predict it? What `ingot evaluate` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingot.errors import DataError
from ingot.evaluate.baselines import COMMAND, xz_bits_per_byte
from ingot.evaluate.bits_per_byte import Bits
from ingot.evaluate.measured import measure
from ingot.progress import Progress


def evaluate_folder(
    folder: Path, texts: Sequence[str], device: str = "cpu", progress: Progress | None = None
) -> dict[str, Any]:
    """Measures how well a model predicts texts, beside xz.

    Args:
        folder: a model folder.
        texts: documents that the model has not seen.
        device: where to compute.
        progress: is told how far it is.

    Returns:
        The figures of the model as in `evaluation.json`, `heldout` (documents, bytes, tokens) and `xz`.

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
    unasked = ("success", "success_interval", "parse", "parse_interval")
    return {
        "heldout": heldout(found.bits),
        "xz": {"bits_per_byte": xz_bits_per_byte(texts), "command": COMMAND},
        **{key: value for key, value in found.summary().items() if key not in unasked},
    }


def heldout(bits: Bits) -> dict[str, int]:
    """Returns what the text was: documents, bytes, tokens."""
    return {"documents": len(bits.bytes), "bytes": int(bits.bytes.sum()), "tokens": bits.tokens}
