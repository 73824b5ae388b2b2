"""A tiny decoder, ragged batches for it, and what one process makes of them by the textbook."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ingot.models.decoder import DecoderConfig
from ingot.objectives.objective import Batch

VOCABULARY = 31  # odd sizes: nothing divides by the number of ranks


def model(tied: bool = False) -> nn.Module:
    """Three layers with weights that are nowhere zero."""
    config = DecoderConfig(
        vocabulary=VOCABULARY,
        width=12,
        layers=3,
        heads=2,
        kv_heads=1,
        head_width=6,
        feed_forward=21,
        context=16,
        tied=tied,
    )
    made = config.build(0)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return made


def batch(step: int = 0, rows: int = 12) -> Batch:
    """Rows with differing numbers of trained targets; the first rows have none at all."""
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(0, VOCABULARY, (rows, 17), generator=generator)
    targets = tokens[:, 1:].clone()
    for row in range(rows):
        targets[row, : 16 * (rows - row) // rows] = -100
    return {"inputs": tokens[:, :-1], "targets": targets, "sample_ids": torch.arange(rows) + rows * step}


def part(whole: Batch, rank: int, world: int) -> Batch:
    """The rows of one rank."""
    return {name: value[rank::world] for name, value in whole.items()}


def gradients(made: nn.Module) -> dict[str, Tensor]:
    """Whole gradients by name, gathered where they are cut."""
    from torch.distributed.tensor import DTensor

    found = {name: p.grad for name, p in made.named_parameters() if p.grad is not None}
    return {n: g.full_tensor() if isinstance(g, DTensor) else g.clone() for n, g in found.items()}


def textbook(tied: bool = False, step: int = 0) -> tuple[float, dict[str, Tensor]]:
    """Mean loss over the trained targets of the whole batch and its gradient: one process, no parts, float64.

    In float32 the book would round as much as those that it judges.
    """
    made, whole = model(tied).double(), batch(step)
    loss = cross_entropy(made(whole["inputs"]).logits.flatten(0, 1), whole["targets"].flatten())
    loss.backward()
    return float(loss.detach()), gradients(made)
