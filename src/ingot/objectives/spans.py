"""Span corruption: some spans of a text are cut out, each is to be written behind its sentinel.

```
text     Thank you for inviting me to your party last week .
source   Thank you <X> me to your party <Y> week . <end>
target   <X> for inviting <Y> last <Z> <end>
```

How many tokens and spans are cut depends on the text's length alone, so that sources and targets of texts of
one length have one length too. Which ones depends on the seed and the sample's id alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ingot.errors import ConfigError
from ingot.objectives.keyed import uniform
from ingot.objectives.objective import IGNORED, Batch, Loss
from ingot.objectives.seq2seq import Seq2Seq


class Spans(NamedTuple):
    """Where texts are cut: of m spans at most, those behind a text's own count have no length."""

    starts: Tensor  # [b, m] int64, ascending
    lengths: Tensor  # [b, m] int64


class SpanCorruption:
    """Cross-entropy of the cut spans, in nats, the rest of the text being given.

    Batch: `inputs` [b, t] int64, texts padding only at their end; `sample_ids` [b] int64. A text of fewer
    than two tokens has nothing to cut, and nothing is learned from it.

    Args:
        sentinels: tokens that stand for the first, the second, ... span; T5's count down from the end of the
            vocabulary. One more than spans are needed: the last one ends the target.
        begin: token that begins a target.
        end: token that ends sources and targets.
        padding: of texts and of sources.
        density: share of the tokens that are cut.
        mean_length: of a span, in tokens.
        smoothing: of labels; see `Seq2Seq`.
        seed: of the cuts.

    Raises:
        ConfigError: a density, length or smoothing that cannot be.

    Source: Raffel et al. 2020, arXiv 1910.10683, sections 3.1.4 and 3.3.4. All ways to cut that many tokens
    in that many spans, no two of them touching, have the same chance.
    """

    def __init__(
        self,
        sentinels: Sequence[int],
        *,
        begin: int = 0,
        end: int = 1,
        padding: int = 0,
        density: float = 0.15,
        mean_length: float = 3.0,
        smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not 0 < density < 1:
            raise ConfigError(f"density is {density}", where="spans", fix="use more than 0 and less than 1")
        if not mean_length >= 1:
            raise ConfigError(f"mean_length is {mean_length}", where="spans", fix="use 1 or more")
        self.sentinels = torch.tensor(sentinels, dtype=torch.long)
        self.end = end
        self.padding = padding
        self.density = density
        self.mean_length = mean_length
        self.seed = seed
        self.pairs = Seq2Seq(begin, filler=padding, smoothing=smoothing)

    def weight(self, batch: Batch) -> float:
        """Returns the number of target tokens: what is cut, the sentinels and the end."""
        cut, spans = self.counts(self._lengths(batch["inputs"]))
        return float(torch.where(cut > 0, cut + spans + 2, 0).sum())

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Returns the loss summed over the target tokens."""
        return self.pairs.loss(model, self.corrupted(batch))

    def corrupted(self, batch: Batch) -> Batch:
        """Returns the pairs to train on: `inputs` [b, s], `targets` [b, u] and `mask` [b, s]."""
        text = batch["inputs"]
        lengths = self._lengths(text)
        source, target = self.cut(text, lengths, self.spans(batch["sample_ids"], lengths, text.shape[1]))
        return {"inputs": source, "targets": target, "mask": source != self.padding}

    def counts(self, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Returns how many tokens are cut from texts of these lengths, and in how many spans."""
        cut = (lengths * self.density).round().long().clamp(min=1)
        cut = torch.minimum(cut, (lengths - 1).clamp(min=0))
        most = torch.minimum(cut, lengths - cut + 1)  # spans have a token each, and one between them
        return cut, torch.minimum((cut / self.mean_length).round().long().clamp(min=1), most)

    def spans(self, sample_ids: Tensor, lengths: Tensor, width: int) -> Spans:
        """Draws where texts are cut.

        Args:
            sample_ids: [b] int64.
            lengths: [b] int64, of the texts without padding.
            width: t, the longest that they may be.

        Raises:
            ConfigError: texts as long as `width` need more sentinels.
        """
        cut, spans = self.counts(lengths)
        _, most = self.counts(torch.arange(width + 1))
        m = int(most.max())
        if m + 1 > len(self.sentinels):
            what = f"texts of {width} tokens need {m + 1} sentinels, there are {len(self.sentinels)}"
            raise ConfigError(what, where="spans", fix="use shorter texts, longer spans or more sentinels")
        place = torch.arange(m, device=lengths.device)
        real = place < spans[:, None]  # [b, m]
        # Spans lie in different gaps between the tokens that stay ...
        gaps = self._subset("gaps", sample_ids, lengths - cut + 1, spans, width + 1, m)
        # ... and end at different tokens of all that are cut: the last of them at the last one.
        ends = self._subset("ends", sample_ids, cut - 1, spans - 1, width, m) + 1
        ends = torch.where(place < (spans - 1)[:, None], ends, cut[:, None])
        before = torch.cat((torch.zeros_like(ends[:, :1]), ends[:, :-1]), 1)  # cut tokens before each span
        return Spans(torch.where(real, gaps + before, width), torch.where(real, ends - before, 0))

    def cut(self, text: Tensor, lengths: Tensor, spans: Spans) -> tuple[Tensor, Tensor]:
        """Cuts given spans out of texts.

        Args:
            text: [b, t] int64.
            lengths: [b] int64, of the texts without padding.
            spans: in order, none touching another, as many and as long together as `counts` says.

        Returns:
            Sources [b, s] and targets [b, u], -100 behind their ends, as long as texts of t tokens need.
        """
        (b, t), device = text.shape, text.device
        sentinels, place = self.sentinels.to(device), torch.arange(t, device=device)
        count = (spans.lengths > 0).sum(1)  # [b]
        edges = torch.zeros(b, t + 1, dtype=torch.long, device=device)
        starts = edges.scatter_add(1, spans.starts, (spans.lengths > 0).long())[:, :t]
        stops = edges.scatter_add(1, spans.starts + spans.lengths, (spans.lengths > 0).long())[:, :t]
        which = starts.cumsum(1) - 1  # span that began last
        gone = starts.cumsum(1) > stops.cumsum(1)
        sentinel = sentinels[which.clamp(min=0)]
        stays = (place < lengths[:, None]) & (~gone | (starts > 0))
        seen = torch.where(starts > 0, sentinel, text)
        cuts, most = self.counts(torch.arange(t + 1))
        long, wide = int((torch.arange(t + 1) - cuts + most).max()) + 1, int((cuts + most).max()) + 2

        source = _placed(seen, stays, stays.cumsum(1) - 1, long, self.padding)
        source.scatter_(1, stays.sum(1, keepdim=True), self.end)
        behind = gone.cumsum(1) + which  # tokens that are cut, and as many sentinels as spans began before
        target = _placed(text, gone, behind, wide, IGNORED)
        first = _placed(sentinel, starts > 0, behind - 1, wide, IGNORED)
        target = torch.where(first == IGNORED, target, first)
        last = (gone.sum(1) + count)[:, None]
        target.scatter_(1, last, sentinels[count][:, None]).scatter_(1, last + 1, self.end)
        return source, target.masked_fill(count[:, None] == 0, IGNORED)

    def _lengths(self, text: Tensor) -> Tensor:
        return (text != self.padding).sum(1)

    def _subset(
        self, purpose: str, sample_ids: Tensor, among: Tensor, take: Tensor, width: int, most: int
    ) -> Tensor:
        """Draws `take` [b] different numbers below `among` [b] for each sample: ascending, [b, most]."""
        draws = uniform(self.seed, sample_ids, f"spans: {purpose}", [width])
        place = torch.arange(width, device=draws.device)
        order = draws.masked_fill(place >= among[:, None], 2.0).argsort(dim=1, stable=True)[
            :, :most
        ]  # [b, m]
        return order.masked_fill(place[:most] >= take[:, None], width).sort(1).values


def _placed(values: Tensor, chosen: Tensor, places: Tensor, width: int, rest: int) -> Tensor:
    """Puts the chosen of `values` [b, t] at their `places`: [b, width], `rest` everywhere else."""
    row = torch.full((len(values), width + 1), rest, dtype=values.dtype, device=values.device)
    return row.scatter(1, places.masked_fill(~chosen, width), values)[:, :width]
