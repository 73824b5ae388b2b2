"""The prefix cache: a page that holds the beginning of another request's text need not be computed again.

```
name of page 0 = H(epoch, adapter, its 32 tokens)       name of page i = H(name of page i - 1, its 32 tokens)
```

A page's name says everything that its keys and values depend on: all tokens up to its end, the adapter, and
the weights (by an epoch that moves on when they change). Names are cryptographic hashes, so nobody can write
a prompt that is answered from somebody else's pages.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ingot.inference.computing.pages import PAGE, Pages


class Prefixes:
    """Names pages and finds them again.

    Args:
        pages: that are named.
    """

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.epoch = 0
        self.queries = 0  # prompt tokens that were looked up
        self.hits = 0  # and found

    def extend(self, names: list[bytes], tokens: Sequence[int], adapter: str | None, count: int) -> None:
        """Lengthens `names` to those of the first `count` pages of a text."""
        for i in range(len(names), count):
            before = names[-1] if names else f"{self.epoch} {adapter}".encode()
            piece = array("q", tokens[i * PAGE : (i + 1) * PAGE]).tobytes()
            names.append(hashlib.blake2b(before + piece, digest_size=16).digest())

    def found(self, names: Sequence[bytes]) -> list[int]:
        """Returns the pages that begin a text with these names, as far as they are there."""
        pages: list[int] = []
        for name in names:
            page = self.pages.find(name)
            if page is None:
                break
            pages.append(page)
        return pages

    def forget(self) -> None:
        """Starts a new epoch: nothing that was computed before is found again."""
        self.epoch += 1
        self.pages.forget()


class Weights:
    """Notices that a model's weights were written to, as alignment does between two batches of answers.

    Args:
        model: whose parameters and buffers are watched; tensors that take their place later are not.
    """

    def __init__(self, model: nn.Module) -> None:
        self._tensors = [*model.parameters(), *model.buffers()]
        self._seen = self._now()

    def changed(self) -> bool:
        """Returns whether they were written to since the last call."""
        before, self._seen = self._seen, self._now()
        return before != self._seen

    def _now(self) -> list[tuple[int, int]]:
        return [(x.data_ptr(), _version(x)) for x in self._tensors]


def _version(x: Tensor) -> int:
    """How often a tensor was written to; inference tensors do not count that."""
    return -1 if torch.is_inference(x) else x._version
