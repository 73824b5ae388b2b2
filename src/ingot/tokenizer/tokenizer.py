"""The tokenizer: text to token ids and back.

The road of a text: added tokens are cut out, the rest is normalised, cut into pieces, and each piece goes
through the model (BPE, WordPiece or Unigram). The tokenizers that are trained here keep every byte: they
normalise nothing, ids 0 to 255 are the single bytes, in the order of `bytes.BYTE_ORDER`, merge i makes id
256 + i, and the control tokens come last. For byte-level BPE the whole road runs in tiktoken where that
gives the same ids (`fast` decides), and otherwise here.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from ingot.device import threads
from ingot.errors import ArtifactError, ConfigError, DataError
from ingot.progress import Task
from ingot.tokenizer import decoders, pretokenise
from ingot.tokenizer.bpe import Pair, train
from ingot.tokenizer.bpe_model import BPE
from ingot.tokenizer.bytes import BYTE_ORDER, named_bytes, printable
from ingot.tokenizer.fast import Fast
from ingot.tokenizer.normalise import without_surrogates
from ingot.tokenizer.parts import Parts, around
from ingot.tokenizer.specials import BOS, END, PAD, SPECIALS, START, Finder
from ingot.tokenizer.split import count_pieces

if TYPE_CHECKING:
    from ingot.tokenizer.training import TokenizerConfig

__all__ = ["BOS", "END", "FIXED", "PAD", "SMALLEST_VOCABULARY", "SPECIALS", "START", "Tokenizer"]

FIXED = len(BYTE_ORDER) + len(SPECIALS)
"""Entries that every vocabulary trained by default has; the others are merges."""

SMALLEST_VOCABULARY = 300
"""The 256 bytes, the control tokens and a few merges: below this there is nothing to learn."""

Specials = Literal["text", "parse"]
"""Whether names of control tokens in a text are text, or the tokens that they name."""

_KEPT_PIECES = 1 << 16
_LONGEST_KEPT = 64
_stray_bytes = re.compile("([\udc80-\udcff]+)")


class Tokenizer:
    """Text to ids and back.

    Args:
        made_of: the parts, or the merges of byte-level BPE (pairs of ids; merge i makes id 256 + i),
            which get the default split and the four control tokens of this package.

    Attributes:
        parts: what it is made of.
        vocab_size: ids in all, control tokens included.
        special: control token -> id.

    Raises:
        ArtifactError: the parts do not fit together, or the merges come from no BPE trainer.

    Example:
        >>> tokenizer = Tokenizer.train(["low lower lowest"] * 10, vocabulary=300)
        >>> tokenizer.decode(tokenizer.encode("lower"))
        'lower'
    """

    def __init__(self, made_of: Parts | Sequence[Pair]) -> None:
        parts = made_of if isinstance(made_of, Parts) else Parts.of_merges(made_of)
        self.parts = parts
        self._names = parts.names()
        self.vocab_size = len(self._names)
        self.special = {token.text: token.id for token in parts.added if token.special}
        self._control = frozenset(self.special.values())
        ids = {name: token for token, name in enumerate(self._names)}
        self._roles = {role: ids[name] for role, name in parts.roles.items() if name in ids}
        self._normalise, self._cut, self._untokenise, self._wrap = around(parts, ids)
        self._finder = Finder(parts.added, self._normalise)
        self.byte_level = decoders.is_byte_level(parts.decoder) and pretokenise.is_byte_level(
            parts.pretokeniser
        )
        self._fast = None
        if isinstance(parts.model, BPE) and self.byte_level:
            self._fast = Fast.of(parts.model, pretokenise.single_pattern(parts.pretokeniser))
        self._straight = self._fast is not None and self._finder.plain and not self._normalise
        self._kept = functools.lru_cache(_KEPT_PIECES)(lambda piece: tuple(parts.model.encode(piece)))

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocabulary: int,
        task: Task | None = None,
        config: TokenizerConfig | None = None,
    ) -> Self:
        """Learns a tokenizer from texts.

        Args:
            texts: what to learn from.
            vocabulary: ids to have in all; a small text may give fewer.
            task: is told of every merge.
            config: another kind of tokenizer than byte-level BPE with the default split.

        Raises:
            ConfigError: the vocabulary is smaller than 300.
        """
        if config is not None:
            from ingot.tokenizer.training import learn

            return cls(learn(texts, vocabulary, config, task))
        if vocabulary < SMALLEST_VOCABULARY:
            fix = f"use {SMALLEST_VOCABULARY} or more"
            raise ConfigError(f"{vocabulary} entries are too few", where="tokenizer.vocabulary", fix=fix)
        return cls(train(count_pieces(texts), vocabulary - FIXED, task))

    @classmethod
    def load(cls, place: Path | str) -> Self:
        """Reads a tokenizer from a folder or file, in any of the formats that `files` knows.

        Raises:
            ArtifactError: nothing there, damaged, or of a kind that is not supported.
        """
        from ingot.tokenizer import files

        return cls(files.load(Path(place)))

    def save(self, folder: Path | str) -> None:
        """Writes `tokenizer.json` and `tokenizer_config.json` as `transformers` reads them."""
        from ingot.tokenizer import hugging_face

        hugging_face.write(Path(folder), self.parts)

    @property
    def merges(self) -> list[Pair]:
        """Pairs of ids in the order in which they merge; none for models that do not merge."""
        model = self.parts.model
        return [(left, right) for left, right, _ in model.merges] if isinstance(model, BPE) else []

    def role_id(self, role: str) -> int:
        """Returns the id of the control token that plays a part.

        Args:
            role: "bos", "eos", "pad", "start", "end", "unk", "mask", "cls" or "sep".

        Raises:
            ArtifactError: no token plays it.
        """
        if role not in self._roles:
            what = f"this tokenizer has no token for '{role}'"
            raise ArtifactError(what, where=self.parts.where, fix="name one in tokenizer_config.json")
        return self._roles[role]

    @property
    def bos_id(self) -> int:
        """Id of the token that begins every document."""
        return self.role_id("bos")

    @property
    def eos_id(self) -> int:
        """Id of the token that ends an answer."""
        return self.role_id("eos")

    @property
    def pad_id(self) -> int:
        """Id of the token that fills rows."""
        return self.role_id("pad")

    @property
    def compiled(self) -> bool:
        """Whether encoding runs in compiled code, so that threads help it."""
        return self._fast is not None

    def encode(self, text: str, specials: Specials = "text") -> list[int]:
        """Returns the ids of a text, without BOS.

        A lone surrogate, which is no character, is read as U+FFFD.

        Args:
            text: any text.
            specials: "text" takes the names of control tokens in it as ordinary text, "parse" as the
                tokens. Parse only what you wrote yourself.
        """
        if self._straight and specials == "text" and self._fast:
            return self._fast.encode(text)
        return self._encoded(text, specials, None)

    def encode_batch(
        self, texts: Sequence[str], workers: int | None = None, specials: Specials = "text"
    ) -> list[list[int]]:
        """Returns the ids of many texts, on several cores where encoding is compiled.

        Args:
            texts: long ones first keep all workers busy to the end.
            workers: threads; None takes one for each core.
            specials: as in `encode`.
        """
        workers = workers or threads()
        if self._straight and specials == "text" and self._fast and workers > 1:
            return self._fast.encode_batch(texts, workers)
        return [self.encode(text, specials) for text in texts]

    def encode_bytes(self, data: bytes) -> list[int]:
        """Returns the ids of any bytes; `decode_bytes` gives them back where nothing is normalised.

        Bytes that are no UTF-8 become tokens of their own, apart from the text around them.

        Raises:
            DataError: this tokenizer has no tokens for bytes.
        """
        model = self.parts.model
        if not self.byte_level or not isinstance(model, BPE):
            fix = "use a byte-level tokenizer, or text"
            raise DataError("bytes can only be encoded by byte-level BPE", where=self.parts.where, fix=fix)
        ids: list[int] = []
        for index, part in enumerate(_stray_bytes.split(data.decode("utf-8", errors="surrogateescape"))):
            if index % 2 == 0:
                ids += self.encode(part) if part else []
                continue
            stray = part.encode("utf-8", errors="surrogateescape")
            ids += self._fast.encode_piece(stray) if self._fast else model.encode(printable(stray))
        return ids

    def sample(
        self, text: str, key: tuple[int, int | str], rate: float = 0.1, specials: Specials = "text"
    ) -> list[int]:
        """Returns ids of a text that vary from key to key, for training that shall not depend on one cut.

        BPE-dropout (Provilkov et al. 2020, arXiv 1910.13267) or subword regularisation (Kudo 2018, arXiv
        1804.10959); both decode to the same text.

        Args:
            text: any text.
            key: a seed and the id of the text, say its document and epoch; the same key gives the same ids.
            rate: the probability of passing over a merge; for Unigram the power of the probabilities that
                cuts are drawn by: 1 as the model has them, 0 all alike.
            specials: as in `encode`.
        """
        if not 0 <= rate <= 1:
            raise ConfigError(f"a rate of {rate} is no probability", where="rate", fix="use 0 to 1")
        digest = hashlib.blake2b(f"{key[0]} {key[1]}".encode(), digest_size=16).digest()
        random = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
        return self._encoded(text, specials, (rate, random))

    def pieces(self, text: str) -> list[str]:
        """Returns the pieces that the model sees of a text without added tokens, as files write them."""
        normal = self._normalise(text) if self._normalise else text
        return self._cut([normal], True) if self._cut else [normal]

    def wrap(self, ids: Sequence[int]) -> list[int]:
        """Puts the control tokens of the tokenizer's template around the ids of a text, if it has one."""
        return self._wrap(list(ids)) if self._wrap else list(ids)

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Returns the text of ids; bytes that are no UTF-8 become U+FFFD.

        Args:
            ids: token ids.
            skip_special: leave control tokens out instead of writing their names.
        """
        kept = [token for token in ids if not (skip_special and token in self._control)]
        if self.byte_level:
            parts = (self._bytes[token] or self.token(token).encode() for token in map(self._known, kept))
            return b"".join(parts).decode("utf-8", errors="replace")
        names = [self.token(token) for token in kept]
        return "".join(self._untokenise(names)) if self._untokenise else " ".join(names)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Returns exactly the bytes that ids stand for; control tokens stand for none."""
        if self.byte_level:
            return b"".join(map(self.token_bytes, ids))
        known = [token for token in ids if self._known(token) not in self._control]
        first = [self.decode(known[:1]).encode()] if known and not self._is_byte(known[0]) else []
        return b"".join([*first, *map(self.token_bytes, known[len(first) :])])

    def token(self, token: int) -> str:
        """Returns the name of one id, as files write it.

        Raises:
            IndexError: no such id.
        """
        return self._names[self._known(token)]

    def token_bytes(self, token: int) -> bytes:
        """Returns the bytes that one id adds to a text before it, empty for a control token.

        Raises:
            IndexError: no such id.
        """
        return self._bytes[self._known(token)]

    def __reduce__(self) -> tuple[type[Self], tuple[Parts]]:
        """What a worker process makes it of: the parts, without what the model has worked out."""
        return type(self), (dataclasses.replace(self.parts, model=dataclasses.replace(self.parts.model)),)  # type: ignore[type-var]

    def __repr__(self) -> str:
        return f"Tokenizer({self.vocab_size} entries)"

    @functools.cached_property
    def _bytes(self) -> list[bytes]:
        """The bytes of every token, by id."""
        if self.byte_level:
            ordinary = set(self.parts.model.vocabulary)
            return [
                b"" if token in self._control else named_bytes(name) if name in ordinary else name.encode()
                for token, name in enumerate(self._names)
            ]
        return [
            b"" if token in self._control else self._added(name) for token, name in enumerate(self._names)
        ]

    def _added(self, name: str) -> bytes:
        """What a token adds to a text before it."""
        byte = decoders.byte_of(name) if self._has_bytes else None
        if byte is not None or self._untokenise is None:
            return byte if byte is not None else f" {name}".encode()
        return "".join(self._untokenise(["x", name]))[1:].encode("utf-8", errors="replace")

    @property
    def _has_bytes(self) -> bool:
        return bool(getattr(self.parts.model, "byte_fallback", False))

    def _is_byte(self, token: int) -> bool:
        return self._has_bytes and decoders.byte_of(self._names[token]) is not None

    def _known(self, token: int) -> int:
        if 0 <= token < self.vocab_size:
            return token
        raise IndexError(f"token id {token} is not among the {self.vocab_size} of this tokenizer")

    def _encoded(
        self, text: str, specials: Specials, drawn: tuple[float, np.random.Generator] | None
    ) -> list[int]:
        """The whole road, step by step."""
        if specials not in ("text", "parse"):
            raise ConfigError(
                f"'{specials}' is no way to take them", where="specials", fix="use text or parse"
            )
        try:
            return self._steps(without_surrogates(text), specials == "parse", drawn)
        except TimeoutError:  # of a regular expression
            what = f"a pattern of this tokenizer gave up on a text of {len(text):,} characters"
            raise DataError(
                what, where=self.parts.where, fix="use a simpler pattern, or shorter texts"
            ) from None

    def _steps(self, text: str, obey: bool, drawn: tuple[float, np.random.Generator] | None) -> list[int]:
        ids: list[int] = []
        parts = self._finder.parts(text, obey)
        for part, first in zip(parts, itertools.chain([True], itertools.repeat(False)), strict=False):
            if isinstance(part, int):
                ids.append(part)
            elif self._fast and drawn is None:
                ids += self._fast.encode(part)
            else:
                for piece in self._cut([part], first) if self._cut else [part]:
                    ids += self._piece(piece, drawn)
        return ids

    def _piece(self, piece: str, drawn: tuple[float, np.random.Generator] | None) -> Sequence[int]:
        if drawn is not None:
            return self.parts.model.sample(piece, *drawn)
        model = self.parts.model
        long = len(piece) > _LONGEST_KEPT and isinstance(model, BPE)  # Unigram's ties depend on the whole
        parts = model.cut(piece) if long or self._cut is None else (piece,)
        return [
            token
            for part in parts
            for token in (self._kept(part) if len(part) <= _LONGEST_KEPT else model.encode(part))
        ]
