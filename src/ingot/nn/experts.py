"""Mixture of experts: of many feed-forward layers, each token goes through the few that suit it.

```
x [n, d] -> router: k experts and weights per token -> n * k rows, sorted by expert
         -> gate, up, down: one matrix product per expert -> weighted sum of each token's k rows
                                                           + what the shared expert makes of all tokens
```

No token is ever dropped: an expert works on as many as come to it.

| letter | meaning | letter | meaning |
|---|---|---|---|
| n | tokens, b * t | x | experts |
| d | model width | k | experts of a token |
| f | inner width of an expert | | |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, silu

from ingot.config import Config
from ingot.nn.feed_forward import GatedFeedForward
from ingot.nn.grouped_product import grouped_product
from ingot.nn.mixed import shortened
from ingot.nn.routing import Router


class ExpertsConfig(Config):
    """Which experts a feed-forward layer has, and how a token finds its own.

    Args:
        count: x, experts.
        chosen: k, experts that each token goes through.
        width: f, inner width of each.
        shared: inner width of a further expert that every token goes through; None has none.
        scoring: how the router's logits become scores: `softmax` over all experts (Mixtral, Qwen3-MoE,
            DeepSeek-V2) or a `sigmoid` of each (DeepSeek-V3).
        normalised: whether the scores of the chosen are divided by their sum.
        scale: that the scores of the chosen are multiplied by.
        groups: that the experts stand in; a token chooses among the experts of the best groups only.
        chosen_groups: how many groups that is.
        balance_loss: weight of a term of the loss that is least where all are equally busy; None has none.
        balance_bias: how far an update moves a number per expert that is added to its score for the choice
            alone, against its load; None has no such numbers. For `sigmoid`: of a softmax, second scores are
            so small that any bias outweighs them, and tokens change their expert in herds.
        router_z: weight of the router's z-loss, which keeps its logits small; None has none.
        router_precision: of the router's logits: that of its `weights`, which is float32 in training, or
            always `float32` (DeepSeek).
    """

    count: int = Field(gt=0)
    chosen: int = Field(gt=0)
    width: int = Field(gt=0)
    shared: int | None = Field(default=None, gt=0)
    scoring: Literal["softmax", "sigmoid"] = "softmax"
    normalised: bool = True
    scale: float = Field(default=1.0, gt=0)
    groups: int = Field(default=1, gt=0)
    chosen_groups: int = Field(default=1, gt=0)
    balance_loss: float | None = Field(default=None, gt=0)
    balance_bias: float | None = Field(default=None, gt=0)
    router_z: float | None = Field(default=None, gt=0)
    router_precision: Literal["float32", "weights"] = "weights"

    @model_validator(mode="after")
    def _numbers_fit(self) -> Self:
        if self.count % self.groups:
            raise ValueError(f"count ({self.count}) must be a multiple of groups ({self.groups})")
        if self.chosen_groups > self.groups:
            raise ValueError(f"chosen_groups ({self.chosen_groups}) is more than groups ({self.groups})")
        within = self.count // self.groups * self.chosen_groups
        if self.chosen > within:
            raise ValueError(f"chosen ({self.chosen}) is more than the {within} experts there are to choose")
        return self


class Stacked(nn.Module):
    """Linear layers without bias, one per expert: y = W_x x.

    Args:
        count: x.
        in_features: i.
        out_features: o.
    """

    bias: nn.Parameter | None

    def __init__(self, count: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        bound = (3 / in_features) ** 0.5
        self.weight = nn.Parameter(torch.empty(count, out_features, in_features).uniform_(-bound, bound))
        self.register_parameter("bias", None)

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        """Args: x [m, i], rows sorted by expert; counts [x], rows of each. Returns: [m, o]."""
        return grouped_product(x, self.weight, counts)


class GatedStack(nn.Module):
    """Gated feed-forward layers, one per expert: down(activation(gate(x)) * up(x)).

    Args:
        count: x.
        width: d.
        feed_forward: f, inner width of each.
        activation: of the gates.
    """

    def __init__(
        self, count: int, width: int, feed_forward: int, activation: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.gate = Stacked(count, width, feed_forward)
        self.up = Stacked(count, width, feed_forward)
        self.down = Stacked(count, feed_forward, width)
        self.activation = activation

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        """Args: x [m, d], rows sorted by expert; counts [x], rows of each. Returns: [m, d]."""
        return self.down(self.activation(self.gate(x, counts)) * self.up(x, counts), counts)

    def one(self, x: Tensor, experts: list[int]) -> Tensor:
        """What some experts make of a single token: half the time of sorting and grouping one row.

        Args: x [d], in the weights' dtype; experts, k numbers. Returns: [k, d].
        """
        gate, up, down = self.gate.weight, self.up.weight, self.down.weight
        return torch.stack([down[e] @ (self.activation(gate[e] @ x) * (up[e] @ x)) for e in experts])


class Experts(nn.Module):
    """A feed-forward layer of gated experts: the weighted sum of what a token's experts make of it.

    An expert that all tokens go through is added with weight 1 (Dai et al. 2024, DeepSeekMoE, arXiv
    2401.06066, section 3.2).

    Args:
        width: d.
        config: which experts, and how they are chosen.
        activation: of the gates.

    Source: Shazeer et al. 2017, arXiv 1701.06538, section 2; dropless: Gale et al. 2022, arXiv 2211.15841.

    Example:
        >>> Experts(8, ExpertsConfig(count=4, chosen=2, width=16))(torch.zeros(1, 3, 8)).shape
        torch.Size([1, 3, 8])
    """

    def __init__(
        self, width: int, config: ExpertsConfig, activation: Callable[[Tensor], Tensor] = silu
    ) -> None:
        super().__init__()
        self.router = Router(width, config)
        self.experts = GatedStack(config.count, width, config.width, activation)
        self.shared: nn.Module | None = None
        if config.shared is not None:
            self.shared = GatedFeedForward(width, config.shared, activation)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x [..., d]. Returns: the same shape."""
        rows = shortened(x.reshape(-1, x.shape[-1]))  # [n, d]
        experts, weights, counts = self.router(rows)
        weights = weights.to(rows.dtype)
        mixed: Tensor
        if self._single(rows):
            mixed = weights @ self.experts.one(rows[0], experts[0].tolist())  # [1, k] @ [k, d]
        else:
            order = experts.flatten().argsort(stable=True)  # [n * k]: which choice each sorted row is
            place = order.argsort().view_as(experts)  # [n, k]: where each choice's row is
            made = self.experts(_Send.apply(rows, order, place), counts)  # [n * k, d]
            mixed = _Gather.apply(made, weights, order, place)
        if self.shared is not None:
            mixed = mixed + self.shared(rows)
        return mixed.view_as(x)

    def _single(self, rows: Tensor) -> bool:
        """Whether this is one token's pass of plain experts, without a gradient, as when text is written."""
        if len(rows) != 1 or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return False
        stacks = [self.experts.gate, self.experts.up, self.experts.down]
        return all(s.bias is None and s.weight.dtype == rows.dtype for s in stacks)


class _Send(torch.autograd.Function):
    """A copy of each token's row for each of its experts, sorted by expert."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        return x[order // place.shape[1]]

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None, None]:
        (place,) = ctx.saved_tensors
        return _sums(given, given.new_ones(place.shape), place), None, None


class _Gather(torch.autograd.Function):
    """The weighted sum of each token's rows."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, weights: Tensor, order: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(y, weights, order, place)
        return _sums(y, weights, place)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor, None, None]:
        y, weights, order, place = ctx.saved_tensors
        sent = given[order // place.shape[1]]  # [n * k, d]
        to_y = sent * weights.flatten()[order, None]
        to_weights = (sent * y).sum(-1)[place]
        return to_y, to_weights, None, None


def _sums(rows: Tensor, weights: Tensor, place: Tensor) -> Tensor:
    """Weighted sums of k rows each: [m, d], [n, k] and their places [n, k] -> [n, d].

    As a bag of embeddings: nothing of size n * k * d is made, and sums are in a fixed order.
    """
    return embedding_bag(place, rows, per_sample_weights=weights, mode="sum")
