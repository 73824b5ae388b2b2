"""Tokenizers side by side: what each makes of the same text, and what its vocabulary costs a model.

Loss per token says nothing between tokenizers: a longer token is harder to guess. What can be compared is
how short a text becomes, how much of a model the vocabulary takes, and how evenly languages are treated;
of trained models, bits per byte at equal compute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingot.errors import ConfigError
from ingot.tokenizer.measure import Fit, Premiums, measure, parallel_costs, premiums
from ingot.tokenizer.overview import kind_of
from ingot.tokenizer.tokenizer import Tokenizer

WIDTH, LAYERS = 768, 12
"""GPT-2 small: the model whose share of embeddings is told unless another is asked for."""


@dataclass(frozen=True)
class Row:
    """One tokenizer on a text.

    Args:
        name: of the tokenizer, for people.
        kind: what it is.
        fit: what encoding gave.
        embedding_share: of a model's weights that are embeddings, 0 to 1.
        unknown: tokens that are the unknown token.
        lossless: whether decoding gave every text back.
        premiums: what languages pay, where there was parallel text.
    """

    name: str
    kind: str
    fit: Fit
    embedding_share: float
    unknown: int
    lossless: bool
    premiums: Premiums | None = None

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return {
            "name": self.name,
            "kind": self.kind,
            "vocabulary": self.fit.vocabulary,
            **plain_fit(self.fit),
            "embedding_share": self.embedding_share,
            "unknown": self.unknown,
            "lossless": self.lossless,
            "premiums": None if self.premiums is None else plain_premiums(self.premiums),
        }


def compare(
    tokenizers: Mapping[str, Tokenizer],
    texts: Sequence[str],
    *,
    width: int = WIDTH,
    layers: int = LAYERS,
    parallel: Mapping[str, Sequence[str]] | None = None,
    base: str | None = None,
) -> list[Row]:
    """Compares tokenizers on texts.

    Args:
        tokenizers: by name.
        texts: that each encodes; none of it should be text that one of them was trained on.
        width: of the model whose share of embeddings is told.
        layers: of that model.
        parallel: language -> the same sentences in it, for premiums.
        base: the language that premiums are relative to; the cheapest of each tokenizer if None.

    Example:
        >>> [row.fit.tokens for row in compare({"bytes": Tokenizer([])}, ["four"])]
        [4]
    """
    return [
        _row(name, tokenizer, texts, embedding_share(tokenizer.vocab_size, width, layers), parallel, base)
        for name, tokenizer in tokenizers.items()
    ]


def embedding_share(vocabulary: int, width: int, layers: int) -> float:
    """Returns the share of a decoder's weights that its embedding has, where input and output share it.

    A block has 12 width^2 weights: 4 of attention, 8 of the feed-forward layer (Kaplan et al. 2020, arXiv
    2001.08361, table 1).

    Args:
        vocabulary: ids in all.
        width: of the model.
        layers: blocks.

    Raises:
        ConfigError: a width or number of layers below 1.

    Example:
        >>> round(embedding_share(50257, width=768, layers=12), 3)
        0.312
    """
    if width < 1 or layers < 1:
        what = f"width {width} with {layers} layers is no model"
        raise ConfigError(what, where="comparison", fix="use 1 or more of each")
    return vocabulary / (vocabulary + 12 * layers * width)


def plain_fit(fit: Fit) -> dict[str, Any]:
    """Returns the measures of a fit as plain data."""
    return {
        "bytes": fit.bytes,
        "tokens": fit.tokens,
        "bytes_per_token": fit.bytes_per_token,
        "fertility": fit.fertility,
        "renyi_efficiency": fit.renyi_efficiency,
        "used": fit.used,
        "usage": fit.usage,
    }


def plain_premiums(found: Premiums) -> dict[str, Any]:
    """Returns premiums as plain data."""
    return {
        "base": found.base,
        "by_language": dict(found.by_language),
        "median": found.median,
        "p90": found.p90,
        "max": found.max,
        "worst_to_best": found.spread,
    }


def _row(
    name: str,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    share: float,
    parallel: Mapping[str, Sequence[str]] | None,
    base: str | None,
) -> Row:
    watched = _Watched(tokenizer)
    fit = measure(watched, texts)
    found = None if parallel is None else premiums(parallel_costs(watched, parallel), base)
    return Row(name, kind_of(tokenizer), fit, share, watched.unknown, watched.lossless, found)


class _Watched:
    """A tokenizer that is looked at while it encodes: what is unknown to it, and whether text comes back."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        unknown = tokenizer.parts.model.unknown
        self._unknown = None if unknown is None else tokenizer.parts.names().index(unknown)
        self.vocab_size = tokenizer.vocab_size
        self.unknown = 0
        self.lossless = True

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text."""
        ids = self._tokenizer.encode(text)
        if self._unknown is not None:
            self.unknown += ids.count(self._unknown)
        self.lossless = self.lossless and self._tokenizer.decode(ids) == text
        return ids
