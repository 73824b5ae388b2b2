"""Muon: momentum, orthogonalised by Newton-Schulz, for the matrices inside a network.

The update of a weight matrix is replaced by the nearest matrix whose singular values are all about
one, so that rare directions move as far as common ones. Matrices of one shape are orthogonalised
together in batched products: on a CPU a dozen small products cost more in overhead than in work.

Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); the scale by shape follows Liu et al.
2025, arXiv 2502.16982, section 2.2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ingot.optim.optimizer import Group, Optimizer
from ingot.optim.shards import all_local, on_wholes

# Quintic coefficients whose iteration brings singular values in (0, 1] into about (0.7, 1.2).
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalise(matrices: Tensor, iterations: int = 5, dtype: torch.dtype | None = None) -> Tensor:
    """Returns the nearest semi-orthogonal matrices, roughly: singular values between 0.7 and 1.2.

    Args:
        matrices: [n, rows, columns].
        iterations: of Newton-Schulz.
        dtype: to compute in; None keeps that of `matrices`.

    Returns:
        [n, rows, columns] in the dtype computed in.
    """
    x = matrices if dtype is None else matrices.to(dtype)
    wide = x.shape[-2] <= x.shape[-1]
    if not wide:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = _A * x + torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C) @ x
    return x if wide else x.mT


class Muon(Optimizer):
    """Momentum with orthogonalised updates, for two-dimensional weights.

    Under fully sharded data parallelism each rank owns some of the matrices of a shape: it gets their
    parts, orthogonalises them whole, and sends the parts of the updates back.

    Args:
        parameters: matrices only.
        rate: learning rate of a unit update; an update's root mean square is about 0.2 * rate.
        momentum: share of the last update kept (Nesterov).
        weight_decay: decoupled; per step the weights shrink by rate * weight_decay.
        dtype: of the Newton-Schulz products; bf16 suffices where it is fast.

    Raises:
        ValueError: a parameter is no matrix.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        rate: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(parameters, {"lr": rate, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.dim() not in (2, 3):
                    raise ValueError(f"Muon takes matrices, got a parameter of shape {list(parameter.shape)}")

    def fresh(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns a momentum of zero."""
        return {"momentum": torch.zeros_like(parameter)}

    def update(self, parameters: list[Tensor], gradients: list[Tensor], group: Group) -> None:
        """Makes one step, all matrices of one shape together."""
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            by_shape[parameter.shape].append((parameter, gradient))
        for shape, pairs in by_shape.items():
            self._step_together([p for p, _ in pairs], [g for _, g in pairs], shape, group)

    def _step_together(
        self, parameters: list[Tensor], gradients: list[Tensor], shape: torch.Size, group: Group
    ) -> None:
        weights, parts = all_local(parameters), all_local(gradients)
        momenta = all_local(self.kept(parameters, "momentum"))
        torch._foreach_lerp_(momenta, parts, 1 - group["momentum"])
        looked_ahead = torch._foreach_lerp(parts, momenta, group["momentum"])
        whole = partial(orthogonalise, dtype=self.dtype)
        if len(shape) == 3:  # stacks are cut between their matrices, if at all
            updates = [whole(stack) for stack in looked_ahead]
        else:
            updates = on_wholes(looked_ahead, parameters[0], whole)
        # An orthogonal matrix has a root mean square of 1/sqrt(longer side): undo that, so that one
        # rate suits all shapes.
        scale = 0.2 * max(shape[-2:]) ** 0.5
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        updates = [update.to(weights[0].dtype) for update in updates]
        torch._foreach_add_(weights, updates, alpha=-group["lr"] * scale)
