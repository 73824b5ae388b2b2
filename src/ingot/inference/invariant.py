"""Batch invariance: a request gets the same bytes whatever else runs, however its prompt is cut.

```
PyTorch's products sum in another order for other numbers of rows, and so do its attention kernels. Here every
pass is cut into tiles of the same few rows, each token is attended to by itself, over pages in their order:

tokens of the pass  | a7 | b3 | c0 c1 c2 c3 ... |   ->  tile | a7 b3 c0 c1 |  tile | c2 c3 .. .. |
keys of one token   | block of 256 | block | block, masked |  each joined to what came before it
```

A block in which a token sees nothing changes no bit of its result, so tokens of all lengths share a tile.
That batch size is what makes answers differ, and fixed shapes the cure, is He et al. 2025, "Defeating
nondeterminism in LLM inference" (Thinking Machines Lab). The compiled step (`native`) has these properties by
its own construction, and is preferred where it is there.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from ingot.config import Config
from ingot.errors import ResourceError
from ingot.inference.native.runner import runner as native_runner
from ingot.inference.pages import PAGE, Pages
from ingot.inference.passes import Pass, Runner, owners
from ingot.models.decoder import Decoder
from ingot.nn.experts import Experts
from ingot.nn.scoring import Scored

BLOCK = 8
"""Pages that are scored at once."""

LOWEST = -1e30
"""Where a maximum starts: finite, so that a block without a visible key divides nothing by zero."""


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
    """Runs a pass tile by tile through a model as PyTorch computes it.

    Args:
        model: in evaluation mode.
        rows: of a tile, at most.

    Attributes:
        rows: of a tile.
    """

    def __init__(self, model: Decoder, rows: int) -> None:
        self.model = model
        # A tile of several would be sent to experts in groups of any size.
        mixed = any(isinstance(module, Experts) for module in model.modules())
        self.rows = 1 if mixed else steady_rows(model, rows)

    def __call__(self, pass_: Pass, pages: Pages) -> Tensor:
        """See `Runner`."""
        tables = pass_.tables[owners(pass_)].long()  # [t, m]
        wanted = pass_.wanted.tolist()
        made: list[Tensor] = []
        count = len(pass_.tokens)
        for first in range(0, count, self.rows):
            # The last tile is filled up with its last token, which is computed and stored again alike.
            tile = torch.arange(first, first + self.rows).clamp(max=count - 1)
            positions = pass_.positions[tile]
            attend = _EachAlone(tables[tile], positions, pages)
            hidden = self.model(pass_.tokens[tile][None], positions[None], attend, logits=False).hidden
            here = [at - first for at in wanted if first <= at < first + self.rows]
            if here:
                made.append(self.model.head(hidden)[0, here].float())
        return torch.cat(made) if made else torch.empty(0, self.model.config.vocabulary)


class _EachAlone:
    """The `Attend` of a tile: every query scores the keys of its own pages, block by block.

    Args:
        tables: [r, m] pages of each token's request.
        positions: [r].
        pages: where keys and values are.
    """

    def __init__(self, tables: Tensor, positions: Tensor, pages: Pages) -> None:
        self.pages = pages
        self.positions = positions
        self.page = tables.gather(1, positions[:, None] // PAGE).squeeze(1)
        self.place = positions % PAGE
        self.nearest, self.farthest = int(positions.min()), int(positions.max())
        blocks = self.farthest // (BLOCK * PAGE) + 1
        self.tables = pad(tables, (0, max(0, blocks * BLOCK - tables.shape[1])))

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None
    ) -> Tensor:
        """See `Attend`; b is 1 and t the rows of the tile."""
        scored = scored or Scored()
        keys, values = self.pages.reserve(layer, key, value)
        keys[self.page, :, self.place] = key[0].transpose(0, 1)
        values[self.page, :, self.place] = value[0].transpose(0, 1)
        h, r, e = query.shape[1:]
        k = key.shape[1]
        asked = query[0].transpose(0, 1).reshape(r, k, h // k, e).float() * e**-0.5
        highest = asked.new_full((r, k, h // k, 1), LOWEST)
        total = torch.zeros_like(highest)
        mixed = asked.new_zeros(r, k, h // k, value.shape[3])
        for first, pages in self._blocks(scored.window):
            near = keys[pages].transpose(1, 2).flatten(2, 3).float()  # [r, k, BLOCK * PAGE, e]
            scores = self._scores(asked @ near.mT, first, scored)
            higher = torch.maximum(highest, scores.amax(-1, keepdim=True))
            kept, weights = (highest - higher).exp(), (scores - higher).exp()
            total = total * kept + weights.sum(-1, keepdim=True)
            mixed = mixed * kept + weights @ values[pages].transpose(1, 2).flatten(2, 3).float()
            highest = higher
        if scored.sinks is not None:
            sinks = scored.sinks.float().view(1, k, h // k, 1)
            higher = torch.maximum(highest, sinks)
            kept = (highest - higher).exp()
            total, mixed = total * kept + (sinks - higher).exp(), mixed * kept
        return (mixed / total).to(value.dtype).reshape(1, r, h, -1).transpose(1, 2)

    def _blocks(self, window: int | None) -> Iterator[tuple[int, Tensor]]:
        """The place at which each block that some token sees begins, and its pages [r, BLOCK]."""
        size = BLOCK * PAGE
        first = 0 if window is None else max(0, self.nearest - window + 1) // size * size
        for place in range(first, self.farthest + 1, size):
            yield place, self.tables[:, place // PAGE : place // PAGE + BLOCK]

    def _scores(self, scores: Tensor, first: int, scored: Scored) -> Tensor:
        """Scores [r, k, h/k, places] as the layer wants them; what a query does not see is -inf."""
        places = torch.arange(first, first + scores.shape[-1])
        distance = (self.positions[:, None] - places)[:, None, None]  # [r, 1, 1, places]
        visible = distance >= 0
        if scored.window is not None:
            visible = visible & (distance < scored.window)
        if scored.cap is not None:
            scores = scored.cap * torch.tanh(scores / scored.cap)
        if scored.slopes is not None:
            scores = scores - scored.slopes.float().view(1, scores.shape[1], -1, 1) * distance
        return scores.masked_fill(~visible, float("-inf"))


def steady_rows(model: nn.Module, most: int) -> int:
    """Returns the rows of a tile in which every row is computed alike: `most`, half of it, ... or 1.

    Kernels for matrices of odd sizes may treat the last rows in another way, which one sees by trying.

    Args:
        model: whose linear layers are tried, one of each size.
        most: rows to begin with.
    """
    layers: dict[tuple[object, ...], tuple[nn.Module, int]] = {}
    for layer in model.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() == 2 and not isinstance(layer, nn.Embedding):
            layers[type(layer), weight.shape, weight.dtype] = layer, weight.shape[1]
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    rows = most
    while rows > 1 and not all(_alike(*layer, rows, kind) for layer in layers.values()):
        rows //= 2
    return max(rows, 1)


@torch.inference_mode()
def _alike(layer: nn.Module, width: int, rows: int, kind: torch.dtype) -> bool:
    """Whether a layer computes a row bit for bit alike at any place in a tile, beside any others."""
    generator = torch.Generator().manual_seed(0)
    several = torch.randn(rows, width, generator=generator).to(kind)
    made: Tensor = layer(several[None])[0]
    for shift in range(1, rows):
        moved = layer(several.roll(shift, 0)[None])[0]
        if not torch.equal(moved.roll(-shift, 0), made):
            return False
    return True
