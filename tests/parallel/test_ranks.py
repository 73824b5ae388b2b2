"""What ranks tell one another arrives whole, in order, at everybody; and a lost rank is named in words."""

from __future__ import annotations

import math
import os
from typing import Any

import pytest
import torch
from spawn import Crew

from ingot.errors import ConfigError, ResourceError
from ingot.parallel.mesh import Grid
from ingot.parallel.ranks import ALONE, Ranks, join

ITEM = {"loss": 0.1, "names": ["ä", "雪"], "nothing": None, "deep": {"list": [1, [2]]}}


def talk(ranks: Ranks) -> dict[str, Any]:
    tensor = torch.tensor([ranks.rank + 1.0, -1.0])
    answers = {
        "sum": ranks.sum(tensor).tolist(),
        "kept": tensor.tolist(),
        "numbers": ranks.sum_numbers([0.1, 2.0**60, float(ranks.rank)]),
        "nan": math.isnan(ranks.sum_numbers([math.nan if ranks.rank == 1 else 0.0])[0]),
        "any": [ranks.any(False), ranks.any(ranks.rank == ranks.world - 1)],
        "share": ranks.share(ITEM if ranks.lead else "ignored"),
        "gather": ranks.gather("x" * 10 * ranks.rank),
        "again": join("cpu") is ranks,
        "place": (ranks.place("cpu"), ranks.place("cuda"), ranks.place("cuda:0")),
    }
    ranks.barrier()
    return answers


@pytest.mark.parametrize("world", [2, 4])
def test_all_ranks_hear_the_same(crew: Crew, world: int) -> None:
    for rank, heard in enumerate(crew.run(world, talk)):
        assert heard["sum"] == [world * (world + 1) / 2, -world]
        assert heard["kept"] == [rank + 1.0, -1.0]
        tenths = sum([0.1] * world)
        assert heard["numbers"] == pytest.approx(
            [tenths, world * 2.0**60, world * (world - 1) / 2], abs=1e-15
        )
        assert heard["nan"] is True
        assert heard["any"] == [False, True]
        assert heard["share"] == ITEM
        assert heard["gather"] == ["x" * 10 * other for other in range(world)]
        assert heard["again"] is True
        assert heard["place"] == ("cpu", f"cuda:{rank}", "cuda:0")


def test_alone_everything_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join("cpu") is ALONE
    tensor = torch.ones(2)
    assert ALONE.sum(tensor) is tensor
    assert (ALONE.any(True), ALONE.share(ITEM), ALONE.gather(1), ALONE.lead) == (True, ITEM, [1], True)
    assert ALONE.place("cuda") == "cuda"
    ALONE.barrier()


def lost(ranks: Ranks) -> str:
    if ranks.rank == 1:
        return "gone"
    from datetime import timedelta

    from torch import distributed as dist

    hasty = Ranks(ranks.rank, ranks.world, 0, ranks.group)
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=1), ranks.group)
    with pytest.raises(ResourceError, match="rank 0 of 2: another rank died or did not answer") as caught:
        hasty.barrier()
    return str(caught.value)


def test_a_rank_that_does_not_come_is_named(crew: Crew) -> None:
    assert "1" in crew.run(2, lost)[0]


def test_what_cannot_be_joined_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    monkeypatch.delitem(os.environ, "RANK", raising=False)
    with pytest.raises(ConfigError, match="RANK is ''"):
        join("cpu")
    monkeypatch.setitem(os.environ, "RANK", "0")
    with pytest.raises(ConfigError, match="2 ranks cannot share 'mps'"):
        join("mps")
    if not torch.cuda.is_available():
        with pytest.raises(ResourceError, match="has no GPU: there are 0"):
            join("cuda")


def grid_names(ranks: Ranks) -> Any:
    mesh = Grid(replicate=2, shard=2).mesh("cpu")
    return mesh.mesh_dim_names, mesh["replicate"].get_local_rank(), mesh["shard"].get_local_rank()


def test_the_grid_puts_neighbours_on_the_last_axis(crew: Crew) -> None:
    names = ("replicate", "shard")
    assert crew.run(4, grid_names) == [(names, 0, 0), (names, 0, 1), (names, 1, 0), (names, 1, 1)]


def test_axes_of_later_versions_are_refused() -> None:
    for axis in ("pipeline", "context", "tensor", "expert"):
        with pytest.raises(ConfigError, match=f"{axis} is 2, but {axis} parallelism comes later"):
            Grid(**{axis: 2})
    with pytest.raises(ConfigError, match="shard is 0"):
        Grid(shard=0)
