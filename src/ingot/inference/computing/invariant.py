"""Batch invariance: a request gets the same bytes whatever else runs, however its prompt is cut.

```
PyTorch's products sum in another order for other numbers of rows, and so do its attention kernels. Here they
are made of tiles of the same few rows, and each token is attended to by itself, over pages in their order:

tokens of the pass  | a7 | b3 | c0 c1 c2 c3 ... |   ->  tile | a7 b3 c0 c1 |  tile | c2 c3 .. .. |
```

The arithmetic is `nn.invariant`'s, which a trainer can share: then it computes what the sampler did. The
compiled step (`native`) gives the same bytes to a request by its own construction, and is preferred where it
is there; no trainer equals it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from ingot.config import Config
from ingot.errors import ResourceError
from ingot.inference.computing.native.runner import runner as native_runner
from ingot.inference.computing.pages import PAGE, Pages
from ingot.inference.computing.passes import Pass, Runner, owners
from ingot.models.decoder import Decoder
from ingot.nn import invariant_attention
from ingot.nn.experts import Experts
from ingot.nn.invariant import RowTiles, steady_rows
from ingot.nn.invariant_attention import TOGETHER, attend_alone
from ingot.nn.scoring import Scored

__all__ = ["BLOCK", "Invariance", "TiledRunner", "steady_rows"]

BLOCK = invariant_attention.BLOCK // PAGE
"""Pages that are scored at once."""


class Invariance(Config):
    """Asks for answers that do not depend on company, order, chunking or cache.

    Args:
        rows: of a tile. More make prompts cheaper and single answers dearer; where this machine's products
            depend on a row's place among so many, fewer are taken. Mixtures of experts get one.
        compiled: whether the compiled step may serve, where the model and the machine have it.
    """

    rows: int = Field(default=8, ge=1, le=256)
    compiled: bool = True

    def build(self, model: Decoder) -> Runner:
        """Returns a runner whose results do not depend on what else is in a pass.

        Raises:
            ResourceError: the model is not on the CPU.
        """
        device = model.embedding.weight.device
        if device.type != "cpu":
            raise ResourceError(
                f"batch invariance is for the CPU, the model is on {device}",
                where="invariant",
                fix="load the model with device='cpu'",
            )
        native = native_runner(model) if self.compiled else None
        return native or TiledRunner(model, self.rows)


class TiledRunner:
    """Runs passes through a model as PyTorch computes it, product by product in tiles.

    Args:
        model: in evaluation mode.
        rows: of a tile, at most.
        short: type that products run in by autocast, as in a trainer; None is the weights' own.

    Attributes:
        rows: of a tile.
    """

    def __init__(self, model: Decoder, rows: int, short: torch.dtype | None = None) -> None:
        self.model = model
        self.short = short
        # Several tokens at once would be sent to experts in groups of any size.
        mixed = any(isinstance(module, Experts) for module in model.modules())
        self.rows = 1 if mixed else steady_rows(model, rows, short)
        self._most = 1 if mixed else None

    def __call__(self, pass_: Pass, pages: Pages) -> Tensor:
        """See `Runner`."""
        tables = pass_.tables[owners(pass_)].long()  # [t, m]
        made = []
        with RowTiles(self.rows), self._precision():
            for first in range(0, len(pass_.tokens), self._most or len(pass_.tokens)):
                here = slice(first, first + (self._most or len(pass_.tokens)))
                positions = pass_.positions[here]
                attend = _Paged(tables[here], positions, pages, min(self.rows, TOGETHER))
                hidden = self.model(pass_.tokens[here][None], positions[None], attend, logits=False).hidden
                asked = (pass_.wanted >= here.start) & (pass_.wanted < here.stop)
                wanted = hidden[0, pass_.wanted[asked] - first]
                if len(wanted):
                    made.append(self.model.head(wanted).float())
        return torch.cat(made) if made else torch.empty(0, self.model.config.vocabulary)

    def _precision(self) -> AbstractContextManager[object]:
        return nullcontext() if self.short is None else torch.autocast("cpu", dtype=self.short)


class _Paged:
    """The `Attend` of a pass: every token scores the keys of its own pages, in tiles of so many tokens.

    Args:
        tables: [t, m] pages of each token's request.
        positions: [t].
        pages: where keys and values are.
        rows: of a tile.
    """

    def __init__(self, tables: Tensor, positions: Tensor, pages: Pages, rows: int) -> None:
        self.pages = pages
        self.positions = positions
        self.rows = rows
        self.page = tables.gather(1, positions[:, None] // PAGE).squeeze(1)
        self.place = positions % PAGE
        self.tables = pad(tables, (0, -tables.shape[1] % BLOCK))

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None
    ) -> Tensor:
        """See `Attend`; b is 1."""
        keys, values = self.pages.reserve(layer, key, value)
        keys[self.page, :, self.place] = key[0].transpose(0, 1)
        values[self.page, :, self.place] = value[0].transpose(0, 1)
        asked = query[0].transpose(0, 1)  # [t, h, e]
        count = len(asked)
        made = []
        with torch.autocast(query.device.type, enabled=False):
            for first in range(0, count, self.rows):
                # The last tile is filled up with its last token.
                tile = torch.arange(first, first + self.rows).clamp(max=count - 1)
                near = _Blocks(keys, values, self.tables[tile])
                made.append(
                    attend_alone(
                        asked[tile],
                        self.positions[tile],
                        near,
                        key.shape[1],
                        value.shape[3],
                        scored or Scored(),
                    )
                )
        return torch.cat(made)[:count].to(value.dtype).transpose(0, 1)[None]


class _Blocks:
    """The `Near` of a tile: keys and values out of pages.

    Args:
        keys: [p, k, PAGE, e].
        values: [p, k, PAGE, w].
        tables: [r, m] of the tile's tokens, m a multiple of BLOCK.
    """

    def __init__(self, keys: Tensor, values: Tensor, tables: Tensor) -> None:
        self.kept = keys, values
        self.tables = tables

    def __call__(self, first: int) -> tuple[Tensor, Tensor]:
        """See `Near`."""
        here = self.tables[:, None, first // PAGE : first // PAGE + BLOCK]  # [r, 1, BLOCK]
        k = self.kept[0].shape[1]
        places = here * k + torch.arange(k)[:, None]  # [r, k, BLOCK]: heads of pages, which lie in one piece
        keys, values = (
            kept.flatten(0, 1).index_select(0, places.flatten()).view(len(here), k, BLOCK * PAGE, -1)
            for kept in self.kept
        )
        return keys, values
