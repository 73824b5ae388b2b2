"""What a tokenizer is made of: a model, added tokens, and what happens to text before and after them.

The steps around the model are kept as `tokenizer.json` describes them, so that a file that was read can
be written again as it was; the modules `normalise`, `pretokenise`, `decoders` and `template` build them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np

from ingot.tokenizer import decoders, normalise, pretokenise, template
from ingot.tokenizer.bpe import Pair
from ingot.tokenizer.bpe_model import BPE
from ingot.tokenizer.chat import TEMPLATE
from ingot.tokenizer.pretokenise import byte_level
from ingot.tokenizer.reading import Fields, refuse
from ingot.tokenizer.specials import DEFAULT_ROLES, SPECIALS, Added
from ingot.tokenizer.split import PATTERN

Description = dict[str, Any]

BYTE_DECODER: Description = byte_level(None)


class Model(Protocol):
    """What turns a piece of text into ids: BPE, WordPiece or Unigram."""

    @property
    def vocabulary(self) -> dict[str, int]:
        """Name -> id of the tokens that pieces become."""

    @property
    def unknown(self) -> str | None:
        """Name of the token for what is no token, if there is one."""

    def encode(self, piece: str) -> list[int]:
        """Returns the ids of one piece."""

    def cut(self, piece: str) -> list[str]:
        """Returns parts of a long piece that can be encoded apart with the same ids."""

    def sample(self, piece: str, rate: float, random: np.random.Generator) -> list[int]:
        """Returns ids of one piece, drawn among several ways to make it of tokens."""

    def spec(self) -> Description:
        """What `tokenizer.json` says of it."""


@dataclass(frozen=True)
class Parts:
    """A tokenizer, taken apart.

    Args:
        model: pieces to ids.
        added: strings that are one token each, in the order of their file.
        normaliser: what is done to a text first.
        pretokeniser: how it is then cut into pieces.
        decoder: what is done to the names of tokens to make text of them.
        template: which control tokens stand around a text on request.
        roles: part played ("bos", "eos", "pad", "unk", ...) -> control token.
        chat_template: Jinja source that makes a text of a conversation.
        where: where it was read, for errors.
    """

    model: Model
    added: tuple[Added, ...] = ()
    normaliser: Description | None = None
    pretokeniser: Description | None = None
    decoder: Description | None = None
    template: Description | None = None
    roles: dict[str, str] = field(default_factory=dict)
    chat_template: str | None = None
    where: str = "tokenizer"

    @classmethod
    def of_merges(cls, merges: Sequence[Pair], pattern: str = PATTERN) -> Self:
        """Byte-level BPE with the four control tokens of this package.

        Args:
            merges: pairs of ids; merge i makes id 256 + i.
            pattern: cuts texts into pieces.
        """
        model = BPE.of_bytes(merges)
        added = tuple(Added(name, len(model.vocabulary) + index) for index, name in enumerate(SPECIALS))
        return cls(
            model,
            added,
            pretokeniser=byte_level(pattern),
            decoder=BYTE_DECODER,
            roles=dict(DEFAULT_ROLES),
            chat_template=TEMPLATE,
        )

    def names(self) -> list[str]:
        """The name of every token, by id.

        Raises:
            ArtifactError: two tokens have one id, a token has two, or an id belongs to none.
        """
        found = {token: name for name, token in self.model.vocabulary.items()}
        if len(found) != len(self.model.vocabulary):
            raise refuse("two tokens have the same id", self.where, "make the tokenizer again")
        for token in self.added:
            known = self.model.vocabulary.get(token.text, token.id)
            if known != token.id or found.setdefault(token.id, token.text) != token.text:
                what = f"the added token {token.text!r} and the vocabulary disagree on id {token.id}"
                raise refuse(what, self.where, "make the tokenizer again")
        missing = next((token for token in range(len(found)) if token not in found), None)
        if missing is not None:
            what = f"id {missing} belongs to no token, though the last id is {max(found)}"
            raise refuse(what, self.where, "number the tokens without gaps")
        if not found:
            raise refuse("has no tokens", self.where)
        return [found[token] for token in range(len(found))]


def around(
    parts: Parts, ids: Mapping[str, int]
) -> tuple[normalise.Normalise | None, pretokenise.Cut | None, decoders.Decode | None, template.Wrap | None]:
    """Makes the functions around the model: normaliser, cut, decoder and template.

    Args:
        parts: of the tokenizer.
        ids: of every token, by name.

    Returns:
        The four, None for those that the tokenizer does without.

    Raises:
        ArtifactError: a part that is not supported.
    """

    def fields(description: dict[str, Any], key: str) -> Fields:
        return Fields(description, f"{parts.where}: {key}")

    return (
        normalise.build(fields(parts.normaliser, "normalizer")) if parts.normaliser else None,
        pretokenise.build(fields(parts.pretokeniser, "pre_tokenizer")) if parts.pretokeniser else None,
        decoders.build(fields(parts.decoder, "decoder")) if parts.decoder else None,
        template.build(fields(parts.template, "post_processor"), ids) if parts.template else None,
    )
