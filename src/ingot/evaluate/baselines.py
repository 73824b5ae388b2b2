"""What simple means need for the same bytes: the numbers that a language model stands beside.

`xz -9e` sees the held-out text alone. The n-gram model sees the training text too, in the model's own tokens,
so what is left between it and a neural model is what the network is for.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingot.errors import DataError

if TYPE_CHECKING:
    from ingot.evaluate.bits_per_byte import Encodes

COMMAND = "xz -9e"

ORDER = 4
"""Tokens of the longest n-grams."""

MEGABYTES = 4.0
"""Of training text that is counted at most: about 100 bytes of memory for each token of it."""


def xz_bits_per_byte(texts: Iterable[str]) -> float:
    """Compresses all texts, joined without anything between them, as `cat FILES | xz -9e` does.

    Args:
        texts: at least one that is not empty.

    Returns:
        Bits of the `.xz` file (its container counted, well under 100 bytes) per byte of text.
    """
    data = "".join(texts).encode("utf-8")
    return 8 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) / len(data)


class NgramBits(NamedTuple):
    """What an n-gram model needs for held-out text.

    Args:
        bits_per_byte: over all documents together.
        nats: [documents], of each.
        megabytes: of training text that it counted.
        order: tokens of its longest n-grams.
    """

    bits_per_byte: float
    nats: NDArray[np.float64]
    megabytes: float
    order: int

    @property
    def name(self) -> str:
        """What to call it beside a neural model."""
        return f"{self.order}-gram, Kneser-Ney, {self.megabytes:.1f} MB"

    def plain(self) -> dict[str, Any]:
        """Returns it as `evaluation.json` holds it."""
        return {"name": self.name, "bits_per_byte": self.bits_per_byte, "megabytes": self.megabytes}


def ngram_bits_per_byte(
    train: Iterable[str],
    heldout: Sequence[str],
    tokenizer: Encodes,
    vocabulary: int,
    *,
    order: int = ORDER,
    megabytes: float = MEGABYTES,
) -> NgramBits:
    """Measures how well n-grams with modified Kneser-Ney smoothing predict held-out text.

    Args:
        train: documents to count in, read until `megabytes` of them have been; the last one is cut.
        heldout: documents to predict, at least one that is not empty.
        tokenizer: of the neural model beside it, so that both predict the same tokens.
        vocabulary: its size.
        order: tokens of the longest n-grams.
        megabytes: of training text at most.

    Raises:
        DataError: no training text, or no held-out text.

    Source: Chen and Goodman 1999; see `models/ngram.py`.
    """
    from ingot.models import ngram_counts

    sizes = [len(text.encode("utf-8")) for text in heldout]
    if not sum(sizes):
        raise DataError("no held-out text", where="n-gram baseline", fix="give text to predict")
    documents: list[list[int]] = []
    left = whole = int(megabytes * 1e6)
    for text in train:
        data = text.encode("utf-8")[:left]
        left -= len(data)
        documents.append(tokenizer.encode(data.decode("utf-8", errors="ignore")))
        if left <= 0:
            break
    if left == whole:
        raise DataError("no training text", where="n-gram baseline", fix="give text to count in")
    model = ngram_counts.train(documents, vocabulary, tokenizer.bos_id, order)
    nats = np.array([model.nats(tokenizer.encode(text)).sum() for text in heldout])
    bits = float(nats.sum() / math.log(2) / sum(sizes))
    return NgramBits(bits, nats, (whole - left) / 1e6, order)
