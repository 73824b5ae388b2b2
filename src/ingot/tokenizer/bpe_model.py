"""BPE as a model: pieces of text to ids by a merge list, on bytes or on characters.

The same class holds GPT-2's and Llama 3's (bytes written as printable characters), LLaMA's and Gemma's
(characters; those that are no token fall back to bytes) and CLIP's (an ending that marks the last
character of a word). `fast` gives the byte-level ones to tiktoken where its ranks say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from ingot.errors import ArtifactError
from ingot.tokenizer.borders import Borders
from ingot.tokenizer.bpe import Pair
from ingot.tokenizer.bytes import BYTE_ORDER, printable
from ingot.tokenizer.loop import merge
from ingot.tokenizer.ranks import Merge
from ingot.tokenizer.reading import Fields, refuse

BYTE_NAMES = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""Names of the tokens that stand for the bytes of characters that are no tokens themselves."""


@dataclass(frozen=True)
class BPE:
    """A vocabulary and a merge list.

    Args:
        vocabulary: name -> id.
        merges: ids of left part, right part and joined token, first to be merged first.
        unknown: token for a character that is none and has no bytes either; None leaves it out.
        fuse_unknown: neighbouring unknown characters become one token.
        byte_fallback: an unknown character becomes the tokens of its bytes, where there are all of them.
        whole_pieces: a piece that is a token is that token, whatever the merges say.
        prefix: begins the name of every character of a piece but the first.
        suffix: ends the name of the last character of a piece.
    """

    vocabulary: dict[str, int]
    merges: list[Merge]
    unknown: str | None = None
    fuse_unknown: bool = False
    byte_fallback: bool = False
    whole_pieces: bool = False
    prefix: str = ""
    suffix: str = ""

    @classmethod
    def of_bytes(cls, pairs: Sequence[Pair]) -> Self:
        """Makes the model that `bpe.train` learned: merge i makes id 256 + i.

        Raises:
            ArtifactError: the merges come from no BPE trainer.
        """
        names = [printable(bytes([byte])) for byte in BYTE_ORDER]
        merges: list[Merge] = []
        again = "make the tokenizer again"
        for index, (left, right) in enumerate(pairs):
            if not (0 <= left < 256 + index and 0 <= right < 256 + index):
                what = f"merge {index} joins ids {left} and {right}, which are not both known by then"
                raise ArtifactError(what, where="tokenizer", fix=again)
            merges.append((left, right, 256 + index))
            names.append(names[left] + names[right])
        vocabulary = {name: token for token, name in enumerate(names)}
        if len(vocabulary) != len(names):
            what = "two merges make the same token, so it comes from no BPE trainer"
            raise ArtifactError(what, where="tokenizer", fix=again)
        return cls(vocabulary, merges)

    def encode(self, piece: str, drop: Callable[[], bool] | None = None) -> list[int]:
        """Returns the ids of one piece.

        Args:
            piece: as the pre-tokenizer gave it.
            drop: see `loop.merge`.
        """
        if self.whole_pieces and drop is None:
            known = self.vocabulary.get(piece)
            if known is not None:
                return [known]
        return merge(self._symbols(piece), self.table, drop)

    def cut(self, piece: str) -> list[str]:
        """Returns parts of a long piece that can be encoded apart."""
        return [piece] if self._borders is None else self._borders.cut(piece)

    def sample(self, piece: str, rate: float, random: np.random.Generator) -> list[int]:
        """Returns ids of one piece by BPE-dropout: each candidate is passed over with probability `rate`."""
        return self.encode(piece, lambda: bool(random.random() < rate))

    @cached_property
    def table(self) -> Mapping[Pair, tuple[int, int]]:
        """The merge list as the loop wants it."""
        return {(left, right): (rank, token) for rank, (left, right, token) in enumerate(self.merges)}

    def spec(self) -> dict[str, Any]:
        """What `tokenizer.json` says of it."""
        names = {token: name for name, token in self.vocabulary.items()}
        return {
            "type": "BPE",
            "dropout": None,
            "unk_token": self.unknown,
            "continuing_subword_prefix": self.prefix or None,
            "end_of_word_suffix": self.suffix or None,
            "fuse_unk": self.fuse_unknown,
            "byte_fallback": self.byte_fallback,
            "ignore_merges": self.whole_pieces,
            "vocab": dict(sorted(self.vocabulary.items(), key=lambda item: item[1])),
            "merges": [[names[left], names[right]] for left, right, _ in self.merges],
        }

    @cached_property
    def _borders(self) -> Borders | None:
        """Where a piece can be cut without a loss; None where its ends or the whole of it count."""
        if self.prefix or self.suffix or self.whole_pieces:
            return None
        made = {token for _, _, token in self.merges}
        return Borders(name for name, token in self.vocabulary.items() if token in made)

    def _symbols(self, piece: str) -> list[int]:
        """The ids that merging begins with."""
        get = self.vocabulary.get
        if not (self.prefix or self.suffix):
            plain = [get(character) for character in piece]
            if None not in plain:
                return plain  # type: ignore[return-value]
        ids: list[int] = []
        unknown = get(self.unknown) if self.unknown is not None else None
        fusing = False
        last = len(piece) - 1
        for place, character in enumerate(piece):
            name = character
            if place and self.prefix:
                name = self.prefix + name
            if place == last and self.suffix:
                name += self.suffix
            token = get(name)
            if token is not None:
                ids.append(token)
                fusing = False
                continue
            if self.byte_fallback:
                encoded = [get(BYTE_NAMES[byte]) for byte in name.encode("utf-8", errors="replace")]
                whole = [byte for byte in encoded if byte is not None]
                if len(whole) == len(encoded):
                    ids += whole
                    fusing = False
                    continue
            if unknown is not None and not fusing:
                ids.append(unknown)
                fusing = self.fuse_unknown
        return ids


