"""Stacks of matrices, as experts have them: Muon treats each of them as if it stood alone."""

from __future__ import annotations

import torch
from torch import nn

from ingot.models.decoder import DecoderConfig
from ingot.nn.experts import ExpertsConfig
from ingot.optim.groups import role
from ingot.optim.joint import OptimizerConfig
from ingot.optim.muon import Muon


def test_a_stack_moves_as_its_matrices_do() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(3, 4, 6), torch.randn(5, 3, 4, 6)
    stack = nn.Parameter(start.clone())
    alone = [nn.Parameter(one.clone()) for one in start]
    together, single = Muon([stack], weight_decay=0.1), Muon(alone, weight_decay=0.1)
    for gradient in gradients:
        stack.grad = gradient.clone()
        for one, part in zip(alone, gradient, strict=True):
            one.grad = part.clone()
        together.step()
        single.step()
    assert (stack - torch.stack([one.detach() for one in alone])).abs().max() <= 1e-6


def test_experts_are_matrices_and_other_cubes_are_not() -> None:
    stack = nn.Parameter(torch.zeros(2, 3, 4))
    assert role("blocks.0.feed_forward.experts.gate.weight", stack) == "matrix"
    assert role("blocks.0.convolution.weight", stack) == "kernel"


def test_tables_that_are_looked_up_are_embeddings_wherever_they_stand() -> None:
    table = nn.Parameter(torch.zeros(32, 4))
    for name in ("embedding.weight", "positions.weight", "segments.weight", "encoder.relative.table.weight"):
        assert role(name, table) == "embedding"
    assert role("encoder.blocks.0.attention.query.weight", table) == "matrix"


def test_a_model_with_experts_gets_one_optimizer_for_every_parameter() -> None:
    model = DecoderConfig(
        vocabulary=31, width=16, layers=2, heads=2, kv_heads=1, head_width=8, feed_forward=32, context=16,
        experts=ExpertsConfig(count=4, chosen=2, width=8, shared=8),
    ).build(0)  # fmt: skip
    joint = OptimizerConfig().build(model)
    assert len(joint.parameters()) == len(list(model.parameters()))
    before = [p.detach().clone() for p in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    joint.step(1.0)
    assert all((one != other).any() for one, other in zip(before, model.parameters(), strict=True))
