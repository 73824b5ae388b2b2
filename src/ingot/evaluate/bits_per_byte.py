"""Bits per byte: how many bits a model needs for each byte of text that it has not seen.

```
tokens   BOS  a  b  c  d  e  f  g  h        context 4, stride 2
window    o   o  o  o                       scores a b c d
window           o  o  o  o                 scores       e f     (each after 3 or more tokens)
window                 o  o  o              scores           g h
```

Every token of a document is scored exactly once, the first from BOS, every later one with at least half
a context before it where there is that much. Nats are divided by the bytes of the text and by ln 2, so
that models with different tokenizers can be compared, and with a compressor.

Source: Gao et al. 2020, The Pile, arXiv 2101.00027, section 3.1 (bits per byte).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from ingot.models.decoder import Decoder
from ingot.progress import Task

PLACES = 2048
"""Tokens in one pass on a CPU, padding counted. Measured with 11 M parameters in bf16: seconds per 8,192
tokens are 0.45, 0.41, 0.60, 0.83 in passes of 512, 2,048, 4,096, 8,192; large ones leave the caches."""

PLACES_ACCELERATOR = 65_536
"""The same elsewhere."""

_LOGITS = 256
"""Positions whose logits are held in float32 at once, for the same reason: 2,048 take three times as long."""


class Encodes(Protocol):
    """What is asked of a tokenizer here."""

    @property
    def bos_id(self) -> int:
        """The id that begins every document."""
        ...

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without BOS."""
        ...


@dataclass(frozen=True)
class Bits:
    """What documents cost.

    Args:
        nats: [documents] float64: minus the natural logarithm of each one's probability.
        bytes: [documents] int64: UTF-8 bytes of each.
        tokens: how many tokens were scored in all.
    """

    nats: NDArray[np.float64]
    bytes: NDArray[np.int64]
    tokens: int

    @property
    def bits_per_byte(self) -> float:
        """Over all documents together: a long one counts more than a short one."""
        return float(self.nats.sum() / self.bytes.sum() / math.log(2))


class Window(NamedTuple):
    """Inputs `tokens[start:stop]`; of their targets `tokens[start + 1 : stop + 1]`, those from `first` on."""

    start: int
    stop: int
    first: int


def windows(length: int, context: int) -> list[Window]:
    """Cuts a document into windows with stride half the context.

    Args:
        length: tokens of the document, BOS counted.
        context: tokens that the model takes at once, 2 or more.

    Returns:
        Windows that score targets 1 to `length - 1` once each.

    Example:
        >>> windows(9, 4)
        [Window(start=0, stop=4, first=1), Window(start=2, stop=6, first=5), Window(start=4, stop=8, first=7)]
    """
    stride = context // 2
    cut = []
    start, scored = 0, 0
    while scored < length - 1:
        stop = min(start + context, length - 1)
        cut.append(Window(start, stop, scored + 1))
        start, scored = start + stride, stop
    return cut


@torch.inference_mode()
def measure_bits(model: Decoder, tokenizer: Encodes, texts: Sequence[str], task: Task | None = None) -> Bits:
    """Scores every token of every document.

    Args:
        model: in evaluation mode; computes in its own number type, probabilities are always float32.
        tokenizer: of the model.
        texts: one per document.
        task: advanced by one for each token of each window, whose sum is `places(...)`.

    Returns:
        Nats and bytes of each document.
    """
    documents = [[tokenizer.bos_id, *tokenizer.encode(text)] for text in texts]
    nats = np.zeros(len(documents))
    device = next(model.parameters()).device
    most = PLACES if device.type == "cpu" else PLACES_ACCELERATOR
    for batch in _batches(documents, model.config.context, most):
        inputs, targets, owners = _tensors(documents, batch, tokenizer.bos_id)
        hidden = model(inputs.to(device), logits=False).hidden  # [b, t, d]
        scored = targets >= 0  # [b, t]
        losses = _losses(model, hidden[scored.to(device)], targets[scored].to(device))
        np.add.at(nats, owners[scored].numpy(), losses)
        if task is not None:
            task.advance(sum(window.stop - window.start for _, window in batch))
    sizes = np.array([len(text.encode("utf-8")) for text in texts], dtype=np.int64)
    return Bits(nats, sizes, sum(len(tokens) - 1 for tokens in documents))


def places(tokenizer: Encodes, texts: Sequence[str], context: int) -> int:
    """Returns how many tokens `measure_bits` passes through the model: the total of its task."""
    cut = (windows(1 + len(tokenizer.encode(text)), context) for text in texts)
    return sum(window.stop - window.start for document in cut for window in document)


def _batches(documents: Sequence[Sequence[int]], context: int, most: int) -> list[list[tuple[int, Window]]]:
    """Windows with their documents, of like length together, so that little is padding."""
    every = [(i, w) for i, tokens in enumerate(documents) for w in windows(len(tokens), context)]
    every.sort(key=lambda one: one[1].start - one[1].stop)
    batches: list[list[tuple[int, Window]]] = []
    for one in every:
        longest = 0 if not batches else batches[-1][0][1].stop - batches[-1][0][1].start
        if not batches or (len(batches[-1]) + 1) * longest > most:
            batches.append([])
        batches[-1].append(one)
    return batches


def _tensors(
    documents: Sequence[Sequence[int]], batch: Sequence[tuple[int, Window]], filler: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs [b, t], targets [b, t] (-1 where not scored), and whose each place is [b, t]."""
    longest = max(window.stop - window.start for _, window in batch)
    inputs = torch.full((len(batch), longest), filler)
    targets = torch.full((len(batch), longest), -1)
    for row, (document, window) in enumerate(batch):
        tokens = documents[document]
        size, skipped = window.stop - window.start, window.first - window.start - 1
        inputs[row, :size] = torch.tensor(tokens[window.start : window.stop])
        targets[row, skipped:size] = torch.tensor(tokens[window.first : window.stop + 1])
    owners = torch.tensor([document for document, _ in batch])[:, None].expand(-1, longest)
    return inputs, targets, owners


def _losses(model: Decoder, hidden: Tensor, targets: Tensor) -> NDArray[np.float64]:
    """Nats of each target [n], from hidden states [n, d]."""
    parts = [
        cross_entropy(model.head(some).float(), wanted, reduction="none")
        for some, wanted in zip(hidden.split(_LOGITS), targets.split(_LOGITS), strict=True)
    ]
    losses: NDArray[np.float64] = torch.cat(parts).double().cpu().numpy()
    return losses
