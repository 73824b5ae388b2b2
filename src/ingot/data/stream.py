"""Streams: which samples make up a step, as a pure function of the seed and the step.

Nothing has to be replayed after a kill, and nothing is lost: step 4,711 is what it is, whoever asks. One
epoch goes over all windows of the tokens once, in an order of its own, cut at an offset of its own:

    tokens     | offset | window 0 | window 1 | ... | window n-1 | rest |
    inputs              t0 .. tc-1                                         c = context
    targets              t1 .. tc     the next window begins with its input tc

The global batch of a step does not depend on who computes it: of its rows, rank r of n takes r, r + n,
r + 2n, ... So ranks, workers and micro-batches may change between two steps, and the samples do not.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ingot.data.permutation import key, permute
from ingot.data.stored import Chosen, Stored
from ingot.data.tokens import Tokens
from ingot.errors import DataError

_BLOCKS, _BLOCK = 64, 1 << 15
_DRAWN = 1024  # samples that are drawn together at most


class Part(NamedTuple):
    """Which rows of every global batch a process takes: row `rank`, and every `ranks`-th after it."""

    rank: int = 0
    ranks: int = 1


WHOLE = Part()


class Span(NamedTuple):
    """What a sample holds of one document.

    Args:
        document: its place on disk.
        first: token of the document that comes first in the sample; its BOS is 0.
        end: the token after the last.
    """

    document: int
    first: int
    end: int


def salted_key(salt: int, *parts: int) -> int:
    """Makes the key of a salt, that of no salt (0) being the key of the other parts alone."""
    return key(*parts, salt) if salt else key(*parts)


class Stream(Protocol):
    """Batches by step.

    A stream whose batches depend on more than its arguments (rollouts: on the weights of now) says so by
    an attribute `live = True`: its next batch is never made ahead of its time.

    Attributes:
        fingerprint: what the batches depend on; a resumed run must find the same.
        batch_size: rows of the global batch.
    """

    @property
    def fingerprint(self) -> str: ...

    batch_size: int

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> dict[str, Tensor]:
        """Returns a process's rows of the batch of a step; the same arguments give the same rows.

        Args:
            step: counted from 0.
            salt: another one is another order of the data: a rollback does not meet again what it fled.
            part: which rows.

        Returns:
            Tensors whose first dimension is the row; among them `sample_ids` [b] int64.
        """
        ...

    def sample_ids(self, step: int, salt: int = 0) -> Tensor:
        """Returns the ids of the whole global batch, [b] int64, without making it."""
        ...


class Samples(Protocol):
    """Rows by number, from which batches are made: sample s is of epoch `s // per_epoch`.

    Attributes:
        per_epoch: samples of an epoch.
        fingerprint: what the samples depend on.
    """

    per_epoch: int
    fingerprint: str

    def take(self, samples: NDArray[np.int64], salt: int = 0) -> dict[str, Tensor]:
        """Returns samples, [m] numbers counted from 0 over all epochs, as rows with their `sample_ids`."""
        ...

    def ids(self, samples: NDArray[np.int64], salt: int = 0) -> NDArray[np.int64]:
        """Returns the ids of samples, [m], without making them."""
        ...

    def spans_of(self, sample_id: int, salt: int = 0) -> list[Span]:
        """Returns which tokens of which documents a sample holds, in its order."""
        ...

    def documents_of(self, sample_id: int, salt: int = 0) -> list[int]:
        """Returns the documents, by their places on disk, that a sample has tokens of."""
        ...


class WindowStream:
    """Windows of a long row of tokens.

    Args:
        tokens: [n] unsigned integers, such as `Tokens.tokens`; may be mapped from disk.
        context: tokens of a window.
        batch_size: windows of a step.
        seed: of the order and the offsets.
        offsets: [documents + 1] int64, where documents begin in the row, for `documents_of`; the samples do
            not depend on them.
        documents: [documents] their places on disk, where the row holds some of them only.

    Attributes:
        windows: of one epoch. Each token in them is a target once per epoch; fewer than two contexts of
            tokens, at the beginning and the end, are outside, others in every epoch.

    Raises:
        DataError: fewer tokens than one window needs.
    """

    def __init__(
        self,
        tokens: NDArray[Any] | Stored | Chosen,
        context: int,
        batch_size: int,
        seed: int,
        offsets: NDArray[np.int64] | None = None,
        documents: NDArray[np.int64] | None = None,
    ) -> None:
        if len(tokens) < context + 1:
            what = f"{len(tokens):,} tokens are fewer than one window of {context} + 1"
            raise DataError(what, where="training tokens", fix="use a shorter context or more text")
        self.tokens, self.context, self.batch_size, self.seed = tokens, context, batch_size, seed
        self.offsets, self.documents = offsets, documents
        self.windows = self.per_epoch = max(1, (len(tokens) - context) // context)
        self._offsets = min(context, len(tokens) - self.windows * context)
        self.fingerprint = self._fingerprint()
        # Few windows are few per epoch, and every epoch has an order of its own to be drawn.
        self._together = min(_DRAWN, max(batch_size, self.windows))
        nothing = np.empty(0, np.int64)
        self._drawn: tuple[tuple[int, int], tuple[NDArray[np.int64], NDArray[np.int64]]]
        self._drawn = (-1, 0), (nothing, nothing)

    @classmethod
    def over(
        cls,
        tokens: Tokens,
        context: int,
        batch_size: int,
        seed: int,
        documents: NDArray[np.int64] | None = None,
    ) -> Self:
        """Returns the windows over all documents, or over some, put one after another in this order."""
        if documents is None:
            return cls(tokens.tokens, context, batch_size, seed, tokens.offsets)
        starts = tokens.offsets[documents]
        row = Chosen(tokens.tokens, starts, tokens.offsets[documents + 1] - starts)
        return cls(row, context, batch_size, seed, np.concatenate([[0], row.ends]), documents)

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> dict[str, Tensor]:
        """Returns the windows of a step.

        Returns:
            inputs and targets [b, t] int64; sample_ids [b] int64, unique over all epochs of a salt.
        """
        starts, ids = self._windows(step, salt)
        return self._cut(starts[part.rank :: part.ranks], ids[part.rank :: part.ranks])

    def sample_ids(self, step: int, salt: int = 0) -> Tensor:
        """Returns the ids of the whole batch of a step, [b] int64."""
        return torch.from_numpy(self._windows(step, salt)[1].copy())

    def take(self, samples: NDArray[np.int64], salt: int = 0) -> dict[str, Tensor]:
        """Returns the windows of samples; see `Samples`."""
        return self._cut(*self._place(samples, salt))

    def ids(self, samples: NDArray[np.int64], salt: int = 0) -> NDArray[np.int64]:
        """Returns the ids of samples; see `Samples`."""
        return self._place(samples, salt)[1]

    def documents_of(self, sample_id: int, salt: int = 0) -> list[int]:
        """Returns the documents that a window has tokens of, the token after it (the last target) counted.

        Raises:
            DataError: the stream was not told where documents begin.
        """
        return [span.document for span in self.spans_of(sample_id, salt)]

    def spans_of(self, sample_id: int, salt: int = 0) -> list[Span]:
        """Returns what a window holds of each document, the token after it (the last target) counted.

        Raises:
            DataError: the stream was not told where documents begin.
        """
        if self.offsets is None:
            raise DataError("nobody said where documents begin", where="windows", fix="give `offsets`")
        epoch, window = divmod(sample_id, self.windows)
        start = self._offset(epoch, salt) + window * self.context
        first, last = np.searchsorted(self.offsets, [start, start + self.context], side="right") - 1
        spans = []
        for one in range(int(first), int(last) + 1):
            begin, end = int(self.offsets[one]), int(self.offsets[one + 1])
            place = one if self.documents is None else int(self.documents[one])
            spans.append(Span(place, max(start, begin) - begin, min(start + self.context + 1, end) - begin))
        return [span for span in spans if span.first < span.end]

    def _cut(self, starts: NDArray[np.int64], ids: NDArray[np.int64]) -> dict[str, Tensor]:
        cut = np.stack([self.tokens[start : start + self.context + 1] for start in starts.tolist()])
        rows = torch.from_numpy(cut.astype(np.int64))  # [b, t + 1]
        return {
            "inputs": rows[:, :-1].contiguous(),
            "targets": rows[:, 1:].contiguous(),
            "sample_ids": torch.from_numpy(ids.copy()),
        }

    def _windows(self, step: int, salt: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First tokens and ids of the windows of a step."""
        together = self._together
        first, end = step * self.batch_size, (step + 1) * self.batch_size
        blocks = [self._block(number, salt) for number in range(first // together, (end - 1) // together + 1)]
        starts, ids = blocks[0] if len(blocks) == 1 else map(np.concatenate, zip(*blocks, strict=True))
        cut = slice(first % together, first % together + self.batch_size)
        return starts[cut], ids[cut]

    def _block(self, number: int, salt: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First tokens and ids of some consecutive windows, those of many steps; the last ones are kept."""
        known, block = self._drawn
        if known != (number, salt):
            block = self._draw(number, salt)
            self._drawn = (number, salt), block
        return block

    def _draw(self, number: int, salt: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self._place(np.arange(number * self._together, (number + 1) * self._together), salt)

    def _place(self, samples: NDArray[np.int64], salt: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First tokens and ids of samples."""
        epochs, places = np.divmod(samples, self.windows)
        starts, ids = np.empty_like(samples), np.empty_like(samples)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            order = salted_key(salt, self.seed, epoch, 0)
            windows = permute(places[chosen], self.windows, order)
            starts[chosen] = self._offset(epoch, salt) + windows * self.context
            ids[chosen] = epoch * self.windows + windows
        return starts, ids

    def _offset(self, epoch: int, salt: int) -> int:
        """The first token of an epoch's windows."""
        return salted_key(salt, self.seed, epoch, 1) % self._offsets

    def _fingerprint(self) -> str:
        settings = f"windows {len(self.tokens)} {self.context} {self.batch_size} {self.seed}"
        return fingerprint(settings, self.tokens)


def fingerprint(settings: str, tokens: NDArray[Any] | Stored | Chosen) -> str:
    """Returns a hash of settings and of blocks spread over the tokens: enough to notice another corpus."""
    digest = hashlib.sha256(settings.encode())
    for start in np.linspace(0, max(0, len(tokens) - _BLOCK), _BLOCKS).astype(np.int64).tolist():
        digest.update(np.ascontiguousarray(tokens[start : start + _BLOCK], dtype="<u4").tobytes())
    return digest.hexdigest()
