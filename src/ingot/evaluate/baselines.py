"""What a general compressor needs for the same bytes: the number that a language model stands beside."""

from __future__ import annotations

import lzma
from collections.abc import Iterable

COMMAND = "xz -9e"


def xz_bits_per_byte(texts: Iterable[str]) -> float:
    """Compresses all texts, joined without anything between them, as `cat FILES | xz -9e` does.

    Args:
        texts: at least one that is not empty.

    Returns:
        Bits of the `.xz` file (its container counted, well under 100 bytes) per byte of text.
    """
    data = "".join(texts).encode("utf-8")
    return 8 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) / len(data)
