"""The exponential moving average of the weights: it generalises better than the last weights.

    average <- average + (1 - decay) * (weights - average)          after every accepted update

In the first steps the decay is (1 + step) / (10 + step) where that is smaller, so that the weights that
a run began with do not weigh on it for long.

Source: Polyak and Juditsky 1992; the first steps as in TensorFlow's `ExponentialMovingAverage`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ingot.optim.shards import spread_like


class Average:
    """Averages the trained parameters of a model, in float32.

    Args:
        model: with the weights to begin with.
        decay: per update, near 1.

    Attributes:
        tensors: the averages, by the parameters' names.

    Example:
        >>> average = Average(model, 0.999)                                 # doctest: +SKIP
        >>> average.update(step=1)                                          # doctest: +SKIP
        >>> with average.swap():                                            # doctest: +SKIP
        ...     validate(model)
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.tensors = {name: p.detach().to(torch.float32, copy=True) for name, p in trained.items()}
        self._parameters: list[Tensor] = list(trained.values())
        self._averages = list(self.tensors.values())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights of now.

        Args:
            step: how many updates there were, this one counted.
        """
        weights = [p if p.dtype == torch.float32 else p.float() for p in self._parameters]
        torch._foreach_lerp_(self._averages, weights, 1 - min(self.decay, (1 + step) / (10 + step)))

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back the averages of a checkpoint."""
        for name, tensor in self.tensors.items():
            tensor.copy_(spread_like(tensors[name].to(tensor.device), tensor))

    @torch.no_grad()
    def adopt(self) -> None:
        """Gives the model the averaged weights, for good."""
        for parameter, average in zip(self._parameters, self._averages, strict=True):
            parameter.copy_(average)

    @contextmanager
    def swap(self) -> Iterator[None]:
        """Gives the model the averaged weights while the context lasts."""
        weights = [p.detach().clone() for p in self._parameters]
        self.adopt()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, weight in zip(self._parameters, weights, strict=True):
                    parameter.copy_(weight)
