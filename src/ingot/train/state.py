"""All that survives a step of training, in one object."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ingot.checkpoint.store import Checkpoint
from ingot.errors import ConfigError
from ingot.optim.joint import Joint
from ingot.optim.shards import spread_like
from ingot.train.average import Average
from ingot.train.guard import Guard
from ingot.train.patience import Patience
from ingot.train.precision import Scaler

_ANEW = "go on with what the run began with, or start anew in another folder"


@dataclass
class TrainState:
    """Where a run stands.

    `weight` sums what the objective counted (tokens, mostly); `seconds` is the time spent training, kills
    not counted; `salt` counts rollbacks, each of which gave the data another order; `samples` is a hash
    over the ids of all samples so far, in their order; `stopped` says why the run ended before its last
    step. Parts that a run does not use are None.
    """

    model: nn.Module
    optimizer: Joint
    guard: Guard
    average: Average | None = None
    patience: Patience | None = None
    scaler: Scaler | None = None
    step: int = 0
    weight: float = 0.0
    seconds: float = 0.0
    salt: int = 0
    samples: str = ""
    stopped: str | None = None
    accepted: tuple[int, str] = (0, "")  # step and samples of the last accepted update

    def count(self, sample_ids: Tensor, weight: float | None) -> None:
        """Counts a step.

        Args:
            sample_ids: of the global batch.
            weight: what the objective counted in it, or None where the update was refused.
        """
        self.step += 1
        ids = sample_ids.to(torch.int64).numpy().tobytes()
        self.samples = hashlib.blake2b(self.samples.encode() + ids, digest_size=8).hexdigest()
        if weight is not None:
            self.weight += weight
            self.accepted = (self.step, self.samples)
            if self.average is not None:
                self.average.update(self.step)

    def weights(self) -> dict[str, Tensor]:
        """Returns the model's parameters and the buffers that belong to its state, by name."""
        parameters: dict[str, Tensor] = dict(self.model.named_parameters())
        kept = self.model.state_dict(keep_vars=True).keys()
        return parameters | {name: b for name, b in self.model.named_buffers() if name in kept}

    def tensors(self) -> dict[str, Tensor]:
        """Returns everything that is a tensor: `model.`, `optimizer.` and `average.` and their names."""
        named = {f"model.{name}": tensor for name, tensor in self.weights().items()}
        named |= {f"optimizer.{name}": tensor for name, tensor in self.optimizer.tensors().items()}
        if self.average is not None:
            named |= {f"average.{name}": tensor for name, tensor in self.average.tensors.items()}
        return named

    def checkpoint(self, about: Mapping[str, Any] | None = None) -> Checkpoint:
        """Returns the state as tensors and plain numbers.

        Args:
            about: further plain data about the run.
        """
        parts = {name: part.state() for name, part in self._parts().items()}
        return Checkpoint(self.step, self.tensors(), {**(about or {}), **self._numbers(), **parts})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes back the state of a checkpoint.

        Raises:
            ConfigError: it is of another model or optimizer, or lacks what this run needs.
        """
        named: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "average": {}}
        for name, tensor in checkpoint.tensors.items():
            owner, _, inner = name.partition(".")
            named[owner][inner] = tensor
        _same_shapes(named["model"], self.weights())
        if self.average is not None:
            _same_shapes(named["average"], self.average.tensors)
            self.average.restore(named["average"])
        self.adopt(named["model"])
        self.optimizer.restore(named["optimizer"])
        self.step = checkpoint.step
        for name in self._numbers():
            setattr(self, name, checkpoint.state.get(name, getattr(self, name)))
        self.accepted = (self.step, self.samples)
        for name, part in self._parts().items():
            if name in checkpoint.state:
                part.restore(checkpoint.state[name])

    @torch.no_grad()
    def adopt(self, weights: Mapping[str, Tensor]) -> None:
        """Gives the model these weights, by name, whole or cut over ranks as its own are."""
        for name, weight in self.weights().items():
            weight.copy_(spread_like(weights[name].to(weight.device), weight))

    def roll_back(self, checkpoint: Checkpoint | None) -> None:
        """Goes back to a checkpoint, and on from there with the data in another order.

        What was learnt since about the run itself stays: its time, its faults, its best weights. Without
        a checkpoint it goes back to the last accepted update: those refused since did nothing.
        """
        salt, seconds, skipped = self.salt + 1, self.seconds, self.guard.skipped
        best = None if self.patience is None else self.patience.state()
        if checkpoint is None:
            self.step, self.samples = self.accepted
        else:
            self.restore(checkpoint)
        self.salt, self.seconds = salt, seconds
        self.guard.skipped, self.guard.in_row = skipped, 0
        if self.patience is not None and best is not None:
            self.patience.restore(best)

    def _parts(self) -> dict[str, Guard | Patience | Scaler]:
        """The parts whose state is plain data."""
        parts = {"guard": self.guard, "patience": self.patience, "scaler": self.scaler}
        return {name: part for name, part in parts.items() if part is not None}

    def _numbers(self) -> dict[str, Any]:
        names = ("weight", "seconds", "salt", "samples", "stopped")
        return {name: getattr(self, name) for name in names}


def _same_shapes(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> None:
    for name in dict.fromkeys([*ours, *theirs]):
        there, here = (list(side[name].shape) if name in side else "absent" for side in (theirs, ours))
        if there != here:
            what = f"'{name}' is {there} in the checkpoint and {here} in this run"
            raise ConfigError(what, where="model", fix=_ANEW)
