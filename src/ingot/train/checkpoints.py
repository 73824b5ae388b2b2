"""The checkpoints of a training run: saved by one process or by several, taken up only by the same run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingot.atomic import sweep
from ingot.checkpoint.store import Checkpoint, CheckpointStore
from ingot.errors import ConfigError
from ingot.parallel.ranks import Ranks
from ingot.train.config import KEPT, TrainConfig
from ingot.train.state import TrainState

if TYPE_CHECKING:
    from ingot.checkpoint.sharded import ShardedStore


def open_store(folder: Path, ranks: Ranks, keep: int = 2) -> CheckpointStore | ShardedStore:
    """Returns the store that suits the ranks, and what lies in the folder already.

    What a kill left of a checkpoint that was being saved, or removed, goes away.
    """
    if ranks.lead and folder.is_dir():
        sweep(folder)
    if ranks.world == 1 and not any(folder.glob("step-*/shard-*")):
        return CheckpointStore(folder, keep)
    from ingot.checkpoint.sharded import ShardedStore  # takes half a second

    return ShardedStore(folder, keep, ranks)


class Checkpoints:
    """Saves and finds the states of one run.

    Args:
        folder: where they lie.
        ranks: this process and its fellows; all of them call each method.
        run: what the run cannot change on its way, in words and values (None: unknown).
    """

    def __init__(self, folder: Path, ranks: Ranks, run: Mapping[str, Any]) -> None:
        self.folder = folder
        self.ranks = ranks
        self.run = run
        self.store = open_store(folder, ranks)

    def save(self, state: TrainState, config: TrainConfig) -> Path:
        """Makes the state the newest checkpoint, and returns its folder."""
        choices = {name: getattr(config, name) for name in KEPT}
        about = {"run": dict(self.run), "choices": {**choices, "ranks": self.ranks.world}}
        self.store.save(state.checkpoint(about))
        return self.folder / f"step-{state.step:08d}"

    def newest(self, state: TrainState) -> Checkpoint | None:
        """Returns the newest checkpoint that is whole, or None.

        Args:
            state: of the run; sharded tensors are read into its own.

        Raises:
            ConfigError: it is of another run, or of another model.
        """
        if isinstance(self.store, CheckpointStore):
            checkpoint = self.store.newest()
        elif self.ranks.any(any(self.folder.glob("step-*"))):
            state.optimizer.prepare()
            checkpoint = self.store.newest(state.tensors())
        else:
            checkpoint = None
        if checkpoint is not None:
            self._same_run(checkpoint.state.get("run", {}))
        return checkpoint

    def choices(self, checkpoint: Checkpoint, config: TrainConfig) -> dict[str, Any]:
        """Returns what of a configuration has to give way to what the run began with.

        Another number of ranks has other rows: it may have another micro-batch.
        """
        saved = checkpoint.state.get("choices", {})
        names = KEPT if saved.get("ranks") == self.ranks.world else KEPT[:-1]
        return {name: saved[name] for name in names if name in saved and saved[name] != getattr(config, name)}

    def _same_run(self, saved: Mapping[str, Any]) -> None:
        for name, value in self.run.items():
            before = saved.get(name)
            if None not in (before, value) and before != value:
                what = f"the checkpoint has {name} {_short(before)}, this run has {_short(value)}"
                fix = "go on with what the run began with, or start anew in another folder"
                raise ConfigError(what, where=self.folder, fix=fix)


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) > 40 else text
