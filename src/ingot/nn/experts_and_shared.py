"""Experts beside one for all tokens, of which each token takes the share that a gate lets through."""

from __future__ import annotations

from torch import Tensor, nn

from ingot.nn.experts import Experts, ExpertsConfig
from ingot.nn.feed_forward import Activation, GatedFeedForward
from ingot.nn.linear import Linear


class ExpertsAndShared(nn.Module):
    """A feed-forward layer: experts(x) + sigmoid(share(x)) * shared(x).

    Args:
        width: d.
        config: of the experts; `shared` is the inner width of the one for all.
        activation: of the gates.

    Raises:
        ValueError: the configuration has no shared expert.

    Source: Qwen Team 2024, arXiv 2407.10671, section 2.2.2; the gate as in their published code.
    """

    def __init__(self, width: int, config: ExpertsConfig, activation: Activation) -> None:
        super().__init__()
        if config.shared is None:
            raise ValueError("no width of a shared expert")
        self.experts = Experts(width, config.model_copy(update={"shared": None}), activation)
        self.shared = GatedFeedForward(width, config.shared, activation)
        self.share = Linear(width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x [..., d]. Returns: the same shape."""
        return self.experts(x) + self.share(x).sigmoid() * self.shared(x)
