"""What the optimizers here share: the walk over the groups, and a state that can be made ahead."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

Group = dict[str, Any]


class Optimizer(torch.optim.Optimizer, ABC):
    """Base of the optimizers: each says what its state is before the first step, and what a step does.

    The learning rate of a group is `group["lr"]`, as everywhere in PyTorch. A parameter without a
    gradient is left alone.

    Args:
        parameters: tensors, or groups of them with settings of their own.
        defaults: settings of the groups that say nothing else.
    """

    def __init__(self, parameters: Iterable[Any], defaults: Group) -> None:
        super().__init__(parameters, defaults)

    @abstractmethod
    def fresh(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns the state of a parameter before its first step."""

    @abstractmethod
    def update(self, parameters: list[Tensor], gradients: list[Tensor], group: Group) -> None:
        """Makes one step for parameters of one group; their state exists.

        Args:
            parameters: changed in place.
            gradients: of these parameters, in the same order.
            group: with its rate now, `lr`, and the other settings.
        """

    def prepare(self) -> None:
        """Makes the state of every parameter that has none: a sharded load needs tensors to fill."""
        for group in self.param_groups:
            self._prepare(group["params"])

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._prepare(parameters)
                self.update(parameters, [p.grad for p in parameters], group)

    def kept(self, parameters: list[Tensor], key: str) -> list[Tensor]:
        """Returns one part of the state of every parameter."""
        return [self.state[p][key] for p in parameters]

    def _prepare(self, parameters: list[Tensor]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = self.fresh(parameter)
