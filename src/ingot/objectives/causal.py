"""Causal language modelling: predict the next token."""

from __future__ import annotations

from torch import nn
from torch.nn.functional import cross_entropy

from ingot.objectives.objective import IGNORED, Batch, Loss


class CausalLM:
    """Cross-entropy of the next token, in nats, over the targets that are not ignored.

    Batch: `inputs` [b, t] int64, `targets` [b, t] int64 with -100 where nothing is learned (prompts,
    padding). Fine-tuning on the assistant's tokens only is this objective with such targets. Rows that
    hold several documents also bring `documents` and `positions` [b, t], which the model is given.

    Example:
        >>> CausalLM().weight({"targets": torch.tensor([[5, -100, 7]])})
        2.0
    """

    def weight(self, batch: Batch) -> float:
        """Returns the number of targets."""
        return float((batch["targets"] != IGNORED).sum())

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Returns the summed negative log-likelihood."""
        where = {name: batch[name] for name in ("positions", "documents") if name in batch}
        logits = model(batch["inputs"], **where).logits  # [b, t, v]
        nats = cross_entropy(
            logits.float().flatten(0, 1), batch["targets"].flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return Loss(nats, {})
