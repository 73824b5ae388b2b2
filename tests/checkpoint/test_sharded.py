"""Checkpoints cut over ranks: whole or absent, readable by any number of ranks, nothing pickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import safe_open
from spawn import Crew
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from ingot.checkpoint.sharded import ShardedStore
from ingot.checkpoint.store import Checkpoint, CheckpointStore
from ingot.errors import ArtifactError, IngotError, ResourceError
from ingot.parallel.ranks import ALONE, Ranks

SHAPES = {
    "model.even": (12, 4),
    "model.odd": (7, 3),
    "model.short": (2, 5),  # shorter than the ranks: some hold nothing of it
    "model.vector": (5,),
    "optimizer.0.step": (),
    "optimizer.0.moments": (7, 3),
}
PLAIN = ("optimizer.0.step",)
STATE = {"weight": 12.5, "guard": {"window": [0.1, 1e-300]}, "words": "ä"}


def whole(step: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    made = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    made["model.bf16"] = torch.randn(6, 2, generator=generator).bfloat16()
    return made


def cut(ranks: Ranks, tensors: dict[str, Tensor], copies: int = 1) -> dict[str, Tensor]:
    """The tensors cut over the ranks along their first dimension; scalars stay whole."""
    if ranks.world == 1:
        return {name: tensor.clone() for name, tensor in tensors.items()}
    if copies > 1:
        mesh = init_device_mesh("cpu", (copies, ranks.world // copies), mesh_dim_names=("replicate", "shard"))
        placements: list[Any] = [Replicate(), Shard(0)]
    else:
        mesh, placements = init_device_mesh("cpu", (ranks.world,)), [Shard(0)]
    return {
        name: tensor.clone() if name in PLAIN else distribute_tensor(tensor, mesh, placements)
        for name, tensor in tensors.items()
    }


def save(ranks: Ranks, folder: Path, steps: list[int], copies: int = 1) -> None:
    store = ShardedStore(folder, 2, ranks)
    for step in steps:
        store.save(Checkpoint(step, cut(ranks, whole(step), copies), STATE | {"step": step}))


def load(ranks: Ranks, folder: Path) -> tuple[int, dict[str, Any], bool] | None:
    """Fills cut zeros, and returns step, state, and whether every value and bit is right."""
    into = cut(ranks, {name: torch.zeros_like(tensor) for name, tensor in whole().items()})
    found = ShardedStore(folder, 2, ranks).newest(into)
    if found is None:
        return None
    expected, right = whole(found.step), found.tensors.keys() == whole().keys()
    for name, tensor in into.items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        given = found.tensors[name]
        given = given.full_tensor() if isinstance(given, DTensor) else given
        right &= full.dtype == expected[name].dtype
        right &= torch.equal(full, expected[name]) and torch.equal(given, expected[name])
    return found.step, found.state, right


@pytest.mark.parametrize("writers", [1, 2, 3, 4])
def test_any_number_of_ranks_reads_what_any_other_wrote(crew: Crew, tmp_path: Path, writers: int) -> None:
    crew.run(writers, save, tmp_path, [4])
    for readers in (1, 2, 3, 4):
        for answer in crew.run(readers, load, tmp_path):
            assert answer is not None
            step, state, right = answer
            assert (step, right) == (4, True)
            assert {name: state[name] for name in STATE} == STATE


def test_copies_are_written_once(crew: Crew, tmp_path: Path) -> None:
    crew.run(4, save, tmp_path, [1], 2)
    elements = 0
    for path in (tmp_path / "step-00000001").glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            elements += sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert elements == sum(tensor.numel() for tensor in whole().values())
    assert crew.run(3, load, tmp_path)[0][2]


def test_folders_hold_safetensors_and_json_only_and_the_newest_stay(crew: Crew, tmp_path: Path) -> None:
    crew.run(2, save, tmp_path, [1, 2, 3])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    files = {path.name for path in (tmp_path / "step-00000003").iterdir()}
    assert {Path(name).suffix for name in files} == {".safetensors", ".json"}
    state = json.loads((tmp_path / "step-00000003" / "state.json").read_text())
    assert set(state["sha256"]) == files - {"state.json"}
    assert len(state["sha256"]) == 2


def test_one_process_alone_reads_all_without_being_told_the_names(crew: Crew, tmp_path: Path) -> None:
    crew.run(3, save, tmp_path, [9])
    found = ShardedStore(tmp_path, 2, ALONE).newest()
    assert found is not None
    assert found.tensors.keys() == whole().keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in whole(9).items())


def test_whole_tensors_make_the_plain_stores_folder(crew: Crew, tmp_path: Path) -> None:
    def read(found: Checkpoint | None) -> dict[str, Tensor]:
        assert found is not None
        assert found.step == 5
        return found.tensors

    crew.run(2, save_plain, tmp_path)
    one, other = (
        read(CheckpointStore(tmp_path).newest()),
        read(ShardedStore(tmp_path, 2, ALONE).newest()),
    )
    assert all(torch.equal(one[name], tensor) for name, tensor in whole(5).items())
    assert all(torch.equal(other[name], tensor) for name, tensor in whole(5).items())
    assert crew.run(3, load, tmp_path)[2][2]  # type: ignore[index]


def save_plain(ranks: Ranks, folder: Path) -> None:
    ShardedStore(folder, 2, ranks).save(Checkpoint(5, whole(5), STATE))


@pytest.mark.parametrize("harm", ["flip", "drop", "state"])
@pytest.mark.parametrize("file", [0, 1])
def test_all_ranks_pass_over_a_damaged_newest(crew: Crew, tmp_path: Path, harm: str, file: int) -> None:
    crew.run(2, save, tmp_path, [1, 2])
    victim = sorted((tmp_path / "step-00000002").glob("*.safetensors"))[file]
    if harm == "flip":
        content = bytearray(victim.read_bytes())
        content[-1] ^= 1
        victim.write_bytes(content)
    elif harm == "drop":
        victim.unlink()
    else:
        (tmp_path / "step-00000002" / "state.json").write_text('{"step":')
    for readers in (1, 2, 3):
        for answer in crew.run(readers, load, tmp_path):
            assert answer is not None
            assert (answer[0], answer[2]) == (1, True)
    crew.run(2, save, tmp_path, [2])  # the run comes to that step again
    assert crew.run(2, load, tmp_path)[1][0] == 2


def fail(ranks: Ranks, folder: Path, who: int) -> tuple[str, list[str]]:
    from ingot.checkpoint import sharded

    real = sharded.parts.HuggingFaceStorageWriter.write_data
    if ranks.rank == who:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        sharded.parts.HuggingFaceStorageWriter.write_data = full
    try:
        ShardedStore(folder, 2, ranks).save(Checkpoint(2, cut(ranks, whole(2)), STATE))
    except (IngotError, OSError) as error:
        ranks.barrier()
        return str(error), sorted(path.name for path in folder.iterdir())
    finally:
        sharded.parts.HuggingFaceStorageWriter.write_data = real
    return "saved", []


@pytest.mark.parametrize("who", [0, 1])
def test_a_full_disk_on_one_rank_stops_all_and_publishes_nothing(
    crew: Crew, tmp_path: Path, who: int
) -> None:
    crew.run(2, save, tmp_path, [1])
    for text, left in crew.run(2, fail, tmp_path, who):
        assert "No space left on device" in text
        assert left == ["step-00000001"]


def unseen(ranks: Ranks, folder: Path) -> str:
    store = ShardedStore(folder, 2, ranks)
    if ranks.rank == 1:
        store._see = lambda _: ShardedStore._see(store, folder / "elsewhere")  # type: ignore[method-assign]
    try:
        store.save(Checkpoint(2, cut(ranks, whole(2)), STATE))
    except ResourceError as error:
        return str(error)
    return "saved"


def test_ranks_without_a_common_folder_say_so(crew: Crew, tmp_path: Path) -> None:
    first, second = crew.run(2, unseen, tmp_path)
    assert "rank 1 could not read or write its part of a checkpoint (ResourceError: " in first
    assert "rank 1 does not see the folder that rank 0 made" in second
    assert list(tmp_path.iterdir()) == []


def mismatch(ranks: Ranks, folder: Path) -> list[str]:
    store, said = ShardedStore(folder, 2, ranks), []
    for into in ({"model.new": torch.zeros(1)}, {"model.odd": torch.zeros(8, 3)}):
        try:
            store.newest(into)
        except ArtifactError as error:
            said.append(str(error))
    return said


def test_another_architecture_is_refused_with_both_values(crew: Crew, tmp_path: Path) -> None:
    crew.run(2, save, tmp_path, [1])
    for missing, shape in crew.run(2, mismatch, tmp_path):
        assert "has no tensor 'model.new'" in missing
        assert "'model.odd' has the shape [7, 3] there and [8, 3] here" in shape


def test_an_empty_folder_holds_nothing(crew: Crew, tmp_path: Path) -> None:
    assert crew.run(2, load, tmp_path / "none") == [None, None]


def cleared(ranks: Ranks, folder: Path) -> bool:
    ShardedStore(folder, 2, ranks).clear()
    return folder.exists()


def test_clear_removes_all(crew: Crew, tmp_path: Path) -> None:
    crew.run(2, save, tmp_path / "run", [1])
    assert crew.run(2, cleared, tmp_path / "run") == [False, False]
