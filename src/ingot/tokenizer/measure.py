"""How well a tokenizer fits a text: bytes per token, and how much of the vocabulary the text uses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ingot.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Fit:
    """What encoding a text gave.

    Args:
        bytes: of the text in UTF-8.
        tokens: ids that it became, without BOS.
        used: how many different ids.
    """

    bytes: int
    tokens: int
    used: int

    @property
    def bytes_per_token(self) -> float:
        """Bytes that one token stands for, on average; 0 for no text."""
        return self.bytes / self.tokens if self.tokens else 0.0


def measure(tokenizer: Tokenizer, texts: Iterable[str]) -> Fit:
    """Encodes texts and counts.

    Example:
        >>> measure(Tokenizer([]), ["four"])
        Fit(bytes=4, tokens=4, used=4)
    """
    size = tokens = 0
    used: set[int] = set()
    for text in texts:
        ids = tokenizer.encode(text)
        size += len(text.encode("utf-8", errors="surrogatepass"))
        tokens += len(ids)
        used.update(ids)
    return Fit(size, tokens, len(used))
