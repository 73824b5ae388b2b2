"""Optimizers over parameters that are spread over ranks step as over whole ones."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing as processes

from ingot.models.decoder import DecoderConfig
from ingot.optim.joint import Joint, Name, OptimizerConfig
from ingot.optim.shards import spread_like, whole

RANKS = 3
SIZES = DecoderConfig(  # nothing divides by three, and two matrices of a shape leave a rank without one
    vocabulary=11, width=8, layers=2, heads=2, kv_heads=1, head_width=4, feed_forward=16, context=8
)


def give(joint: Joint, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in joint.parameters():
        p.grad = spread_like(torch.randn(p.shape, generator=generator), p)


def compare(rank: int, file: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(file, RANKS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS, timeout=timedelta(seconds=300))
    from torch.distributed.fsdp import fully_shard

    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (RANKS,))
    for name in Name.__args__:
        config = OptimizerConfig(name=name, weight_decay=0.1)
        alone, spread = SIZES.build(0), SIZES.build(0)
        reference, early = config.build(alone), config.build(spread)
        for block in spread.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(spread, mesh=mesh)
        early.follow(spread)
        late = config.build(spread)
        assert [id(p) for p in early.parameters()] == [id(p) for p in late.parameters()]
        for step in range(3):
            give(reference, step)
            give(early, step)
            reference.step(0.1)
            early.step(0.1)
            if step == 1:  # whole tensors, as of a run on one rank, go on spread
                early.restore(reference.tensors())
        there = dict(spread.named_parameters())
        for key, p in alone.named_parameters():
            assert torch.allclose(whole(there[key]), p, atol=1e-6), (name, key)
        kept = early.tensors()
        for key, value in reference.tensors().items():
            assert torch.allclose(whole(kept[key]), value, atol=1e-5), (name, key)
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="this PyTorch has no torch.distributed")
def test_ranks_step_as_one(tmp_path: Path) -> None:
    processes.spawn(compare, args=(str(tmp_path / "store"),), nprocs=RANKS)
