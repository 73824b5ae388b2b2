"""All that survives a step of training, in one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ingot.checkpoint.store import Checkpoint
from ingot.optim.joint import Joint


@dataclass
class TrainState:
    """Where a run stands.

    `weight` sums what the objective counted (tokens, mostly); `seconds` is the time spent training,
    kills not counted; `skipped` counts updates that the guard refused.
    """

    model: nn.Module
    optimizer: Joint
    step: int = 0
    weight: float = 0.0
    seconds: float = 0.0
    skipped: int = 0
    skipped_in_row: int = 0

    def checkpoint(self) -> Checkpoint:
        """Returns the state as tensors and plain numbers."""
        tensors: dict[str, Tensor] = {f"model.{name}": p for name, p in self.model.named_parameters()}
        tensors |= {f"optimizer.{name}": t for name, t in self.optimizer.tensors().items()}
        return Checkpoint(self.step, tensors, self._numbers())

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes back the state of a checkpoint."""
        parameters = dict(self.model.named_parameters())
        optimizer = {}
        for name, tensor in checkpoint.tensors.items():
            owner, _, inner = name.partition(".")
            if owner == "model":
                parameters[inner].data.copy_(tensor)
            else:
                optimizer[inner] = tensor
        self.optimizer.restore(optimizer)
        self.step = checkpoint.step
        for name in self._numbers():
            setattr(self, name, checkpoint.state[name])

    def _numbers(self) -> dict[str, Any]:
        return {
            "weight": self.weight,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "skipped_in_row": self.skipped_in_row,
        }
