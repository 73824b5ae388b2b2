"""Attention over pages in plain PyTorch: any decoder, any device.

```
                                            | their own keys, causal           prompts that begin here
segments of a pass -> groups of like shape -|
                                            | keys gathered from their pages   everything else
```

A group is padded to its longest segment and attended to at once: all requests that read one token, prompts
of like lengths, guesses to be verified. `Paged` is what `Decoder.forward` takes as `attend`: the cache never
appears in a model.

| letter | meaning | letter | meaning |
|---|---|---|---|
| t | tokens of the pass | n | segments of a group |
| c | tokens of its longest segment | T | places of its longest table |
| h, k | query heads, key-value heads | e, w | width of a key's and of a value's head |
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ingot.inference.computing.pages import PAGE, Pages
from ingot.inference.computing.passes import Pass, owners
from ingot.models.decoder import Decoder
from ingot.nn import scoring
from ingot.nn.scoring import Scored


class Group:
    """Segments that are attended to together.

    Args:
        pass_: that they are of.
        members: [n] their numbers.
        longest: c.
        places: T, the most tokens that one of them has after this pass.
        fresh: whether nothing of them is in the cache yet.
    """

    def __init__(self, pass_: Pass, members: Tensor, longest: int, places: int, fresh: bool) -> None:
        self.longest = longest
        self.places = places
        self.fresh = fresh
        self.size = len(members)
        self._pass = pass_
        self._members = members
        self._rows_of: dict[int, Tensor] = {}
        self.whole = self.size == len(pass_.stored) and (longest == 1 or self.size == 1)

    @cached_property
    def flat(self) -> Tensor:
        """Where each segment's tokens stand in the pass, [n, c]; padding repeats the last."""
        starts, ends = self._pass.starts[self._members], self._pass.starts[self._members + 1]
        step = torch.arange(self.longest, device=starts.device)
        return torch.minimum(starts[:, None] + step, ends[:, None] - 1).long()

    @cached_property
    def real(self) -> tuple[Tensor, Tensor]:
        """Which of `flat` are tokens, as places in the group [r] and in the pass [r]."""
        lengths = (self._pass.starts[self._members + 1] - self._pass.starts[self._members])[:, None]
        there = torch.arange(self.longest, device=lengths.device) < lengths
        return there.flatten().nonzero().flatten(), self.flat[there]

    @cached_property
    def pages(self) -> Tensor:
        """The segments' pages, [n, m]."""
        return self._pass.tables[self._members, : -(-self.places // PAGE)].long()

    @cached_property
    def distance(self) -> Tensor:
        """How far each key stands before each query, [n, 1, c, T]."""
        place = torch.arange(self.pages.shape[1] * PAGE, device=self._members.device)
        positions = self._pass.positions[self.flat] if self.longest > 1 else self._own_positions
        return (positions[..., None] - place)[:, None]

    @property
    def _own_positions(self) -> Tensor:
        return self._pass.stored[self._members, None].long()

    @cached_property
    def mask(self) -> Tensor:
        """Which keys each query sees, [n, 1, c, T]; padding sees what the segment's last token sees."""
        return self.distance >= 0

    def _rows(self, kv_heads: int) -> Tensor:
        """Where each head of the segments' pages stands in a pool of pages of heads, [n * k * m]."""
        rows = self._rows_of.get(kv_heads)
        if rows is None:
            heads = torch.arange(kv_heads, device=self.pages.device)[:, None]
            rows = self._rows_of[kv_heads] = (self.pages[:, None] * kv_heads + heads).flatten()
        return rows

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, kept: tuple[Tensor, Tensor], scored: Scored | None
    ) -> Tensor:
        """Attends within the group.

        Args:
            query: [n, h, c, e].
            key: [n, k, c, e] of the same tokens.
            value: [n, k, c, w].
            kept: the layer's keys and values in pages, the new ones among them.
            scored: what the layer asks for.

        Returns:
            [n, h, c, w].
        """
        n, h, c, e = query.shape
        k = key.shape[1]
        scored = scored and scored.within(self.places)
        if self.fresh:
            if scored is not None:
                return scoring.causal(query, key, value, scored)
            return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=h != k)
        rows = self._rows(k)
        keys, values = (pool.view(-1, PAGE * pool.shape[3]).index_select(0, rows) for pool in kept)
        keys = keys.view(n, k, -1, e)  # [n, k, T, e]
        values = values.view(n, k, keys.shape[2], -1)
        if scored is not None:
            return scoring.attend(query, keys, values, self.distance, None, scored)
        if c > 1:
            return scaled_dot_product_attention(query, keys, values, attn_mask=self.mask, enable_gqa=h != k)
        # The h/k query heads that share keys stand as if they were tokens: keys are read once for all.
        together = query.reshape(n, k, h // k, e)
        mixed = scaled_dot_product_attention(together, keys, values, attn_mask=self.mask)
        return mixed.reshape(n, h, 1, -1)


class Paged:
    """The `Attend` of a pass: stores its keys and values in pages, and attends over them.

    Args:
        pass_: what runs.
        pages: where keys and values go.
    """

    def __init__(self, pass_: Pass, pages: Pages) -> None:
        self.pages = pages
        self.groups = groups(pass_)
        number = pass_.positions[:, None] // PAGE
        owned = pass_.tables if len(pass_.tables) == len(number) else pass_.tables[owners(pass_)]
        self._page = owned.gather(1, number).long()  # [t, 1]
        self._place = (pass_.positions % PAGE)[:, None]
        self._rows_of: dict[int, Tensor] = {}

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None
    ) -> Tensor:
        """See `Attend`; b is 1 and t all tokens of the pass."""
        kept = self.pages.reserve(layer, key, value)
        rows = self._rows(key.shape[1])
        for pool, new in zip(kept, (key, value), strict=True):
            pool.view(-1, pool.shape[3]).index_copy_(0, rows, new[0].transpose(0, 1).flatten(0, 1))
        mixed = None
        for group in self.groups:
            if group.whole:  # nothing to sort: the tokens of the pass are the group
                q, k, v = (_as_group(x, group.size) for x in (query, key, value))
                return _as_pass(group.attend(q, k, v, kept, scored))
            q, k, v = (x[0][:, group.flat].transpose(0, 1) for x in (query, key, value))  # [n, h, c, e]
            made = group.attend(q, k, v, kept, scored)  # [n, h, c, w]
            if mixed is None:
                mixed = made.new_empty(1, made.shape[1], query.shape[2], made.shape[3])
            here, there = group.real
            mixed[0, :, there] = made.transpose(0, 1).flatten(1, 2)[:, here]
        assert mixed is not None
        return mixed

    def _rows(self, kv_heads: int) -> Tensor:
        """Where each head of each token stands in a pool, [t * k]."""
        rows = self._rows_of.get(kv_heads)
        if rows is None:
            heads = torch.arange(kv_heads, device=self._page.device)
            rows = self._rows_of[kv_heads] = ((self._page * kv_heads + heads) * PAGE + self._place).flatten()
        return rows


