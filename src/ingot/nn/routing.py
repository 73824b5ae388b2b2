"""Routing: which experts each token goes through, how much each counts, and how they are kept busy.

```
x -> logits -> scores -> the best k -> weights = scores of those k (normalised, scaled)
                 + bias, for the choice only, moved against the load     (balance_bias)
        z-loss   load * mean score                                       (router_z, balance_loss)
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

if TYPE_CHECKING:
    from ingot.nn.experts import ExpertsConfig


class Routing(NamedTuple):
    """Where n tokens go."""

    experts: Tensor  # [n, k] int64, the best first
    weights: Tensor  # [n, k] float32
    counts: Tensor  # [x] int64, tokens of each expert


class Router(nn.Module):
    """Chooses experts for tokens; scores are float32 whatever the precision of the rest.

    Args:
        width: d.
        config: of the experts.

    Attributes:
        load: [x], how many tokens went to each expert in training passes since it was last set to zero.
        bias: [x], what is added to scores for the choice; None without `balance_bias`.
        auxiliary: what the last training pass adds to the loss per token, until `taken`; None where
            nothing is to be added.

    Source: Shazeer et al. 2017, arXiv 1701.06538, section 2.1; in float32: Fedus et al. 2021, arXiv
    2101.03961, section 2.4; groups, sigmoid and bias: DeepSeek-V3 2024, arXiv 2412.19437, section 2.1.2.
    """

    load: Tensor
    bias: Tensor | None

    def __init__(self, width: int, config: ExpertsConfig) -> None:
        super().__init__()
        self.config = config
        self.in_features = width
        bound = (3 / width) ** 0.5
        self.weight = nn.Parameter(torch.empty(config.count, width).uniform_(-bound, bound))
        self.register_buffer("load", torch.zeros(config.count), persistent=False)
        self.register_buffer("bias", None if config.balance_bias is None else torch.zeros(config.count))
        self.auxiliary: Tensor | None = None

    def forward(self, x: Tensor) -> Routing:
        """Args: x [n, d]. Returns: where its tokens go."""
        with torch.autocast(x.device.type, enabled=False):
            wide = torch.float32 if self.config.router_precision == "float32" else self.weight.dtype
            logits = linear(x.to(wide), self.weight.to(wide)).float()  # [n, x]
        scores = logits.softmax(-1) if self.config.scoring == "softmax" else logits.sigmoid()
        experts = self._choice(scores.detach())
        weights = scores.gather(1, experts)
        if self.config.normalised:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        flat = experts.flatten()
        counts = torch.zeros_like(self.load, dtype=torch.int64).scatter_add_(0, flat, torch.ones_like(flat))
        if self.training:
            self.load += counts
            if torch.is_grad_enabled():
                self.auxiliary = self._terms(logits, scores, counts)
        return Routing(experts, weights * self.config.scale, counts)

    def _choice(self, scores: Tensor) -> Tensor:
        """The best k experts of each token, [n, k], from scores [n, x] without gradient."""
        config = self.config
        if self.bias is not None:
            scores = scores + self.bias
        if config.groups > 1:
            grouped = scores.unflatten(1, (config.groups, -1))  # [n, groups, x / groups]
            # A group is as good as its best expert, or with sigmoids as its best two together.
            best = grouped.topk(min(2, grouped.shape[2]) if config.scoring == "sigmoid" else 1).values.sum(-1)
            chosen = torch.zeros_like(best).scatter_(1, best.topk(config.chosen_groups).indices, 1.0)
            scores = grouped.masked_fill(chosen[..., None] == 0, float("-inf")).flatten(1)
        return scores.topk(config.chosen).indices

    def _terms(self, logits: Tensor, scores: Tensor, counts: Tensor) -> Tensor | None:
        config = self.config
        total = None
        if config.balance_loss is not None:
            total = config.balance_loss * balance_loss(scores, counts)
        if config.router_z is not None:
            z = config.router_z * z_loss(logits)
            total = z if total is None else total + z
        return total

    def taken(self) -> Tensor | None:
        """Returns `auxiliary`, which is None from then on."""
        auxiliary, self.auxiliary = self.auxiliary, None
        return auxiliary

    @torch.no_grad()
    def shift(self, load: Tensor) -> None:
        """Moves the bias, where there is one, against the load: up by `balance_bias` for experts with less
        than the mean, down for those with more.

        Args:
            load: [x], tokens of each expert in all that an update saw.

        Source: Wang et al. 2024, arXiv 2408.15664, algorithm 1.
        """
        if self.bias is not None and self.config.balance_bias is not None:
            self.bias += self.config.balance_bias * (load.mean() - load).sign()

    def _apply(self, function: Any, recurse: bool = True) -> Self:
        """Moves to another device but leaves load and bias in float32: bf16 counts to 256, and the small
        steps of a bias would be lost in it."""
        kept = {name: buffer for name in ("load", "bias") if (buffer := getattr(self, name)) is not None}
        super()._apply(function, recurse)
        for name, buffer in kept.items():
            if (now := getattr(self, name)).dtype != buffer.dtype:
                setattr(self, name, buffer.to(now.device))
        return self

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins without what is left of a pass: such a tensor cannot be copied."""
        return {**self.__dict__, "auxiliary": None}


def balance_loss(scores: Tensor, counts: Tensor) -> Tensor:
    """Returns 1 where all experts are equally busy, and up to x where one does everything.

        x * sum over experts of (share of the choices * mean share of the scores)

    Args:
        scores: [n, x], not negative.
        counts: [x], choices.

    Source: Fedus et al. 2021 (Switch), arXiv 2101.03961, equation 4; for k choices as in GShard and Mixtral,
    divided by k.
    """
    shares = counts / counts.sum()
    chances = (scores / scores.sum(-1, keepdim=True)).mean(0)
    return len(counts) * (shares * chances).sum()


def z_loss(logits: Tensor) -> Tensor:
    """Returns the mean squared logarithm of the softmax's denominator.

    Args:
        logits: [n, x].

    Source: Zoph et al. 2022 (ST-MoE), arXiv 2202.08906, equation 5.
    """
    return logits.logsumexp(-1).square().mean()


def auxiliary(model: nn.Module) -> Tensor | None:
    """Takes from all routers of a model what the last training pass adds to the loss, per token.

    Args:
        model: that has just run.

    Returns:
        The sum over the layers; None where there is nothing.
    """
    terms = [m.taken() for m in model.modules() if isinstance(m, Router)]
    found = [term for term in terms if term is not None]
    return torch.stack(found).sum() if found else None
