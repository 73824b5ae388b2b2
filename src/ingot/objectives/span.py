"""Span question answering: where in a text does the answer begin, and where does it end?"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ingot.objectives.classification import read
from ingot.objectives.objective import IGNORED, Batch, Loss


class Span:
    """Half the cross-entropy of the answer's first place plus half that of its last, in nats.

    Batch: `inputs` [b, t] int64 (question, then text), `starts` and `ends` [b] int64, the first and the
    last token of the answer, -100 where a row is not to be learned; a question without an answer points to
    the first token. It may hold `segments` and `mask` [b, t]; places outside the mask are no candidates.

    Source: Devlin et al. 2019, arXiv 1810.04805, sections 4.2 and 4.3.
    """

    def weight(self, batch: Batch) -> float:
        """Returns the number of questions."""
        return float((batch["starts"] != IGNORED).sum())

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Returns the summed loss, and how many answers were met exactly."""
        logits = candidates(read(model, batch).logits, batch.get("mask"))  # [b, t, 2]
        starts, ends = batch["starts"], batch["ends"]
        ends = torch.where(starts == IGNORED, IGNORED, ends)
        nats = sum(
            cross_entropy(logits[..., side], right, ignore_index=IGNORED, reduction="sum")
            for side, right in enumerate((starts, ends))
        )
        found = best_spans(logits.detach())
        exact = (found.starts == starts) & (found.ends == ends)
        return Loss(torch.as_tensor(nats) / 2, {"exact": exact.float().sum()})


def candidates(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Returns logits [b, t, 2] in float32 that rule out the places outside a mask [b, t]."""
    logits = logits.float()
    return logits if mask is None else logits.masked_fill(~mask.bool()[..., None], -torch.inf)


class Spans(NamedTuple):
    """Answers, by their first and last places."""

    starts: Tensor  # [b] int64
    ends: Tensor  # [b] int64
    scores: Tensor  # [b] float32, the sum of both logits


def best_spans(logits: Tensor, longest: int = 30) -> Spans:
    """Finds the likeliest answers: places i <= j with the largest sum of logits.

    Args:
        logits: [b, t, 2] of first and last places; see `candidates`.
        longest: answer in tokens.

    Example:
        >>> best_spans(torch.tensor([[[0.0, 9.0], [5.0, 0.0], [0.0, 3.0]]])).ends.tolist()
        [0]
    """
    t = logits.shape[1]
    scores = logits[:, :, None, 0] + logits[:, None, :, 1]  # [b, t, t]
    allowed = torch.ones(t, t, dtype=torch.bool, device=logits.device).triu().tril(longest - 1)
    best, at = scores.masked_fill(~allowed, -torch.inf).flatten(1).max(1)
    return Spans(at // t, at % t, best)
