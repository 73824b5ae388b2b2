"""Muon against the singular value decomposition; the joint optimizer against its parts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ingot.models.decoder import DecoderConfig
from ingot.optim.joint import OptimizerConfig
from ingot.optim.muon import Muon, orthogonalise
from ingot.optim.schedules import ScheduleConfig


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6)])
def test_orthogonalised_matrices_keep_their_directions_and_lose_their_sizes(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(5, *shape, generator=generator), full_matrices=False)
    sizes = 0.1 + 0.9 * torch.rand(5, 1, min(shape), generator=generator)
    result = orthogonalise(left * sizes @ right, iterations=5)
    inner = left.mT @ result @ right.mT  # diagonal where the directions were kept
    values = inner.diagonal(dim1=-2, dim2=-1)
    assert (inner - torch.diag_embed(values)).abs().max() < 1e-3
    assert values.min() > 0.5 and values.max() < 1.3


def test_muon_together_equals_muon_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 8), (8, 8), (4, 8), (8, 4), (8, 8)]
    together = [nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
    alone = [nn.Parameter(p.detach().clone()) for p in together]
    joint, single = Muon(together, 0.1), [Muon([p], 0.1) for p in alone]
    for _ in range(3):
        for a, b in zip(together, alone, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        joint.step()
        for optimizer in single:
            optimizer.step()
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_muon_refuses_vectors() -> None:
    with pytest.raises(ValueError, match=r"\[3\]"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_every_parameter_has_exactly_one_optimizer_and_state_comes_back() -> None:
    config = DecoderConfig(
        vocabulary=11, width=8, layers=1, heads=2, kv_heads=1, head_width=4, feed_forward=16, context=8
    )
    models = [config.build(0), config.build(0)]
    optimizers = [OptimizerConfig().build(model) for model in models]
    assert {id(p) for p in optimizers[0].parameters()} == {id(p) for p in models[0].parameters()}
    assert len(optimizers[0].parameters()) == len(list(models[0].parameters()))

    def update(index: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in models[index].parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizers[index].step(0.5)

    update(0, 1)
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].restore(optimizers[0].tensors())
    update(0, 2)
    update(1, 2)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_schedule_by_hand() -> None:
    schedule = ScheduleConfig(warmup=0.1, decay=0.5, floor=0.0)
    expected = [0.1 * (i + 1) for i in range(10)] + [1.0] * 40 + [(100 - i) / 50 for i in range(50, 100)]
    assert [schedule.multiplier(i, 100) for i in range(100)] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_schedules_stay_between_nought_and_one(steps: int) -> None:
    for shape in ("linear", "cosine"):
        schedule = ScheduleConfig(warmup=0.02, decay=0.98, shape=shape)
        values = [schedule.multiplier(i, steps) for i in range(steps)]
        assert all(0 < value <= 1 for value in values)
