"""Byte-level BPE through tiktoken, where its ranks and our merge list say the same.

tiktoken cuts by one pattern and merges by rank, both in compiled code that lets other threads run. What
it cannot express is noticed here (see `ranks`), and encoded by our own loop instead.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import regex
import tiktoken

from ingot.errors import DataError
from ingot.tokenizer.bpe_model import BPE
from ingot.tokenizer.bytes import BYTE_ORDER, printable, unprintable
from ingot.tokenizer.normalise import without_surrogates
from ingot.tokenizer.ranks import by_rank
from ingot.tokenizer.split import Splitter

_TELLS_ENGINES_APART = regex.compile(r"\(\?(?!!|:|i:)|\\[bBAGZzhHKRXkg1-9]|[$^]|[}]\+")
"""What could match the empty text unseen, or means something else to another engine."""


_SHARE = 1 << 16
"""Characters that a thread takes at a time."""

_WORTH_OWN = 64
"""Characters for each rank and thread: to encode fewer takes less time than to make an encoder."""


class Fast:
    """An encoder in compiled code.

    Args:
        ranks: the bytes of every token that encoding can arrive at -> its rank.
        ids: token id by rank, None where both are the same.
        pattern: what cuts a text, leaving nothing over.
    """

    def __init__(self, ranks: dict[bytes, int], ids: list[int] | None, pattern: str) -> None:
        in_order = dict(sorted(ranks.items(), key=lambda item: item[1]))
        self._core = functools.partial(_core, pattern, in_order)
        core = self._core()
        self._text = core.encode_ordinary  # without a call between, which short texts feel
        self._piece = core.encode_single_piece
        self._ids = ids
        self._worth_own = _WORTH_OWN * len(ranks)
        self._crews: dict[int, _Crew] = {}

    @classmethod
    def of(cls, model: BPE, pattern: str | None) -> Fast | None:
        """Makes the encoder for a model and the pattern that cuts; None where its ids would be others."""
        cut = _for_tiktoken(pattern)
        atoms = {name: token for name, token in model.vocabulary.items() if len(name) == 1}
        whole = set(map(printable, (bytes([byte]) for byte in BYTE_ORDER)))
        if cut is None or model.prefix or model.suffix or not whole <= atoms.keys():
            return None
        order = by_rank(model.merges, [atoms[name] for name in whole])
        if order is None:
            return None
        names = {token: name for name, token in model.vocabulary.items()}
        ranked = [atoms[name] for name in whole] + order
        rising = all(first < second for first, second in itertools.pairwise(order))
        ranks = {unprintable(names[token]): token if rising else rank for rank, token in enumerate(ranked)}
        if model.whole_pieces:
            never_merged = _never_merged(model, set(ranked))
            if never_merged is None or (never_merged and not rising):
                return None
            ranks |= never_merged
        return cls(ranks, None if rising else ranked, cut)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text.

        Raises:
            DataError: the pattern gave up on the text.
        """
        return self._encoded(self._text, text)

    def _encoded(self, encode: Callable[[str], list[int]], text: str) -> list[int]:
        try:
            found = encode(text)
        except UnicodeEncodeError:
            return self._encoded(encode, without_surrogates(text))
        except Exception as error:
            raise _gave_up(error) from None
        except BaseException as error:  # a panic of the compiled code is no Exception
            if type(error).__name__ != "PanicException":
                raise
            raise _gave_up(error) from None
        return found if self._ids is None else [self._ids[rank] for rank in found]

    def encode_piece(self, piece: bytes) -> list[int]:
        """Returns the ids of bytes that are not cut any further."""
        found = self._piece(piece)
        return found if self._ids is None else [self._ids[rank] for rank in found]

    def encode_batch(self, texts: Sequence[str], workers: int) -> list[list[int]]:
        """Returns the ids of each text, encoded by threads, which take short texts by the handful.

        For much text each thread gets an encoder of its own, and keeps it: a regular expression of tiktoken
        serves the thread that used it first at once, and any other a fifth slower, by way of a lock.
        """
        if sum(map(len, texts)) < workers * self._worth_own:
            with ThreadPoolExecutor(workers) as pool:
                return self._gathered(pool.map(functools.partial(self._share, self._text), _shares(texts)))
        crew = self._crews.get(workers)
        if crew is None or crew.process != os.getpid():  # threads do not survive a fork
            crew = self._crews[workers] = _Crew(workers, self._core)
        own = crew.own
        return self._gathered(crew.pool.map(lambda share: self._share(own.encode, share), _shares(texts)))

    def _share(self, encode: Callable[[str], list[int]], texts: list[str]) -> list[list[int]]:
        return [self._encoded(encode, text) for text in texts]

    @staticmethod
    def _gathered(shares: Iterable[list[list[int]]]) -> list[list[int]]:
        return [ids for share in shares for ids in share]


class _Crew:
    """Threads that stay, each with an encoder of its own as `own.encode`."""

    def __init__(self, workers: int, core: Callable[[], Any]) -> None:
        self.process = os.getpid()
        self.own = own = threading.local()

        def equip() -> None:
            own.encode = core().encode_ordinary

        self.pool = ThreadPoolExecutor(workers, "encode", equip)


def _core(pattern: str, ranks: dict[bytes, int]) -> Any:
    return tiktoken.Encoding("ingot", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})._core_bpe


def _for_tiktoken(pattern: str | None) -> str | None:
    """The pattern as it can be given to tiktoken, which drops what no match takes; None where it cannot."""
    if pattern is None:
        return None
    complete = Splitter(pattern).pattern
    return None if complete != pattern and _TELLS_ENGINES_APART.search(pattern) else complete


def _shares(texts: Sequence[str]) -> Iterator[list[str]]:
    """Neighbouring texts that are enough work for a thread to begin."""
    share: list[str] = []
    size = 0
    for text in texts:
        share.append(text)
        size += len(text)
        if size >= _SHARE:
            yield share
            share, size = [], 0
    yield share


def _never_merged(model: BPE, merged: set[int]) -> dict[bytes, int] | None:
    """Tokens that only a whole piece can be -> their ids; None where ranks would merge to one of them."""
    found = {}
    for name, token in model.vocabulary.items():
        if token in merged:
            continue
        try:
            text = unprintable(name)
        except KeyError:
            continue  # no piece is written like that
        if len(model.encode(name, lambda: False)) < 3:
            return None
        found[text] = token
    return found


def _gave_up(error: BaseException) -> DataError:
    what = f"the split pattern gave up on a text ({str(error)[:200]})"
    return DataError(what, where="tokenizer", fix="use a simpler pattern, or shorter texts")
