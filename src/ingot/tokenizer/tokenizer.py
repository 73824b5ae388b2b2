"""The tokenizer: text to token ids and back, every byte kept.

A tokenizer *is* its merges. Ids 0 to 255 are the single bytes, in the order of `bytes.BYTE_ORDER`; merge i
makes id 256 + i; the control tokens come last. Encoding runs in tiktoken, which merges by rank. A list of
merges could ask for something else, but one that comes from a trainer cannot: all places where a token
could arise merged when it was learned, so its parts meet again in no other way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

import tiktoken

from ingot.errors import ArtifactError, ConfigError
from ingot.progress import Task
from ingot.tokenizer import files
from ingot.tokenizer.bpe import Pair, train
from ingot.tokenizer.bytes import BYTE_ORDER
from ingot.tokenizer.split import PATTERN, count_pieces

BOS = "<|endoftext|>"
START = "<|im_start|>"
END = "<|im_end|>"
PAD = "<|pad|>"
SPECIALS = (BOS, START, END, PAD)
"""Control tokens, the last ids of the vocabulary, in this order."""

FIXED = len(BYTE_ORDER) + len(SPECIALS)
"""Entries that every vocabulary has; the others are merges."""

SMALLEST_VOCABULARY = 300
"""The 256 bytes, the control tokens and a few merges: below this there is nothing to learn."""


class Tokenizer:
    """Byte-level BPE with four control tokens.

    Args:
        merges: pairs of ids; merge i makes id 256 + i.

    Attributes:
        vocab_size: ids in all, control tokens included.
        special: control token -> id.
        bos_id: id of `<|endoftext|>`, which begins every document.
        pad_id: id of `<|pad|>`.

    Raises:
        ArtifactError: the merges come from no BPE trainer.

    Example:
        >>> tokenizer = Tokenizer.train(["low lower lowest"] * 10, vocabulary=300)
        >>> tokenizer.decode(tokenizer.encode("lower"))
        'lower'
    """

    def __init__(self, merges: Sequence[Pair]) -> None:
        self.merges = list(merges)
        self._tokens = [bytes([byte]) for byte in BYTE_ORDER]
        for index, (left, right) in enumerate(self.merges):
            if not (0 <= left < 256 + index and 0 <= right < 256 + index):
                what = f"merge {index} joins ids {left} and {right}, which are not both known by then"
                raise ArtifactError(what, where="tokenizer", fix="make the tokenizer again")
            self._tokens.append(self._tokens[left] + self._tokens[right])
        ranks = {token: rank for rank, token in enumerate(self._tokens)}
        if len(ranks) != len(self._tokens):
            what = "two merges make the same token, so it comes from no BPE trainer"
            raise ArtifactError(what, where="tokenizer", fix="make the tokenizer again")
        self.special = {name: len(ranks) + index for index, name in enumerate(SPECIALS)}
        self._names = {token: name.encode() for name, token in self.special.items()}
        self.vocab_size = len(ranks) + len(SPECIALS)
        self.bos_id = self.special[BOS]
        self.pad_id = self.special[PAD]
        encoding = tiktoken.Encoding("ingot", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
        self._encode: Callable[[str], list[int]] = encoding.encode_ordinary

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int, task: Task | None = None) -> Self:
        """Learns a tokenizer from texts.

        Args:
            texts: what to learn from.
            vocabulary: ids to have in all; a small text may give fewer.
            task: is told of every merge.

        Raises:
            ConfigError: the vocabulary is smaller than 300.
        """
        if vocabulary < SMALLEST_VOCABULARY:
            fix = f"use {SMALLEST_VOCABULARY} or more"
            raise ConfigError(f"{vocabulary} entries are too few", where="tokenizer.vocabulary", fix=fix)
        return cls(train(count_pieces(texts), vocabulary - FIXED, task))

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Reads `tokenizer.json` from a folder.

        Raises:
            ArtifactError: the file is missing, damaged, or not of this kind.
        """
        return cls(files.read_merges(Path(folder), SPECIALS))

    def save(self, folder: Path | str) -> None:
        """Writes `tokenizer.json` and `tokenizer_config.json` as `transformers` reads them."""
        files.write(Path(folder), self._tokens, self.merges, self.special)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without BOS.

        The names of control tokens in it are ordinary text. A lone surrogate, which is no character, is
        read as U+FFFD.
        """
        return self._encode(text)

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Returns the text of ids; bytes that are no UTF-8 become U+FFFD.

        Args:
            ids: token ids.
            skip_special: leave control tokens out instead of writing their names.
        """
        if skip_special:
            return self.decode_bytes(ids).decode("utf-8", errors="replace")
        parts = (self._names.get(token) or self.token_bytes(token) for token in ids)
        return b"".join(parts).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Returns exactly the bytes that ids stand for; control tokens stand for none."""
        return b"".join(map(self.token_bytes, ids))

    def token_bytes(self, token: int) -> bytes:
        """Returns the bytes of one id, empty for a control token.

        Raises:
            IndexError: no such id.
        """
        if 0 <= token < len(self._tokens):
            return self._tokens[token]
        if token in self._names:
            return b""
        raise IndexError(f"token id {token} is not among the {self.vocab_size} of this tokenizer")

    def __repr__(self) -> str:
        return f"Tokenizer({self.vocab_size} entries)"
