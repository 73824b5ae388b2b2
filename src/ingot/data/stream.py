"""Streams: which samples make up a step, as a pure function of the seed and the step.

Nothing has to be replayed after a kill, and nothing is lost: step 4,711 is what it is, whoever asks. One
epoch goes over all windows of the tokens once, in an order of its own, cut at an offset of its own:

    tokens     | offset | window 0 | window 1 | ... | window n-1 | rest |
    inputs              t0 .. tc-1                                         c = context
    targets              t1 .. tc     the next window begins with its input tc
"""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ingot.data.permutation import key, permute
from ingot.errors import DataError

_BLOCKS, _BLOCK = 64, 1 << 15


class Stream(Protocol):
    """Batches by step.

    Attributes:
        fingerprint: what the batches depend on; a resumed run must find the same.
    """

    fingerprint: str

    def batch(self, step: int) -> dict[str, Tensor]:
        """Returns the global batch of a step; the same step is always the same batch."""
        ...


class WindowStream:
    """Windows of a long row of tokens.

    Args:
        tokens: [n] unsigned integers, such as `Tokens.tokens`; may be mapped from disk.
        context: tokens of a window.
        batch_size: windows of a step.
        seed: of the order and the offsets.

    Attributes:
        windows: of one epoch. Each token in them is a target once per epoch; fewer than two contexts of
            tokens, at the beginning and the end, are outside, others in every epoch.

    Raises:
        DataError: fewer tokens than one window needs.
    """

    def __init__(self, tokens: NDArray[Any], context: int, batch_size: int, seed: int) -> None:
        if len(tokens) < context + 1:
            what = f"{len(tokens):,} tokens are fewer than one window of {context} + 1"
            raise DataError(what, where="training tokens", fix="use a shorter context or more text")
        self.tokens, self.context, self.batch_size, self.seed = tokens, context, batch_size, seed
        self.windows = max(1, (len(tokens) - context) // context)
        self._offsets = min(context, len(tokens) - self.windows * context)
        self.fingerprint = self._fingerprint()

    def batch(self, step: int) -> dict[str, Tensor]:
        """Returns the windows of a step.

        Returns:
            inputs and targets [b, t] int64; sample_ids [b] int64, unique over all epochs.
        """
        samples = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, places = np.divmod(samples, self.windows)
        starts, ids = np.empty_like(samples), np.empty_like(samples)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            order = key(self.seed, epoch, 0)
            offset = key(self.seed, epoch, 1) % self._offsets
            windows = permute(places[chosen], self.windows, order)
            starts[chosen] = offset + windows * self.context
            ids[chosen] = epoch * self.windows + windows
        cut = np.stack([self.tokens[start : start + self.context + 1] for start in starts.tolist()])
        rows = torch.from_numpy(cut.astype(np.int64))  # [b, t + 1]
        return {
            "inputs": rows[:, :-1].contiguous(),
            "targets": rows[:, 1:].contiguous(),
            "sample_ids": torch.from_numpy(ids),
        }

    def _fingerprint(self) -> str:
        """A hash of the settings and of blocks spread over the tokens: enough to notice another corpus."""
        settings = f"windows {len(self.tokens)} {self.context} {self.batch_size} {self.seed}"
        digest = hashlib.sha256(settings.encode())
        for start in np.linspace(0, max(0, len(self.tokens) - _BLOCK), _BLOCKS).astype(np.int64).tolist():
            digest.update(np.ascontiguousarray(self.tokens[start : start + _BLOCK], dtype="<u4").tobytes())
        return digest.hexdigest()
