"""Who computes a pass: the fastest runner there is, and PyTorch for those who have adapters.

```
pieces without an adapter  -> compiled step, or PyTorch          one pass where both are PyTorch
pieces with one            -> PyTorch, each adapter's change added to its own tokens
```

What runs without an adapter is computed alike whoever runs beside it.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from operator import is_not

import torch
from torch import Tensor

from ingot.inference.computing.adapters import Adapters
from ingot.inference.computing.native import build
from ingot.inference.computing.native.runner import runner as native_runner
from ingot.inference.computing.paged_attention import TorchRunner
from ingot.inference.computing.pages import Pages
from ingot.inference.computing.passes import Runner, Segment, assemble, table_tensor
from ingot.models.decoder import Decoder


class Runners:
    """The runners of an engine.

    Args:
        model: in evaluation mode.
        adapters: of the model.
        runner: computes what has no adapter; None is the fastest there is: compiled, or PyTorch.
        wait: seconds that compiling may take before PyTorch serves until it is done; None waits for it.
    """

    def __init__(
        self, model: Decoder, adapters: Adapters, runner: Runner | None = None, wait: float | None = None
    ) -> None:
        self.adapters = adapters
        self._model = model
        self._device = model.norm.get_parameter("weight").device
        self.plain: Runner = runner or native_runner(model, wait) or TorchRunner(model)
        self._adapted = self.plain if isinstance(self.plain, TorchRunner) else TorchRunner(model)
        # A faster one; asked for once more, as compiling may have ended since it was last.
        self._coming = runner is None and wait is not None and isinstance(self.plain, TorchRunner)
        self._tables: tuple[list[array[int]], list[int], Tensor] | None = None

    def __call__(
        self, segments: Sequence[Segment], names: Sequence[str | None], pages: Pages
    ) -> tuple[Tensor, Tensor]:
        """Computes a pass.

        Args:
            segments: those without an adapter first, then each adapter's together.
            names: of each segment's adapter; None is the model itself.
            pages: where keys and values go.

        Returns:
            The wanted logits [w, v], and the places [w] of the tokens that follow.
        """
        if self._coming:
            self._look_for_a_faster(pages)
        numbers = [self.adapters.number(name) for name in names] if len(self.adapters) else []
        if not any(number >= 0 for number in numbers):
            return self._pass(self.plain, segments, pages, self._table_tensor(segments))
        alone = 0 if self.plain is self._adapted else next(i for i, n in enumerate(numbers) if n >= 0)
        rest = segments[alone:]
        starts = list(accumulate((len(segment.tokens) for segment in rest), initial=0))
        with self.adapters.applied(numbers[alone:], starts):
            logits, places = self._pass(self._adapted, rest, pages)
        if not alone:
            return logits, places
        first = self._pass(self.plain, segments[:alone], pages)
        return torch.cat([first[0], logits]), torch.cat([first[1], places])

    def _pass(
        self, runner: Runner, segments: Sequence[Segment], pages: Pages, tables: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        pass_ = assemble(segments, self._device, tables)
        alone = len(pass_.wanted) == len(pass_.positions)  # every token's logits are wanted
        places = pass_.positions if alone else pass_.positions.index_select(0, pass_.wanted)
        return runner(pass_, pages), places + 1

    def _look_for_a_faster(self, pages: Pages) -> None:
        """Takes the compiled step, where it has come and reads the pages that are there."""
        self._coming = build.pending()
        found = native_runner(self._model, 0)
        if found is not None and (not pages.keys or pages.keys[0].dtype == found.dtype):
            self.plain, self._coming = found, False

    def _table_tensor(self, segments: Sequence[Segment]) -> Tensor:
        """The segments' tables; as in the pass before, where nobody came, left or began a page."""
        tables = [segment.table for segment in segments]
        sizes = [len(table) for table in tables]
        if self._tables is None or self._tables[1] != sizes or any(map(is_not, self._tables[0], tables)):
            self._tables = tables, sizes, table_tensor(tables, self._device)
        return self._tables[2]
