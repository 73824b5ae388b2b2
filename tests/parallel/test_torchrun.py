"""Real ranks under torchrun: they find one another, and a kill in mid-save costs no more than that save."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from spawn import Crew
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from ingot.checkpoint.sharded import ShardedStore
from ingot.checkpoint.store import Checkpoint
from ingot.parallel.ranks import ALONE, Ranks, join, leave


def save_again_and_again(ranks: Ranks, folder: Path, steps: int) -> int:
    """Goes on from the newest checkpoint for some steps, and returns the step that it began with."""
    cut = distribute_tensor(torch.zeros(33, 1000), init_device_mesh("cpu", (ranks.world,)), [Shard(0)])
    store = ShardedStore(folder, 2, ranks)
    found = store.newest({"x": cut})
    start = 0 if found is None else found.step
    assert set(cut.full_tensor().unique().tolist()) == {float(start)}
    for step in range(start + 1, start + steps + 1):
        cut.to_local().fill_(step)
        store.save(Checkpoint(step, {"x": cut}, {"ranks": ranks.world}))
    return start


def alive(pid: int) -> bool:
    """Whether a process exists, were it only as a name that nobody has struck off."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_kill_in_mid_save_leaves_the_last_checkpoint_for_any_number_of_ranks(
    crew: Crew, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", __file__, str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE)
    try:
        while process.poll() is None and not (folder / "step-00000003").exists():
            time.sleep(0.005)
        assert process.poll() is None, process.stderr.read().decode()  # type: ignore[union-attr]
        time.sleep(random.Random(0).random() * 0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # torchrun; its ranks have sessions of their own
        pids = [int(path.read_text()) for path in tmp_path.glob("pid-*")]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        process.communicate()
    end_of_patience = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < end_of_patience:
        time.sleep(0.01)
    lingering = any(map(alive, pids))
    found = ShardedStore(folder, 2, ALONE).newest()
    assert found is not None
    assert found.step >= 3
    assert torch.equal(found.tensors["x"], torch.full((33, 1000), float(found.step)))
    assert crew.run(3, save_again_and_again, folder, 2) == [found.step] * 3
    end = ShardedStore(folder, 2, ALONE).newest()
    assert end is not None
    assert (end.step, end.state["ranks"]) == (found.step + 2, 3)
    names = sorted(path.name for path in folder.iterdir())
    if lingering:  # nobody here buries the dead, and half-made folders of the living stay
        names = [name for name in names if not name.startswith(".")]
    assert names == [f"step-{end.step - 1:08d}", f"step-{end.step:08d}"]


if __name__ == "__main__":
    joined, work = join("cpu"), Path(sys.argv[1])
    (work / f"pid-{joined.rank}").write_text(str(os.getpid()))
    save_again_and_again(joined, work / "checkpoints", 100_000)
    leave()
