"""Continuations of one prompt that share in the cache what they have in common, as searches make them.

```
prompt |----- pages that all read -----|- a's page -|      fork: full pages get one more reader,
                                       |- b's page -|            the page that is being filled is copied
```
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from torch import Tensor

from ingot.errors import RequestError
from ingot.inference.computing.paged_attention import Paged
from ingot.inference.computing.pages import PAGE, Pages, pages_for
from ingot.inference.computing.passes import Segment, assemble
from ingot.models.decoder import Decoder


class Branches:
    """Branches of equal length, read side by side.

    Args:
        model: in evaluation mode.
        prompt: token ids; not read yet.
        tokens: that may follow it at most.
        most: branches at once at most.

    Attributes:
        room: how many tokens may follow the prompt: `tokens`, or what the context leaves.

    Raises:
        RequestError: the prompt is empty or leaves no room.
    """

    def __init__(self, model: Decoder, prompt: Sequence[int], tokens: int, most: int) -> None:
        context = model.config.context
        if not 0 < len(prompt) < context:
            raise RequestError(
                f"the prompt has {len(prompt)} tokens, the model's context is {context}",
                where="prompt",
                fix="give it at least one, and leave room for an answer",
            )
        self.model = model
        self.room = min(tokens, context - len(prompt))
        self._device = model.embedding.weight.device
        # Old and new branches stand side by side while they are forked.
        self._pages = Pages(2 * most * pages_for(len(prompt) + self.room))
        self._tables = [array("i")]
        self._length = 0

    def read(self, new: Sequence[Sequence[int]]) -> Tensor:
        """Reads the next tokens of every branch, as many for each.

        Returns:
            What the model makes of each, [n, t, d]: the head's input.
        """
        length = self._length + len(new[0])
        for table in self._tables:
            while len(table) < pages_for(length):
                table.append(self._pages.take())
        segments = [
            Segment(list(tokens), self._length, table, len(tokens))
            for tokens, table in zip(new, self._tables, strict=True)
        ]
        pass_ = assemble(segments, self._device)
        attend = Paged(pass_, self._pages)
        hidden: Tensor = self.model(pass_.tokens[None], pass_.positions[None], attend, logits=False).hidden
        self._length = length
        return hidden[0].unflatten(0, (len(new), -1))

    def fork(self, parents: Sequence[int]) -> None:
        """Replaces the branches by copies: the i-th new one goes on from branch `parents[i]`."""
        full, rest = divmod(self._length, PAGE)
        tables = []
        for parent in parents:
            source = self._tables[parent]
            table = source[:full]
            for page in table:
                self._pages.share(page)
            if rest:
                table.append(self._pages.take())
                self._pages.copy(source[full], table[full:])
            tables.append(table)
        for table in self._tables:
            self._pages.release(table)
        self._tables = tables

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns the model's logits for what `read` gave, in float32."""
        made: Tensor = self.model.head(hidden)
        return made.float()
