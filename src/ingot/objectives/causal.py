"""Causal language modelling: predict the next token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ingot.nn.routing import auxiliary
from ingot.objectives.objective import IGNORED, Batch, Loss


class CausalLM:
    """Cross-entropy of the next token, in nats, over the targets that are not ignored.

    Batch: `inputs` [b, t] int64, `targets` [b, t] int64 with -100 where nothing is learned (prompts,
    padding). Fine-tuning on the assistant's tokens only is this objective with such targets. Rows that
    hold several documents also bring `documents` and `positions` [b, t], which the model is given.

    Where the model has experts, what their routers ask for is added, too; the metric `balance` says how much.

    Args:
        z_loss: weight of the squared logarithm of the softmax's normaliser, which keeps logits from drifting
            away; 0 has none. With it the metric `next_token` is the cross-entropy alone, `z_square` that
            square.

    Source: the z-loss, Chowdhery et al. 2022, PaLM, arXiv 2204.02311, section 5: a weight of 1e-4.

    Example:
        >>> CausalLM().weight({"targets": torch.tensor([[5, -100, 7]])})
        2.0
    """

    z_loss: float = 0.0  # of those, too, that build on this class and begin in their own way

    def __init__(self, z_loss: float = 0.0) -> None:
        self.z_loss = z_loss

    def weight(self, batch: Batch) -> float:
        """Returns the number of targets."""
        return float((batch["targets"] != IGNORED).sum())

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Returns the summed negative log-likelihood, and what is added to it."""
        outputs = model(batch["inputs"], **places(batch))
        return with_balance(self.from_outputs(outputs, batch), model, batch)

    def from_outputs(self, outputs: Any, batch: Batch) -> Loss:
        """Returns the loss of a forward pass that was made with `places(batch)`.

        Args:
            outputs: of the model, with logits [b, t, v].
            batch: that it saw.
        """
        logits = outputs.logits.float().flatten(0, 1)
        targets = batch["targets"].flatten()
        loss = nats(logits, targets)
        metrics: dict[str, Tensor] = {}
        if self.z_loss:
            squares = z_squares(logits, targets)
            metrics |= {"next_token": loss.detach(), "z_square": squares.detach()}
            loss = loss + self.z_loss * squares
        return Loss(loss, metrics)


def places(batch: Batch) -> dict[str, Tensor]:
    """Returns what a batch says of where its tokens are, for the model: positions and documents."""
    return {name: batch[name] for name in ("positions", "documents") if name in batch}


def with_balance(loss: Loss, model: nn.Module, batch: Batch) -> Loss:
    """Adds what the routers of a mixture of experts ask for, per token that is learnt.

    The term is of the tokens that ran together: it depends on the micro-batch, as its definition does.

    Args:
        loss: of the pass that the model has just made.
        model: whose configuration says whether it has experts.
        batch: of that pass.
    """
    if getattr(getattr(model, "config", None), "experts", None) is None:
        return loss
    term = auxiliary(model)
    if term is None:
        return loss
    balance = term * (batch["targets"] != IGNORED).sum()
    return Loss(loss.sum + balance, {"balance": balance.detach(), **loss.metrics})


def nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Returns the summed cross-entropy of logits [n, v] against targets [n] that are not ignored."""
    return cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")


def z_squares(logits: Tensor, targets: Tensor) -> Tensor:
    """Returns the sum of (log Z)^2 over the targets that are not ignored; Z normalises the softmax.

    Args:
        logits: [n, v] float32.
        targets: [n].
    """
    squares = torch.logsumexp(logits, -1).square()
    return torch.where(targets != IGNORED, squares, 0.0).sum()