def read(fields: Fields, vocabulary: dict[str, int], control: Collection[str] = ()) -> BPE:
    """Reads the model of a `tokenizer.json`.

    Args:
        fields: the object `model`.
        vocabulary: its `vocab`, already checked.
        control: control tokens, which no piece of text shall become.

    Raises:
        ArtifactError: a merge of unknown tokens, or a part that is not supported.
    """
    if fields.get("dropout"):
        raise refuse("dropout in the file would make every encoding random", fields.at("dropout"))
    prefix = fields.text("continuing_subword_prefix", "")
    pairs = (pair_of(entry, f"{fields.at('merges')}[{i}]") for i, entry in enumerate(fields.items("merges")))
    merges = joined(pairs, vocabulary, prefix, fields.at("merges"))
    unknown = fields.get("unk_token") and fields.text("unk_token")
    merging = {token for merge_of in merges for token in merge_of}
    return BPE(
        {
            name: token
            for name, token in vocabulary.items()
            if name not in control or name == unknown or token in merging
        },
        merges,
        unknown=unknown,
        fuse_unknown=fields.flag("fuse_unk", False),
        byte_fallback=fields.flag("byte_fallback", False),
        whole_pieces=fields.flag("ignore_merges", False),
        prefix=prefix,
        suffix=fields.text("end_of_word_suffix", ""),
    )


def pair_of(entry: object, where: str) -> tuple[str, str]:
    """The names in one entry of a merge list: two texts, or one with a space between.

    Raises:
        ArtifactError: it is neither.
    """
    parts = entry.split(" ") if isinstance(entry, str) else entry
    match parts:
        case [str(left), str(right)]:
            return left, right
    raise refuse(f"{str(entry)[:60]!r} is no pair of tokens", where)


def joined(
    pairs: Iterable[tuple[str, str]], vocabulary: Mapping[str, int], prefix: str, where: str
) -> list[Merge]:
    """Turns named pairs into merges.

    Raises:
        ArtifactError: a pair that comes twice, or of which a part, or what it makes, is no token.
    """
    merges: list[Merge] = []
    known: set[tuple[str, str]] = set()
    for index, (left, right) in enumerate(pairs):
        whole = left + right.removeprefix(prefix)
        ids = vocabulary.get(left), vocabulary.get(right), vocabulary.get(whole)
        if None in ids:
            names = ", ".join(repr(n) for n, i in zip((left, right, whole), ids, strict=True) if i is None)
            raise refuse(f"merge {index} needs {names}, which is no token", where)
        if (left, right) in known:
            raise refuse(f"merge {index}, of {left!r} and {right!r}, comes twice", where)
        known.add((left, right))
        merges.append(ids)  # type: ignore[arg-type]
    return merges
