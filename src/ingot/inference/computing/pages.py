"""Pages: the key-value cache, cut into pieces of equal size that requests take and give back.

```
request a  table [4, 0]       pool, per layer   | page 0 | page 1 | page 2 | page 3 | page 4 |
request b  table [4, 2]                            a        idle     b        free     a and b
```

A request holds just the pages that its tokens need, so memory is shared out by what is said and not by what
might be, and requests with the same beginning read the same pages (Kwon et al. 2023, PagedAttention, SOSP,
arXiv 2309.06180, section 4). A page that nobody reads any more but that has a name is idle: whoever asks
for the name gets it back, until its place is needed.

| letter | meaning | letter | meaning |
|---|---|---|---|
| p | pages | k | key-value heads |
| e | head width | w | width of a value's head, e but in latent attention |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

import torch
from torch import Tensor

from ingot.errors import ResourceError
from ingot.models.decoder_config import DecoderConfig

PAGE = 32
"""Places per page."""


class Layout(NamedTuple):
    """What a place of the cache holds, per layer."""

    layers: int
    kv_heads: int  # k
    width: int  # e
    value_width: int  # w

    @classmethod
    def of(cls, config: DecoderConfig) -> Self:
        """Returns what a decoder's attention keeps of a token."""
        if config.latent is None:
            return cls(config.layers, config.kv_heads, config.head_width, config.head_width)
        return cls(config.layers, config.heads, config.head_width, config.latent.value_width)

    def page_bytes(self, dtype: torch.dtype) -> int:
        """Returns the memory of one page, all layers together."""
        return self.layers * self.kv_heads * PAGE * (self.width + self.value_width) * dtype.itemsize


def widest_window(config: DecoderConfig) -> int | None:
    """Returns how many tokens a token sees at most in any layer, itself included; None is all before it."""
    local = config.latent is None and all(config.local(layer) for layer in range(config.layers))
    return config.window if local else None


def pages_for(tokens: int) -> int:
    """Returns how many pages so many tokens fill."""
    return -(-tokens // PAGE)


class Pages:
    """Keys and values of all requests, and who reads which page.

    Memory is taken when it is first needed and doubled when it is outgrown. Every page is free, idle or
    used; `free + idle + used` is `limit` always.

    Args:
        limit: pages that there may be at most.
        roomy: as long as fewer pages are used or idle, idle ones are kept and memory grows instead;
            None is `limit`.
    """

    def __init__(self, limit: int, roomy: int | None = None) -> None:
        self.limit = limit
        self.roomy = limit if roomy is None else roomy
        self.keys: list[Tensor] = []  # per layer [p, k, PAGE, e]
        self.values: list[Tensor] = []  # per layer [p, k, PAGE, w]
        self.evicted = 0
        self._fresh = 0  # pages from here on were never taken
        self._returned: list[int] = []  # free, and taken before
        self._readers: list[int] = []  # per page ever taken
        self._idle: dict[int, None] = {}  # in the order they fell idle
        self._page_of: dict[bytes, int] = {}
        self._name_of: dict[int, bytes] = {}

    @property
    def free(self) -> int:
        """Pages that hold nothing."""
        return self.limit - self._fresh + len(self._returned)

    @property
    def idle(self) -> int:
        """Pages that nobody reads, but that a name can bring back."""
        return len(self._idle)

    @property
    def used(self) -> int:
        """Pages that requests read."""
        return self._fresh - len(self._returned) - len(self._idle)

    @property
    def available(self) -> int:
        """Pages that can be taken now."""
        return self.free + self.idle

    def readers(self, page: int) -> int:
        """Returns how many requests read a page."""
        return self._readers[page]

    def take(self) -> int:
        """Returns a page of one's own; the page idle for longest is given up where there is no other.

        Raises:
            ResourceError: all pages are used (callers make room first).
        """
        if self._idle and (self._fresh - len(self._returned) >= self.roomy or not self.free):
            page = next(iter(self._idle))
            del self._idle[page]
            self._forget(page)
            self.evicted += 1
        elif self._returned:
            page = self._returned.pop()
        elif self._fresh < self.limit:
            page = self._fresh
            self._fresh += 1
            self._readers.append(0)
        else:
            raise ResourceError(
                f"all {self.limit} pages of the cache are used", where="cache", fix="give it more memory"
            )
        self._readers[page] = 1
        return page

    def share(self, page: int) -> int:
        """Counts one more reader of a page, and returns it."""
        if not self._readers[page]:
            del self._idle[page]
        self._readers[page] += 1
        return page

    def release(self, pages: Iterable[int]) -> None:
        """Counts one reader less of each. A table's last falls idle first: beginnings are shared more."""
        for page in reversed(list(pages)):
            self._readers[page] -= 1
            if self._readers[page]:
                continue
            if page in self._name_of:
                self._idle[page] = None
            else:
                self._returned.append(page)

    def name(self, page: int, name: bytes) -> None:
        """Says what a full page holds; where another page has the name already, that one keeps it."""
        if name not in self._page_of:
            self._page_of[name] = page
            self._name_of[page] = name

    def find(self, name: bytes) -> int | None:
        """Returns the page of this name, used or idle; it is not taken by that."""
        return self._page_of.get(name)

    def forget(self) -> None:
        """Takes all names away, as after the weights changed; idle pages become free."""
        self._returned.extend(self._idle)
        self._idle.clear()
        self._page_of.clear()
        self._name_of.clear()

    def _forget(self, page: int) -> None:
        del self._page_of[self._name_of.pop(page)]

    def reserve(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the layer's keys [p, k, PAGE, e] and values [p, k, PAGE, w], room for all taken.

        Args:
            layer: its number; layers arrive in order.
            key: any [*, k, *, e] of the layer's keys, for the shape, type and device.
            value: any [*, k, *, w] of its values.
        """
        if layer == len(self.keys):
            for kept, like in ((self.keys, key), (self.values, value)):
                kept.append(like.new_zeros(0, like.shape[1], PAGE, like.shape[3]))
        if len(self.keys[layer]) < self._fresh:
            self.keys[layer] = self._enlarged(self.keys[layer])
            self.values[layer] = self._enlarged(self.values[layer])
        return self.keys[layer], self.values[layer]

    def lay_out(self, layout: Layout, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        """Makes room in all layers for every page taken: for a runner that writes pages itself."""
        if self.keys and len(self.keys) == layout.layers and len(self.keys[-1]) >= self._fresh:
            return
        key = torch.empty(1, layout.kv_heads, 0, layout.width, dtype=dtype, device=device)
        value = torch.empty(1, layout.kv_heads, 0, layout.value_width, dtype=dtype, device=device)
        for layer in range(layout.layers):
            self.reserve(layer, key, value)

    def _enlarged(self, kept: Tensor) -> Tensor:
        """A larger pool that starts with `kept`; the rest is zero, because 0 * NaN would be NaN."""
        pages = min(self.limit, max(self._fresh, 2 * len(kept), 8))
        larger = kept.new_zeros(pages, *kept.shape[1:])
        larger[: len(kept)] = kept
        return larger

    def copy(self, source: int, targets: Iterable[int]) -> None:
        """Writes what one page holds into others, in all layers."""
        wanted = list(targets)
        for layer, (key, value) in enumerate(zip(self.keys, self.values, strict=True)):
            keys, values = self.reserve(layer, key, value)
            for target in wanted:
                keys[target], values[target] = keys[source], values[source]

    def bytes(self) -> int:
        """Returns the memory held."""
        return sum(kept.nbytes for kept in (*self.keys, *self.values))
