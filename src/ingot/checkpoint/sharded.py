"""Checkpoints of several ranks: each writes its own part, all of them publish together or not at all.

```
step-00000200/   shard-00001-model-...safetensors   shard-00002-...   state.json (numbers, a hash per file)
```

A folder says where each part belongs in its tensor, so any number of ranks can read it, one by itself
too. Where no tensor is cut over ranks, the folder is `CheckpointStore`'s, written by rank 0.

The parts go through `torch.distributed.checkpoint` and its safetensors storage: its default storage
pickles, and consolidating parts into whole files would write everything twice. (While planning a save,
torch's ranks tell one another in memory, in torch's own way, who writes what; none of that is kept.) All
ranks must see the same folder: on several machines that takes a shared file system.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.distributed import checkpoint as parts
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor

from ingot.atomic import publish, remove, sweep
from ingot.checkpoint.store import Checkpoint, CheckpointStore
from ingot.errors import ArtifactError, ResourceError
from ingot.record import file_hash

T = TypeVar("T")


class Fellows(Protocol):
    """What the store needs of the ranks; `ingot.parallel.ranks.Ranks` is that."""

    @property
    def rank(self) -> int: ...
    @property
    def world(self) -> int: ...
    @property
    def lead(self) -> bool: ...
    @property
    def group(self) -> Any: ...
    def any(self, flag: bool) -> bool: ...
    def share(self, item: Any = None) -> Any: ...
    def gather(self, item: Any) -> list[Any]: ...


class ShardedStore:
    """Saves and finds the checkpoints of a run of any number of ranks; all of them call each method.

    Args:
        folder: where they lie, the same for all ranks; made when the first is saved.
        keep: how many of the newest stay.
        ranks: this process and its fellows.
    """

    def __init__(self, folder: Path, keep: int, ranks: Fellows) -> None:
        self.folder = folder
        self.ranks = ranks
        self.plain = CheckpointStore(folder, keep)

    def save(self, checkpoint: Checkpoint) -> None:
        """Publishes a checkpoint, then drops those that are too old.

        Args:
            checkpoint: tensors, whole or cut over the ranks, under the same names on all ranks; of plain
                tensors and of the state, rank 0's count.

        Raises:
            ResourceError: it could not be written, here or on another rank; nothing was published.
        """
        if not any(isinstance(tensor, DTensor) for tensor in checkpoint.tensors.values()):
            self._together(lambda: self.plain.save(checkpoint) if self.ranks.lead else None)
            return
        final = self._folder(checkpoint.step)
        with ExitStack() as stack:
            aside = self._together(lambda: self._open(stack, final) if self.ranks.lead else None)
            folder = Path(self.ranks.share(None if aside is None else str(aside)))
            self._together(lambda: self._see(folder))
            writer = parts.HuggingFaceStorageWriter(str(folder), save_distributed=True)
            tensors = {name: tensor.detach() for name, tensor in checkpoint.tensors.items()}
            planner = parts.DefaultSavePlanner(flatten_state_dict=False)
            with _plainly():
                parts.save(tensors, storage_writer=writer, planner=planner, process_group=self.ranks.group)
            names = sorted(path.name for path in folder.glob("*.safetensors"))
            mine = self._together(lambda: {name: file_hash(folder / name) for name in self._mine(names)})
            hashes = {name: text for one in self.ranks.gather(mine) for name, text in one.items()}
            state = {**checkpoint.state, "step": checkpoint.step, "sha256": hashes}
            if self.ranks.lead:
                (folder / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
            self._together(stack.close)
        if self.ranks.lead:
            for old in self._steps()[: -self.plain.keep]:
                remove(self._folder(old))

    def newest(self, into: Mapping[str, Tensor] | None = None) -> Checkpoint | None:
        """Returns the newest checkpoint that is whole, or None: the same on all ranks.

        Args:
            into: tensors to fill in place, whole or cut over the ranks; they appear in the checkpoint
                under their names. What the checkpoint has beyond them comes as whole tensors.

        Raises:
            ArtifactError: the checkpoint lacks one of these names, or has it in another shape.
        """
        for step in reversed(self.ranks.share(self._steps())):
            folder = self._folder(step)
            state = self.ranks.share(_state(folder) if self.ranks.lead else None)
            if state is not None and not self.ranks.any(self._damaged(folder, state["sha256"])):
                tensors = self._together(partial(_targets, folder, into or {}))
                with _plainly():
                    reader = parts.HuggingFaceStorageReader(str(folder))
                    planner = parts.DefaultLoadPlanner(flatten_state_dict=False)
                    parts.load(
                        tensors, storage_reader=reader, planner=planner, process_group=self.ranks.group
                    )
                return Checkpoint(step, tensors, state)
        return None

    def clear(self) -> None:
        """Removes all checkpoints."""
        self._together(lambda: self.plain.clear() if self.ranks.lead else None)

    def _open(self, stack: ExitStack, final: Path) -> Path:
        """Rank 0's hidden folder, which takes its name when the stack is closed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        if final.exists():
            remove(final)
        return stack.enter_context(publish(final))

    def _see(self, folder: Path) -> None:
        if not folder.is_dir():
            what = f"rank {self.ranks.rank} does not see the folder that rank 0 made"
            raise ResourceError(what, where=folder, fix="use a folder on a file system that all ranks share")

    def _damaged(self, folder: Path, hashes: str | dict[str, str]) -> bool:
        """Whether one of this rank's share of the files is missing or changed."""
        wanted = {"tensors.safetensors": hashes} if isinstance(hashes, str) else hashes
        try:
            return any(file_hash(folder / name) != wanted[name] for name in self._mine(sorted(wanted)))
        except OSError:
            return True

    def _mine(self, names: list[str]) -> list[str]:
        return names[self.ranks.rank :: self.ranks.world]

    def _together(self, work: Callable[[], T]) -> T:
        """Does local work; where it fails on one rank it fails on all, and nobody waits in vain."""
        result: list[T] = []
        failure: Exception | None = None
        try:
            result.append(work())
        except Exception as error:
            failure = error
        said = self.ranks.gather(None if failure is None else f"{type(failure).__name__}: {failure}")
        if failure is not None:
            raise failure
        for rank, words in enumerate(said):
            if words is not None:
                what = f"rank {rank} could not read or write its part of a checkpoint ({words})"
                raise ResourceError(what, where=self.folder, fix="mend that, then start all ranks again")
        return result[0]

    def _folder(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _steps(self) -> list[int]:
        names = (path.name.removeprefix("step-") for path in self.folder.glob("step-*"))
        return sorted(int(name) for name in names if name.isdigit() and len(name) == 8)


def _state(folder: Path) -> dict[str, Any] | None:
    """The numbers of a checkpoint, or None where they cannot be read."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return state if isinstance(state, dict) and "sha256" in state else None
    except (OSError, ValueError):
        return None


def _targets(folder: Path, into: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The given tensors, and fresh ones for what else the folder holds."""
    found: dict[str, Any] = parts.HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    for name, tensor in into.items():
        if name not in found:
            fix = "go on with the model and optimizer that the run began with"
            raise ArtifactError(f"has no tensor '{name}'", where=folder, fix=fix)
        if found[name].size != tensor.shape:
            what = f"'{name}' has the shape {list(found[name].size)} there and {list(tensor.shape)} here"
            raise ArtifactError(what, where=folder, fix="go on with the model that the run began with")
    targets = {name: tensor.detach() for name, tensor in into.items()}
    for name in found.keys() - into.keys():
        targets[name] = torch.empty(found[name].size, dtype=found[name].properties.dtype)
    return targets


@contextmanager
def _plainly() -> Iterator[None]:
    """No word about a process that is alone on purpose, and the error itself instead of a list of them."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*assuming the intent is to.*")
            yield
    except CheckpointException as error:
        first, _ = next(iter(error.failures.values()))
        raise first from error
