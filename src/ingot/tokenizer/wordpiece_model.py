"""WordPiece as a model: a word becomes the longest tokens that it begins with, one after the other.

What `wordpiece` encodes, with what a `tokenizer.json` says around it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ingot.tokenizer.reading import Fields, refuse
from ingot.tokenizer.wordpiece import WordPiece


@dataclass(frozen=True)
class WordPieceModel:
    """A vocabulary of words and their continuations.

    Args:
        vocabulary: name -> id; the name of a token inside a word begins with `prefix`.
        unknown: token for a word that cannot be made of tokens.
        prefix: marks a continuation.
        longest: characters that a word may have before it counts as unknown.
    """

    vocabulary: dict[str, int]
    unknown: str = "[UNK]"
    prefix: str = "##"
    longest: int = 100

    def encode(self, piece: str) -> list[int]:
        """Returns the ids of one word."""
        ids = self._ids
        return [ids[place] for place in self._words.encode_word(piece)]

    def cut(self, piece: str) -> list[str]:
        """Returns the word: it is encoded as a whole."""
        return [piece]

    def sample(self, piece: str, rate: float, random: np.random.Generator) -> list[int]:
        """Returns the only ids there are: WordPiece does not choose."""
        return self.encode(piece)

    def spec(self) -> dict[str, Any]:
        """What `tokenizer.json` says of it."""
        return {
            "type": "WordPiece",
            "unk_token": self.unknown,
            "continuing_subword_prefix": self.prefix,
            "max_input_chars_per_word": self.longest,
            "vocab": dict(sorted(self.vocabulary.items(), key=lambda item: item[1])),
        }

    @cached_property
    def _words(self) -> WordPiece:
        return WordPiece(list(self.vocabulary), self.unknown, self.prefix, self.longest)

    @cached_property
    def _ids(self) -> list[int]:
        return list(self.vocabulary.values())


def read(fields: Fields, vocabulary: dict[str, int], control: Collection[str] = ()) -> WordPieceModel:
    """Reads the model of a `tokenizer.json`.

    Args:
        fields: the object `model`.
        vocabulary: its `vocab`, already checked.
        control: control tokens, which no word shall become.

    Raises:
        ArtifactError: the unknown token is no token.
    """
    unknown = fields.text("unk_token", "[UNK]")
    if unknown not in vocabulary:
        raise refuse(f"{unknown!r} is no token", fields.at("unk_token"))
    prefix = fields.text("continuing_subword_prefix", "##")
    ordinary = {name: token for name, token in vocabulary.items() if name not in control or name == unknown}
    return WordPieceModel(ordinary, unknown, prefix, fields.number("max_input_chars_per_word", 100))
