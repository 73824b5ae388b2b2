"""A folder of checkpoints: each whole or absent, the newest few kept, damaged ones passed over.

```
checkpoints/step-00000200/   tensors.safetensors   state.json (plain numbers, and the hash of the tensors)
```

Tensors and JSON only: nothing is pickled.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ingot.atomic import publish, remove
from ingot.record import file_hash

_NAME = re.compile(r"step-(?P<step>[0-9]{8})")


class Checkpoint(NamedTuple):
    """The state after `step` updates."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class CheckpointStore:
    """Saves and finds the checkpoints of one run.

    Args:
        folder: where they lie; made when the first is saved.
        keep: how many of the newest stay.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, checkpoint: Checkpoint) -> None:
        """Publishes a checkpoint, then drops those that are too old.

        A checkpoint of that step that is there already is replaced: it was found to be damaged, or
        it holds the same.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        final = self.folder / f"step-{checkpoint.step:08d}"
        if final.exists():
            remove(final)
        with publish(final) as folder:
            save_file(
                {k: v.detach().contiguous() for k, v in checkpoint.tensors.items()},
                folder / "tensors.safetensors",
            )
            state = {
                **checkpoint.state,
                "step": checkpoint.step,
                "sha256": file_hash(folder / "tensors.safetensors"),
            }
            (folder / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
        for _, old in self._found()[: -self.keep]:
            remove(old)

    def newest(self) -> Checkpoint | None:
        """Returns the newest checkpoint that is whole, or None."""
        for step, folder in reversed(self._found()):
            try:
                state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
                if file_hash(folder / "tensors.safetensors") != state["sha256"]:
                    continue
                return Checkpoint(step, load_file(folder / "tensors.safetensors"), state)
            except (OSError, ValueError, KeyError, SafetensorError):
                continue
        return None

    def clear(self) -> None:
        """Removes all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _found(self) -> list[tuple[int, Path]]:
        if not self.folder.is_dir():
            return []
        names = ((_NAME.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted((int(match["step"]), path) for match, path in names if match)
