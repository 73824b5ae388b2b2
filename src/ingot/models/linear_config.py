"""The sizes of a linear-time decoder, and which parts it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn.functional import silu

from ingot.config import Config
from ingot.nn import delta
from ingot.nn.delta import DeltaConfig
from ingot.nn.experts import ExpertsConfig
from ingot.nn.experts_and_shared import ExpertsAndShared
from ingot.nn.feed_forward import GatedFeedForward
from ingot.nn.initialisation import initialise

if TYPE_CHECKING:
    from ingot.models.linear_decoder import LinearDecoder


class FullAttentionConfig(Config):
    """Which layers of a linear-time decoder attend to all tokens, and how.

    Args:
        every: n; layers n, 2n, ... do, counted from 1.
        heads: h.
        kv_heads: k, a divisor of h.
        head_width: e.
        rope_theta: base of the rotary wavelengths.
        rotary_share: of each head's coordinates that positions turn.
    """

    every: int = Field(default=4, gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_width: int = Field(gt=0)
    rope_theta: float = Field(default=10_000.0, gt=0)
    rotary_share: float = Field(default=0.25, gt=0, le=1)

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.rotary_width < 2 or self.rotary_width % 2:
            turned = f"{self.rotary_share} of head_width ({self.head_width})"
            raise ValueError(
                f"rotary_share: {turned} is {self.rotary_width} coordinates, and pairs are turned"
            )
        return self

    @property
    def rotary_width(self) -> int:
        """Coordinates of each head that positions turn."""
        return int(self.head_width * self.rotary_share)


class LinearDecoderConfig(Config):
    """The sizes of a linear-time decoder.

    Args:
        vocabulary: v, number of tokens.
        width: d.
        layers: on top of one another.
        feed_forward: f, inner width of the feed-forward layers.
        context: tokens of a training window; positions go as far.
        delta: of the layers with a memory of fixed size.
        attention: of the layers that attend to all tokens; None has none of these.
        experts: which the feed-forward layers are made of, `shared` among them; None has plain ones.
        dense_layers: numbers of those that are plain all the same, counted from 0.
        norm_epsilon: of all norms.
        tied: whether the head uses the embedding's weights.
    """

    vocabulary: int = Field(gt=0)
    width: int = Field(gt=0)
    layers: int = Field(gt=0)
    feed_forward: int = Field(gt=0)
    context: int = Field(gt=1)
    delta: DeltaConfig
    attention: FullAttentionConfig | None = None
    experts: ExpertsConfig | None = None
    dense_layers: tuple[int, ...] = ()
    norm_epsilon: float = Field(default=1e-6, gt=0)
    tied: bool = False

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.attention is not None and self.attention.every > self.layers:
            what = f"attention.every is {self.attention.every} of {self.layers} layers: no layer would attend"
            raise ValueError(what)
        if self.experts is not None and self.experts.shared is None:
            raise ValueError("experts.shared (None) must be the inner width of the expert for all tokens")
        return self

    def attends(self, layer: int) -> bool:
        """Whether a layer, counted from 0, is one of attention."""
        return self.attention is not None and (layer + 1) % self.attention.every == 0

    def feed_forward_layer(self, layer: int) -> nn.Module:
        """Returns the fresh feed-forward layer of a layer, counted from 0."""
        if self.experts is not None and layer not in self.dense_layers:
            return ExpertsAndShared(self.width, self.experts, silu)
        return GatedFeedForward(self.width, self.feed_forward, silu)

    def build(self, seed: int = 0) -> LinearDecoder:
        """Returns a freshly initialised model of these sizes."""
        from ingot.models.linear_decoder import LinearDecoder

        model = LinearDecoder(self)
        zero = ("delta.output", "attention.output", "feed_forward.down")
        initialise(model, seed, zero=zero if self.tied else (*zero, "head"))
        delta.start(model, torch.Generator().manual_seed(seed))
        return model
