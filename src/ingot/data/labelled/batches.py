"""Rows of numbers as batches: any named lists side by side, padded on the right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ingot.data.examples import Conversation, ConversationStream
from ingot.data.stream import WHOLE, Part

ROUNDING = 8
"""Widths of batches are multiples of this."""

Row = Mapping[str, list[int] | int]


class RowStream:
    """Batches of rows, each epoch in another order, those of a batch of similar length.

    The order is that of `ConversationStream`. A batch holds a tensor for each key of the rows, [b, t] for
    lists and [b] for numbers, and `sample_ids` [b], which no other epoch has.

    Args:
        rows: all with the same keys, `inputs` among them.
        pads: what fills the lists of each key behind their end.
        batch_size: b.
        seed: of the order.

    Raises:
        DataError: fewer rows than one batch needs.
    """

    def __init__(self, rows: Sequence[Row], pads: Mapping[str, int], batch_size: int, seed: int) -> None:
        self.rows, self.pads, self.batch_size = rows, pads, batch_size
        lengths = [Conversation([0] * length(row), []) for row in rows]
        self._order = ConversationStream(lengths, 1, batch_size, seed, 0)
        self.batches_per_epoch = self._order.batches_per_epoch
        content = json.dumps([dict(pads), batch_size, seed, [dict(row) for row in rows]]).encode()
        self.fingerprint = hashlib.sha256(content).hexdigest()

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> dict[str, Tensor]:
        """Returns the rows of a step, counted from 0."""
        chosen = self._order.sample_ids(step, salt).tolist()
        ids = self.sample_ids(step, salt)[part.rank :: part.ranks]
        whole = [self.rows[row] for row in chosen]
        return collate(whole[part.rank :: part.ranks], self.pads, widths(whole)) | {"sample_ids": ids}

    def sample_ids(self, step: int, salt: int = 0) -> Tensor:
        """Returns the ids of the whole batch of a step, [b] int64."""
        return self._order.sample_ids(step, salt) + step // self.batches_per_epoch * len(self.rows)


def length(row: Row) -> int:
    """Returns the longest list of a row."""
    return max(len(value) for value in row.values() if isinstance(value, list))


def widths(rows: Sequence[Row]) -> dict[str, int]:
    """Returns how wide a batch of rows is, by key."""
    found: dict[str, int] = {}
    for row in rows:
        for key, value in row.items():
            if isinstance(value, list):
                found[key] = max(found.get(key, 1), len(value))
    return {key: -(-t // ROUNDING) * ROUNDING for key, t in found.items()}


def collate(rows: Sequence[Row], pads: Mapping[str, int], wide: Mapping[str, int]) -> dict[str, Tensor]:
    """Puts rows side by side.

    Args:
        rows: b of them.
        pads: fills the lists of each key.
        wide: t of each key that holds lists.

    Returns:
        [b, t] int64 for lists, [b] int64 for numbers.

    Example:
        >>> collate([{"inputs": [5, 6], "labels": 1}], {"inputs": 0}, {"inputs": 4})["inputs"].tolist()
        [[5, 6, 0, 0]]
    """
    batch = {}
    for key, first in rows[0].items():
        if isinstance(first, int):
            batch[key] = torch.tensor([row[key] for row in rows])
            continue
        batch[key] = torch.full((len(rows), wide[key]), pads[key])
        for place, row in enumerate(rows):
            value = row[key]
            assert isinstance(value, list)
            batch[key][place, : len(value)] = torch.tensor(value)
    return batch


def batches(rows: Sequence[Row], pads: Mapping[str, int], size: int) -> list[dict[str, Tensor]]:
    """Returns rows in their order, `size` at a time, with their numbers as `sample_ids`: to measure on."""
    parts = [list(range(start, min(start + size, len(rows)))) for start in range(0, len(rows), size)]
    return [
        collate(chosen, pads, widths(chosen)) | {"sample_ids": torch.tensor(part)}
        for part in parts
        for chosen in [[rows[row] for row in part]]
    ]
