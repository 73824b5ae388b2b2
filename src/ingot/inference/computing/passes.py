"""A pass: the new tokens of all requests, one after another, through the model once.

```
            a's next   b's next   c's prompt, places 64 ... 127        (one segment per request)
tokens    |    17    |    4     |  8  15  3 ...                 2 |     flat, no padding
starts    0          1          2                                66
stored        40         7         64                                   already in the cache
wanted         0         1                                      65      where logits are asked for
```

One token of an answer, a piece of a prompt and guesses to be verified are all the same thing: tokens that
follow what the cache holds (Agrawal et al. 2024, Sarathi-Serve, arXiv 2403.02310, section 4).
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ingot.inference.computing.pages import Pages


class Pass(NamedTuple):
    """What a runner computes at once. t tokens of n segments; tables have m pages; w logits are wanted."""

    tokens: Tensor  # [t] int64, all segments' new tokens one after another
    positions: Tensor  # [t] int64: of each token in its request
    starts: Tensor  # [n + 1] int32: segment i is tokens[starts[i]:starts[i + 1]]
    stored: Tensor  # [n] int32: tokens of the request that are in the cache before this pass
    tables: Tensor  # [n, m] int32: the request's pages in order, filled up with 0
    wanted: Tensor  # [w] int64: flat indexes at which logits are wanted


class Segment(NamedTuple):
    """One request's part of a pass."""

    tokens: Sequence[int]  # the new ones
    stored: int
    table: array[int]  # of type "i": its pages, for the new tokens too
    wanted: int = 1  # at so many of its last tokens


class Runner(Protocol):
    """Computes passes: a model, or kernels that hold its weights."""

    def __call__(self, pass_: Pass, pages: Pages) -> Tensor:
        """Writes the new keys and values into the pages; returns the wanted logits, [w, v] float32."""
        ...


def table_tensor(tables: Sequence[array[int]], device: torch.device | None = None) -> Tensor:
    """Returns tables as one tensor [n, m] int32, filled up with 0."""
    widest = max(map(len, tables), default=0)
    rows = np.zeros((len(tables), widest), np.int32)
    for row, table in zip(rows, tables, strict=True):
        row[: len(table)] = table
    return _tensor(rows, device)


def assemble(
    segments: Sequence[Segment], device: torch.device | None = None, tables: Tensor | None = None
) -> Pass:
    """Makes a pass of its segments.

    Args:
        segments: at least one, each with at least one token.
        device: of the model; None is the CPU.
        tables: the segments' tables as `table_tensor` gives them, where they are known from the last pass.

    Example:
        >>> assemble([Segment([17], 40, array("i", [4, 0])), Segment([8, 15], 0, array("i", [2]))]).wanted
        tensor([0, 2])
    """
    if tables is None:
        tables = table_tensor([segment.table for segment in segments], device)
    if all(len(new) == asked == 1 for new, _, _, asked in segments):
        starts, wanted = _one_each(len(segments), device)
        places = np.array([stored for _, stored, _, _ in segments])
        tokens = np.array([new[0] for new, _, _, _ in segments])
        return Pass(
            tokens=_tensor(tokens, device),
            positions=_tensor(places, device),
            starts=starts,
            stored=_tensor(places.astype(np.int32), device),
            tables=tables,
            wanted=wanted,
        )
    return _mixed(segments, device, tables)


@functools.lru_cache(maxsize=256)
def _one_each(count: int, device: torch.device | None) -> tuple[Tensor, Tensor]:
    """Starts and wanted places of a pass in which every request makes one token."""
    with torch.inference_mode(False):
        starts = torch.arange(count + 1, dtype=torch.int32, device=device)
        return starts, torch.arange(count, device=device)


def _mixed(segments: Sequence[Segment], device: torch.device | None, tables: Tensor) -> Pass:
    tokens: list[int] = []
    positions: list[int] = []
    starts: list[int] = [0]
    wanted: list[int] = []
    for new, stored, _, asked in segments:
        tokens += new
        end = len(tokens)
        positions += range(stored, stored + len(new))
        wanted += range(end - asked, end)
        starts.append(end)
    return Pass(
        tokens=_tensor(np.array(tokens), device),
        positions=_tensor(np.array(positions), device),
        starts=_tensor(np.array(starts, np.int32), device),
        stored=_tensor(np.array([segment.stored for segment in segments], np.int32), device),
        tables=tables,
        wanted=_tensor(np.array(wanted, np.int64), device),
    )


def owners(pass_: Pass) -> Tensor:
    """Which segment each token is of, [t]."""
    lengths = pass_.starts.diff().long()
    numbers = torch.arange(len(lengths), device=lengths.device)
    return numbers.repeat_interleave(lengths, output_size=len(pass_.tokens))


def _tensor(numbers: np.ndarray, device: torch.device | None) -> Tensor:
    made = torch.from_numpy(numbers)  # several times as fast as `torch.tensor` of a list
    return made if device is None or device.type == "cpu" else made.to(device, non_blocking=True)
