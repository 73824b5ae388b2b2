"""Four ranks: the walk of one process, and checkpoints that fewer ranks go on from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from spawn import Crew
from test_trajectory import DDP, FSDP, RATES, same_path, walk

from ingot.parallel.ranks import ALONE


@pytest.mark.parametrize("values", [DDP, FSDP], ids=["ddp", "fsdp"])
def test_saved_by_four_ranks_and_gone_on_with_by_two_and_by_one(
    crew: Crew, tmp_path: Path, values: dict[str, Any]
) -> None:
    whole = walk(ALONE, {}, RATES, (0, 4))
    first = crew.run(4, walk, values, RATES, (0, 2), tmp_path / "saved")[0]
    for world in (2, 1):
        copy = tmp_path / str(world)
        shutil.copytree(tmp_path / "saved", copy)
        rest = crew.run(world, walk, values, RATES, (2, 4), copy)[0]
        same_path((first[0] + rest[0], rest[1]), whole)
