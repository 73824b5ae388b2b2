"""Packing: whole documents side by side in rows of a fixed length, so that nothing is cut off.

```
row    | a a a a a a a | b b b b | c c |-|     every row begins where a document begins
positions 0 1 2 3 4 5 6 0 1 2 3   0 1   0      each document counts from 0
documents 0 0 0 0 0 0 0 1 1 1 1   2 2   3      and sees itself only
targets   a a a a a a E b b b E   c E   -      E: the end, which the last token of a document predicts
```

A document that is longer than a row is cut into pieces that fill rows, and a rest; each of its tokens is an
input once and a target once. Pieces are taken by descending size, and each goes to the row with the least
room that suffices (best fit decreasing). How full rows are depends on the sizes alone, so that every epoch
has equally many rows; which of equally long pieces come together is drawn anew in every epoch.

Source: Ding et al. 2024, Fewer Truncations Improve Language Modeling, arXiv 2404.10830, section 3.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ingot.data.permutation import mix, permute
from ingot.data.stream import WHOLE, Part, Span, fingerprint, salted_key
from ingot.data.tokens import Tokens
from ingot.errors import ConfigError, DataError
from ingot.objectives.objective import IGNORED

_CHUNK = 1 << 18  # pieces
_ORDERS = 2  # epochs whose order is kept: a batch may end one and begin the next


class Pieces(NamedTuple):
    """Documents, those that are longer than a row in several pieces.

    Args:
        document: [p] which one.
        number: [p] int32, which of its pieces.
        size: [p] int32, tokens.
        step: tokens from the beginning of one piece of a document to that of the next.
    """

    document: NDArray[Any]
    number: NDArray[np.int32]
    size: NDArray[np.int32]
    step: int

    def start(self, piece: int) -> int:
        """Returns where in its document a piece begins."""
        return int(self.number[piece]) * self.step


def split(lengths: NDArray[np.int64], context: int, overlap: int = 0) -> Pieces:
    """Cuts documents into pieces that fit into a row.

    Args:
        lengths: [documents] tokens of each; those without any have no piece.
        context: tokens of a row.
        overlap: tokens that a further piece of a document repeats of the one before it, to be seen and not
            learnt again.
    """
    step = context - overlap
    counts = np.empty(len(lengths), np.int32)
    for some in _chunks(len(lengths)):
        counts[some] = np.maximum(-(-(lengths[some] - overlap) // step), lengths[some] > 0)
    total = int(counts.sum(dtype=np.int64))
    kind: type[np.signedinteger[Any]] = np.int32 if total < 2**31 else np.int64
    document: NDArray[Any] = np.repeat(np.arange(len(lengths), dtype=kind), counts)
    first: NDArray[Any] = np.cumsum(counts, dtype=kind)
    first -= counts  # pieces before those of each document
    number, size = np.empty(total, np.int32), np.empty(total, np.int32)
    for some in _chunks(total):
        number[some] = np.arange(some.start, some.stop) - first[document[some]]
        size[some] = np.minimum(lengths[document[some]] - number[some].astype(np.int64) * step, context)
    return Pieces(document, number, size, step)


def _chunks(count: int) -> Iterator[slice]:
    """Stretches of long arrays that are worked on at once: what is needed in between stays small."""
    return (slice(at, min(at + _CHUNK, count)) for at in range(0, count, _CHUNK))


def _ends(sizes: NDArray[np.int32]) -> list[int]:
    """Where to cut a descending row into chunks, so that equal numbers stay together."""
    edges = np.append(np.flatnonzero(np.diff(sizes)) + 1, len(sizes))
    ends = [0]
    while ends[-1] < len(sizes):
        ends.append(int(edges[np.searchsorted(edges, min(ends[-1] + _CHUNK, len(sizes)))]))
    return ends


def best_fit(sizes: NDArray[np.int32], room: int) -> NDArray[np.int64]:
    """Assigns pieces to rows by best fit decreasing: each to the row with the least room that suffices.

    Pieces of one size are placed together: a row that a piece has just been put into is the one with the
    least room, as long as another of that size fits; so rows are filled one after the other, as many as have
    the same room in one go. A million pieces take about a second.

    Args:
        sizes: [p], descending, at most `room` each.
        room: of an empty row.

    Returns:
        [p] the row of each piece; rows are numbered from 0.

    Example:
        >>> best_fit(np.array([7, 5, 3, 2, 2], dtype=np.int32), 10).tolist()
        [0, 1, 0, 1, 1]
    """
    rows = np.empty(len(sizes), np.int64)
    rooms: list[int] = []  # that some row has, ascending
    stock: dict[int, list[NDArray[np.int64]]] = {}  # room -> rows that have it
    made = 0

    def put_back(left: int, some: NDArray[np.int64]) -> None:
        if left and len(some):
            if left not in stock:
                insort(rooms, left)
                stock[left] = []
            stock[left].append(some)

    edges = np.flatnonzero(np.diff(sizes, prepend=-1, append=-1)).tolist()
    for at, end in pairwise(edges):
        size = int(sizes[at])
        while at < end:
            place = bisect_left(rooms, size)
            if place < len(rooms):
                have = rooms[place]
                each = have // size
                some = stock[have].pop()
                if not stock[have]:
                    del stock[have], rooms[place]
            else:
                have, each = room, room // size
                some = np.arange(made, made - (at - end) // each)
                made += len(some)
            used = min(len(some), -((at - end) // each))
            last = min(each, end - at - each * (used - 1))  # pieces in the last row
            put = each * (used - 1) + last
            rows[at : at + put] = np.repeat(some[:used], each)[:put]
            put_back(have, some[used:])
            put_back(have - each * size, some[: used - 1])
            put_back(have - last * size, some[used - 1 : used])
            at += put
    return rows


class PackedStream:
    """Rows of whole documents; see the drawing above.

    Which row comes when, and which documents are in it, is a pure function of the lengths, the context, the
    seed and the sample's number. What is kept takes 28 bytes for each piece.

    Args:
        tokens: of the documents.
        context: tokens of a row.
        batch_size: rows of a step.
        seed: of the order, and of who shares a row with whom.
        end_id: the token that follows a document's last one, and fills rows; BOS, where documents begin by
            it as they do here. None: the last token of a document predicts nothing.
        overlap: tokens that further pieces of a long document repeat, without learning them again.
        documents: [n] which to take, by place on disk; None takes all.

    Attributes:
        rows: of one epoch.
        padding: share of the places of an epoch that hold no token.

    Raises:
        DataError: there are no tokens.
        ConfigError: the overlap leaves a piece no token of its own.
    """

    def __init__(
        self,
        tokens: Tokens,
        context: int,
        batch_size: int,
        seed: int,
        end_id: int | None = None,
        overlap: int = 0,
        documents: NDArray[np.int64] | None = None,
    ) -> None:
        if not 0 <= overlap < context:
            what = f"an overlap of {overlap} in rows of {context} tokens"
            raise ConfigError(what, where="packing", fix=f"use 0 to {context - 1}")
        self.tokens, self.context, self.batch_size, self.seed = tokens, context, batch_size, seed
        self.end_id, self.overlap, self.chosen = end_id, overlap, documents
        lengths = np.diff(tokens.offsets)
        if documents is not None:
            lengths = lengths[documents]
        self.fingerprint = self._fingerprint(lengths)
        self.pieces = split(lengths, context, overlap)
        del lengths  # what is not needed any more goes at once: of millions of documents it counts
        if len(self.pieces.size) == 0:
            raise DataError("there are no tokens to pack", where="training tokens", fix="give more text")
        kind = self.pieces.document.dtype
        self._by_size = np.argsort(-self.pieces.size, kind="stable").astype(kind)
        sizes = self.pieces.size[self._by_size]
        self._ends = _ends(sizes)
        row_of = best_fit(sizes, context)
        # A slot is a place among the pieces by descending size: its row and its size are fixed for good.
        self._slots = np.argsort(row_of, kind="stable").astype(kind)
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(row_of))])
        self.rows = self.per_epoch = len(self._starts) - 1
        self.padding = 1 - int(self.pieces.size.sum(dtype=np.int64)) / (self.rows * context)
        self._counted = np.arange(context)
        self._orders: dict[tuple[int, int], NDArray[Any]] = {}

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> dict[str, Tensor]:
        """Returns the rows of a step.

        Returns:
            inputs, targets, positions and documents [b, t] int64; targets are -100 where nothing is learnt;
            documents are numbered in each row, and padding counts as one. sample_ids [b] int64, unique over
            all epochs of a salt.
        """
        return self.take(self._samples(step)[part.rank :: part.ranks], salt)

    def sample_ids(self, step: int, salt: int = 0) -> Tensor:
        """Returns the ids of the whole batch of a step, [b] int64."""
        return torch.from_numpy(self.ids(self._samples(step), salt))

    def take(self, samples: NDArray[np.int64], salt: int = 0) -> dict[str, Tensor]:
        """Returns the rows of samples; see `Samples`."""
        ids = self.ids(samples, salt)
        shape = (len(ids), self.context)
        batch = {
            "inputs": np.full(shape, self.end_id or 0),
            "targets": np.full(shape, IGNORED),
            "positions": np.zeros(shape, np.int64),
            "documents": np.zeros(shape, np.int64),
        }
        for row, sample_id in enumerate(ids.tolist()):
            self._fill({name: array[row] for name, array in batch.items()}, sample_id, salt)
        return {name: torch.from_numpy(array) for name, array in batch.items()} | {
            "sample_ids": torch.from_numpy(ids)
        }

    def ids(self, samples: NDArray[np.int64], salt: int = 0) -> NDArray[np.int64]:
        """Returns the ids of samples; see `Samples`."""
        epochs, places = np.divmod(samples, self.rows)
        ids = np.empty_like(samples)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            order = salted_key(salt, self.seed, epoch, 0)
            ids[chosen] = epoch * self.rows + permute(places[chosen], self.rows, order)
        return ids

    def documents_of(self, sample_id: int, salt: int = 0) -> list[int]:
        """Returns the documents of a row, by their places on disk, in the order in which they stand there."""
        return [span.document for span in self.spans_of(sample_id, salt)]

    def spans_of(self, sample_id: int, salt: int = 0) -> list[Span]:
        """Returns which tokens of which documents are the inputs of a row."""
        spans = []
        for piece in self._row(sample_id, salt).tolist():
            inside, start = int(self.pieces.document[piece]), self.pieces.start(piece)
            place = inside if self.chosen is None else int(self.chosen[inside])
            spans.append(Span(place, start, start + int(self.pieces.size[piece])))
        return spans

    def _samples(self, step: int) -> NDArray[np.int64]:
        return np.arange(step * self.batch_size, (step + 1) * self.batch_size)

    def _row(self, sample_id: int, salt: int) -> NDArray[Any]:
        """The pieces of a row."""
        epoch, row = divmod(sample_id, self.rows)
        return self._order(epoch, salt)[self._slots[self._starts[row] : self._starts[row + 1]]]

    def _order(self, epoch: int, salt: int) -> NDArray[Any]:
        """Which piece is in each slot: by descending size, those of one size as the key has it."""
        order = self._orders.get((epoch, salt))
        if order is None:
            order = self._draw(np.uint64(salted_key(salt, self.seed, epoch, 1)))
            kept = list(self._orders.items())[1 - _ORDERS :]
            self._orders = dict([*kept, ((epoch, salt), order)])
        return order

    def _draw(self, key: np.uint64) -> NDArray[Any]:
        """The pieces by descending size, those of one size in an order of their own."""
        order = np.empty_like(self._by_size)
        for start, end in pairwise(self._ends):
            some = self._by_size[start:end]
            drawn = mix(some.astype(np.uint64) + key)
            order[start:end] = some[np.lexsort((drawn, -self.pieces.size[some]))]
        return order

    def _fill(self, row: dict[str, NDArray[np.int64]], sample_id: int, salt: int) -> None:
        """Writes the documents of a sample into the arrays of a row."""
        at = number = 0
        for piece in self._row(sample_id, salt).tolist():
            size, start = int(self.pieces.size[piece]), self.pieces.start(piece)
            place = int(self.pieces.document[piece])
            place = place if self.chosen is None else int(self.chosen[place])
            begin, end = int(self.tokens.offsets[place]), int(self.tokens.offsets[place + 1])
            first, last = begin + start, begin + start + size
            known = min(end, last + 1)  # the last target of a document is the end, which lies nowhere
            ids = self.tokens.tokens[first:known]
            row["inputs"][at : at + size] = ids[:size]
            targets = row["targets"][at : at + size]
            targets[: len(ids) - 1] = ids[1:]
            if last == end and self.end_id is not None:
                targets[-1] = self.end_id
            if self.tokens.taught is not None:
                taught = np.empty(size, bool)
                taught[: len(ids) - 1] = self.tokens.taught[first + 1 : known]
                if last == end:  # the end is learnt where what it ends is
                    taught[-1] = self.tokens.taught[end - 1]
                targets[~taught] = IGNORED
            if start:
                targets[: self.overlap] = IGNORED
            row["positions"][at : at + size] = self._counted[:size]
            row["documents"][at : at + size] = number
            at, number = at + size, number + 1
        row["positions"][at:] = self._counted[: self.context - at]
        row["documents"][at:] = number

    def _fingerprint(self, lengths: NDArray[np.int64]) -> str:
        settings = f"packed {self.context} {self.batch_size} {self.seed} {self.end_id} {self.overlap}"
        digest = hashlib.sha256(np.ascontiguousarray(lengths, dtype="<i8").data)
        if self.chosen is not None:
            digest.update(np.ascontiguousarray(self.chosen, dtype="<i8").data)
        if self.tokens.taught is not None:
            digest.update(fingerprint("masks", self.tokens.taught).encode())
        return fingerprint(f"{settings} {digest.hexdigest()}", self.tokens.tokens)
