"""Unigram as a model: a piece becomes the tokens whose probabilities multiply to the most.

What `unigram` encodes, with what a `tokenizer.json` says around it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ingot.tokenizer.borders import Borders
from ingot.tokenizer.bpe_model import BYTE_NAMES
from ingot.tokenizer.reading import Fields, refuse
from ingot.tokenizer.unigram import Unigram


@dataclass(frozen=True)
class UnigramModel:
    """Tokens with their log probabilities.

    Args:
        pieces: name and log probability, by id.
        unknown_id: token for characters that are none; None refuses them.
        byte_fallback: an unknown character becomes the tokens of its bytes.
        hidden: ids that no text becomes: control tokens and such.
    """

    pieces: list[tuple[str, float]]
    unknown_id: int | None = 0
    byte_fallback: bool = False
    hidden: frozenset[int] = field(default_factory=frozenset)

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Name -> id."""
        return {name: token for token, (name, _) in enumerate(self.pieces)}

    @property
    def unknown(self) -> str | None:
        """Name of the token for unknown characters."""
        return None if self.unknown_id is None else self.pieces[self.unknown_id][0]

    def encode(self, piece: str) -> list[int]:
        """Returns the likeliest ids of one piece."""
        return self.lattice.encode(piece)

    def cut(self, piece: str) -> list[str]:
        """Returns parts of a long piece that can be encoded apart."""
        return self._borders.cut(piece)

    def sample(self, piece: str, rate: float, random: np.random.Generator) -> list[int]:
        """Returns ids of one piece, drawn by the probability of each cut to the power of `rate`."""
        return self.lattice.sample(piece, random, rate)

    @cached_property
    def lattice(self) -> Unigram:
        """What encodes."""
        return Unigram(
            self.pieces, self.unknown_id, byte_fallback=self.byte_fallback, hidden=tuple(self.hidden)
        )

    @cached_property
    def _borders(self) -> Borders:
        return Borders(name for token, (name, _) in enumerate(self.pieces) if token not in self.hidden)

    def spec(self) -> dict[str, Any]:
        """What `tokenizer.json` says of it."""
        return {
            "type": "Unigram",
            "unk_id": self.unknown_id,
            "vocab": [[name, score] for name, score in self.pieces],
            "byte_fallback": self.byte_fallback,
        }


def read(fields: Fields, hidden: Collection[str] = ()) -> UnigramModel:
    """Reads the model of a `tokenizer.json`.

    Args:
        fields: the object `model`.
        hidden: names of tokens that no text becomes.

    Raises:
        ArtifactError: a piece without a name and score, twice the same one, or an unknown token that is none.
    """
    pieces: list[tuple[str, float]] = []
    for index, entry in enumerate(fields.items("vocab")):
        match entry:
            case [str(name), int() | float() as score] if math.isfinite(score):
                pieces.append((name, float(score)))
            case _:
                what = f"{str(entry)[:60]!r} is no piece with its score"
                raise refuse(what, f"{fields.at('vocab')}[{index}]")
    if not pieces or len({name for name, _ in pieces}) != len(pieces):
        raise refuse("has no pieces, or one twice", fields.at("vocab"))
    unknown = None if fields.get("unk_id") is None else fields.number("unk_id")
    if unknown is not None and unknown >= len(pieces):
        raise refuse(f"the id {unknown} belongs to no piece", fields.at("unk_id"))
    fallback = fields.flag("byte_fallback", False)
    names = {*hidden, *(BYTE_NAMES if fallback else ())}
    without = frozenset(token for token, (name, _) in enumerate(pieces) if name in names or token == unknown)
    model = UnigramModel(pieces, unknown, fallback, without)
    if fallback and not model.vocabulary.keys() >= set(BYTE_NAMES):
        raise refuse("has byte_fallback, but not the pieces <0x00> to <0xFF>", fields.at("vocab"))
    return model
