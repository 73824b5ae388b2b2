"""Conversations as batches: token ids, targets only where the assistant speaks, padding on the right.

```
tokens   BOS <start> user ... <end> <start> assistant \\n  def  area ... <end> \\n
inputs   BOS <start> user ... <end> <start> assistant \\n  def  area ... <end>        all but the last
targets   -     -     -   ...   -     -       -     - def area  ...  <end>  -         the next token, or -100
```

A causal model never looks to the right, so padding there changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ingot.data.permutation import permute
from ingot.data.stream import WHOLE, Part, salted_key
from ingot.errors import DataError
from ingot.objectives.objective import IGNORED
from ingot.tokenizer.chat import encode_chat

if TYPE_CHECKING:
    from ingot.data.conversations import Example
    from ingot.tokenizer.tokenizer import Tokenizer

ROUNDING = 64
"""Lengths of batches are multiples of this, so that few different shapes occur."""

_POOL = 16
"""Batches whose samples are sorted by length together, where an epoch has several times as many."""


class Conversation(NamedTuple):
    """A conversation as token ids; `taught` marks those that the assistant says."""

    tokens: list[int]
    taught: list[bool]


def encode_examples(
    examples: Sequence[Example], tokenizer: Tokenizer, context: int, answer_tokens: int
) -> list[Conversation]:
    """Encodes the examples that fit, in their order.

    Args:
        examples: user first, assistant last.
        tokenizer: with chat tokens.
        context: tokens that a conversation has at most.
        answer_tokens: tokens that an answer has at most, its closing token counted.

    Raises:
        DataError: an example in which the assistant says nothing.
    """
    fitting = []
    for example in examples:
        tokens, taught = encode_chat(tokenizer, example.messages)
        if not any(taught):
            raise DataError("the assistant says nothing", where=example.source, fix="leave it out")
        if len(tokens) <= context and sum(taught) <= answer_tokens:
            fitting.append(Conversation(tokens, taught))
    return fitting


class ConversationStream:
    """Batches of conversations, each epoch in another order, those of a batch of similar length.

    A batch holds `inputs` and `targets` [b, t] int64 and `sample_ids` [b] int64; t is the longest of the
    batch, rounded up to a multiple of 64 and at most `context`, on all ranks alike. What a step gets depends
    on the seed, the step and the salt alone.

    Args:
        examples: encoded conversations.
        context: tokens of the model's context; longer conversations are cut.
        batch_size: b.
        seed: of the order.
        pad_id: token that fills `inputs`.

    Raises:
        DataError: there are fewer conversations than one batch needs.
    """

    def __init__(
        self, examples: Sequence[Conversation], context: int, batch_size: int, seed: int, pad_id: int
    ) -> None:
        if len(examples) < batch_size:
            what = f"{len(examples)} conversations are fewer than a batch of {batch_size}"
            raise DataError(what, where="conversations", fix="use a smaller batch or more text")
        self.examples = examples
        self.context = context
        self.batch_size = batch_size
        self.seed = seed
        self.pad_id = pad_id
        self.batches_per_epoch = len(examples) // batch_size
        self._order: tuple[int, int, NDArray[np.int64]] = (-1, 0, np.empty((0, 0), np.int64))

    @property
    def fingerprint(self) -> str:
        """Changes when the samples, or their assignment to steps, change."""
        digest = hashlib.sha256(f"{self.context} {self.batch_size} {self.seed} {self.pad_id}".encode())
        for tokens, taught in self.examples:
            digest.update(np.asarray(tokens, dtype=np.int64).tobytes())
            digest.update(np.asarray(taught, dtype=np.bool_).tobytes())
        return digest.hexdigest()

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> dict[str, Tensor]:
        """Returns the conversations of a step, counted from 0."""
        rows = self._rows(step, salt)
        t = width([self.examples[row] for row in rows], self.context)
        mine = rows[part.rank :: part.ranks]
        return side_by_side([self.examples[row] for row in mine], t, self.pad_id) | {
            "sample_ids": torch.tensor(mine)
        }

    def sample_ids(self, step: int, salt: int = 0) -> Tensor:
        """Returns the places in `examples` of the whole batch of a step, [b] int64."""
        return torch.tensor(self._rows(step, salt))

    def places(self, step: int) -> int:
        """Returns how many places, padding counted, the batch of a step has: what its time depends on."""
        return self.batch_size * width([self.examples[row] for row in self._rows(step, 0)], self.context)

    def _rows(self, step: int, salt: int) -> list[int]:
        epoch, place = divmod(step, self.batches_per_epoch)
        known, salted, order = self._order
        if (known, salted) != (epoch, salt):
            order = self._batches(epoch, salt)
            self._order = (epoch, salt, order)
        rows: list[int] = order[place].tolist()
        return rows

    def _batches(self, epoch: int, salt: int) -> NDArray[np.int64]:
        """Sample indexes of every batch of an epoch, [batches, b].

        Pools of a few batches are sorted by length, so that little of a batch is padding; then the
        batches are mixed, so that length says nothing about time.
        """
        count = self.batches_per_epoch * self.batch_size
        shuffled = permute(np.arange(count), len(self.examples), salted_key(salt, self.seed, epoch, 0))
        lengths = np.array([len(example.tokens) for example in self.examples])
        size = max(1, min(_POOL, self.batches_per_epoch // 4)) * self.batch_size
        pools = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
        ordered = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
        batches = ordered.reshape(-1, self.batch_size)
        return batches[permute(np.arange(len(batches)), len(batches), salted_key(salt, self.seed, epoch, 1))]


def width(conversations: Sequence[Conversation], context: int) -> int:
    """Returns t, the places of every row of a batch of these conversations."""
    longest = max(len(conversation.tokens) for conversation in conversations) - 1
    return min(-(-longest // ROUNDING) * ROUNDING, context)


def pad(conversations: Sequence[Conversation], context: int, pad_id: int) -> dict[str, Tensor]:
    """Puts conversations side by side, as wide as the longest needs.

    Args:
        conversations: b of them.
        context: places that a row has at most.
        pad_id: fills `inputs` behind the end of a row; `targets` have -100 there.

    Returns:
        `inputs` and `targets`, [b, t] int64.
    """
    return side_by_side(conversations, width(conversations, context), pad_id)


def side_by_side(conversations: Sequence[Conversation], t: int, pad_id: int) -> dict[str, Tensor]:
    """Puts conversations in rows of `t` places; see `pad`."""
    inputs = torch.full((len(conversations), t), pad_id)
    targets = torch.full((len(conversations), t), IGNORED)
    for row, (tokens, taught) in enumerate(conversations):
        ids = torch.tensor(tokens[: t + 1])
        says = torch.tensor(taught[: t + 1])
        inputs[row, : len(ids) - 1] = ids[:-1]
        targets[row, : len(ids) - 1] = torch.where(says[1:], ids[1:], IGNORED)
    return {"inputs": inputs, "targets": targets}