def _as_group(x: Tensor, size: int) -> Tensor:
    """[1, h, n * c, e] as [n, h, c, e], where either n or c is 1."""
    return x if size == 1 else x.transpose(0, 2)


def _as_pass(x: Tensor) -> Tensor:
    """[n, h, c, w] as [1, h, n * c, w], where either n or c is 1."""
    return x if len(x) == 1 else x.transpose(0, 2)


class _Shape(NamedTuple):
    fresh: bool
    size: int  # segments of one group are about as long: the power of two that they stay below


def groups(pass_: Pass) -> list[Group]:
    """Sorts the segments of a pass into groups of like shape."""
    stored, starts = pass_.stored.tolist(), pass_.starts.tolist()
    if len(starts) - 1 == len(pass_.tokens):  # one token each
        every = torch.arange(len(stored), device=pass_.stored.device)
        return [Group(pass_, every, 1, max(stored) + 1, False)]
    members: dict[_Shape, list[int]] = {}
    for i, held in enumerate(stored):
        length = starts[i + 1] - starts[i]
        fresh = held == 0 and length > 1
        # Long pieces that follow a stored beginning go alone: their masks are large.
        size = (length - 1).bit_length() if fresh or length <= 64 else -i
        members.setdefault(_Shape(fresh, size), []).append(i)
    made = []
    for shape, numbers in members.items():
        lengths = [starts[i + 1] - starts[i] for i in numbers]
        places = max(stored[i] + length for i, length in zip(numbers, lengths, strict=True))
        which = torch.tensor(numbers, device=pass_.stored.device)
        made.append(Group(pass_, which, max(lengths), places, shape.fresh))
    return made


class TorchRunner:
    """Runs passes through a model as PyTorch computes it.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: Decoder) -> None:
        self.model = model

    def __call__(self, pass_: Pass, pages: Pages) -> Tensor:
        """See `Runner`."""
        attend = Paged(pass_, pages)
        hidden = self.model(pass_.tokens[None], pass_.positions[None], attend, logits=False).hidden[0]
        if len(pass_.wanted) != len(hidden):
            hidden = hidden[pass_.wanted]
        logits: Tensor = self.model.head(hidden)
        return logits.float()
