"""From one sequence to another: predict the target, the source being given."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ingot.errors import ConfigError
from ingot.objectives.objective import IGNORED, Batch, Loss


class Seq2Seq:
    """Cross-entropy of the target's tokens, in nats, over those that are not ignored.

    Batch: `inputs` [b, s] int64, the sources; `targets` [b, t] int64 with -100 where nothing is learned
    (padding); it may hold `mask` [b, s], true where the source is. What the decoder reads is made here:
    the target, one place later, behind the token that begins it.

    Args:
        begin: token that begins a target.
        filler: token that the decoder reads where the target is ignored.
        smoothing: share of every prediction that all tokens of the vocabulary are to have alike (label
            smoothing); the loss is then no longer the nats of the target, which are reported as `nats`.

    Raises:
        ConfigError: a smoothing outside [0, 1).

    Example:
        >>> Seq2Seq(begin=0).read(torch.tensor([[5, 6, 1, -100]])).tolist()
        [[0, 5, 6, 1]]

    Source: Vaswani et al. 2017, arXiv 1706.03762, sections 3.1 and 5.4; Szegedy et al. 2016, arXiv
    1512.00567, section 7.
    """

    def __init__(self, begin: int = 0, *, filler: int = 0, smoothing: float = 0.0) -> None:
        if not 0 <= smoothing < 1:
            raise ConfigError(f"smoothing is {smoothing}", where="seq2seq", fix="use 0 to less than 1")
        self.begin = begin
        self.filler = filler
        self.smoothing = smoothing

    def weight(self, batch: Batch) -> float:
        """Returns the number of targets."""
        return float((batch["targets"] != IGNORED).sum())

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Returns the loss summed over the targets, and how many were the likeliest token."""
        targets = batch["targets"]
        mask = {"mask": batch["mask"]} if "mask" in batch else {}
        out = model(batch["inputs"], self.read(targets), **mask)
        logits, flat = out.logits.float().flatten(0, 1), targets.flatten()  # [b t, v], [b t]
        loss = cross_entropy(
            logits, flat, ignore_index=IGNORED, reduction="sum", label_smoothing=self.smoothing
        )
        with torch.no_grad():
            metrics = {"accuracy": (logits.argmax(-1) == flat).float().sum()}
            if self.smoothing:
                metrics["nats"] = cross_entropy(logits, flat, ignore_index=IGNORED, reduction="sum")
        return Loss(loss, metrics)

    def read(self, targets: Tensor) -> Tensor:
        """Returns what the decoder reads, [b, t]: the targets one place later."""
        first = torch.full_like(targets[:, :1], self.begin)
        before = targets[:, :-1]
        return torch.cat((first, before.masked_fill(before == IGNORED, self.filler)), 1)
