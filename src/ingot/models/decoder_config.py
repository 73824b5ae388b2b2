"""What a decoder is made of: its sizes and its parts, and how they are built."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Self, get_args

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn.functional import relu, silu

from ingot.config import Config
from ingot.nn.activations import gelu, gelu_tanh
from ingot.nn.attention import Attention
from ingot.nn.experts import Experts, ExpertsConfig
from ingot.nn.feed_forward import FeedForward, GatedFeedForward, squared_relu
from ingot.nn.initialisation import initialise
from ingot.nn.latent_attention import LatentAttention, LatentConfig
from ingot.nn.norms import AllHeadsRMSNorm, RMSNorm, RMSNormFromOne
from ingot.nn.positions import Alibi, Rotary, Sinusoidal
from ingot.nn.rope_scaling import RopeScaling

if TYPE_CHECKING:
    from ingot.models.decoder import Decoder

Activation = Callable[[Tensor], Tensor]
GATED: dict[str, Activation] = {"swiglu": silu, "geglu": gelu, "geglu_tanh": gelu_tanh}
PLAIN: dict[str, Activation] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": relu,
    "squared_relu": squared_relu,
}
Projection = Literal["query", "key", "value", "output", "gate", "up", "down"]


class DecoderConfig(Config):
    """The sizes of a decoder, and which parts it is made of. The defaults are Qwen3's parts.

    Args:
        vocabulary, width, layers: v, d, number of blocks.
        heads, kv_heads, head_width, feed_forward: h, k, e, f.
        context: longest text in tokens.
        rope_theta: base of the rotary wavelengths.
        norm_epsilon: added to what norms divide by.
        tied: whether the embedding is the head's weight too.
        norm: RMSNorm, the same with a weight that counts from one, LayerNorm without bias, and with.
        head_norm: of queries and keys: each head by itself (weight from zero or from one), or all together.
        positions: how a token knows its place; None leaves it to causality.
        activation: of the feed-forward layer; gated (`...glu`) or plain.
        arrangement: norms before each part, after it (before what it adds is added), on both sides, or before
            both parts, which then read the same x (parallel).
        bias: which projections have one.
        rotary_share: of a head's coordinates that are turned.
        unturned_layers: numbers of layers whose queries and keys are not turned, although others' are.
        rope_scaling: how rotary frequencies are stretched, or None.
        window: tokens that a token sees in local layers, itself included; None has no local layers.
        local_layers: numbers of the layers that have the window; None is all.
        local_rope_theta: of local layers, whose frequencies are not stretched; None is as the others.
        score_cap, logit_cap: that scores and logits stay below, softly, or None.
        score_scale: that scores are multiplied by; None is 1 / sqrt(e).
        embedding_scale: that embeddings are multiplied by, or None.
        sinks: whether each head has a learned logit for attending to nothing.
        experts: instead of the feed-forward layer, or None.
        dense_layers: numbers of layers that have none although there are `experts`.
        latent: latent attention instead of plain, or None.
    """

    vocabulary: int = Field(gt=0)
    width: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_width: int = Field(gt=0)
    feed_forward: int = Field(gt=0)
    context: int = Field(gt=1)
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-6
    tied: bool = False
    norm: Literal["rms", "rms_one", "layer", "layer_bias"] = "rms"
    head_norm: Literal["rms", "rms_one", "whole"] | None = "rms"
    positions: Literal["rotary", "learned", "sinusoidal", "alibi"] | None = "rotary"
    activation: Literal["swiglu", "geglu", "geglu_tanh", "gelu", "gelu_tanh", "relu", "squared_relu"] = (
        "swiglu"
    )
    arrangement: Literal["pre", "post", "sandwich", "parallel"] = "pre"
    bias: tuple[Projection, ...] = ()
    rotary_share: float = Field(default=1.0, gt=0, le=1)
    unturned_layers: tuple[int, ...] = ()
    rope_scaling: RopeScaling | None = None
    window: int | None = Field(default=None, gt=0)
    local_layers: tuple[int, ...] | None = None
    local_rope_theta: float | None = Field(default=None, gt=0)
    score_cap: float | None = Field(default=None, gt=0)
    logit_cap: float | None = Field(default=None, gt=0)
    score_scale: float | None = Field(default=None, gt=0)
    embedding_scale: float | None = Field(default=None, gt=0)
    sinks: bool = False
    experts: ExpertsConfig | None = None
    dense_layers: tuple[int, ...] = ()
    latent: LatentConfig | None = None

    @field_validator("bias")
    @classmethod
    def _in_order(cls, bias: tuple[Projection, ...]) -> tuple[Projection, ...]:
        return tuple(one for one in get_args(Projection) if one in bias)

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.head_width % 2:
            raise ValueError(f"head_width ({self.head_width}) must be even")
        if self.positions == "rotary" and (self.rotary_width % 2 or not self.rotary_width):
            raise ValueError(
                f"rotary_share ({self.rotary_share}) turns {self.rotary_width} coordinates, no pairs"
            )
        for key in ("local_layers", "dense_layers", "unturned_layers"):
            beyond = [layer for layer in getattr(self, key) or () if not 0 <= layer < self.layers]
            if beyond:
                raise ValueError(f"{key} names layer {beyond[0]} of {self.layers}")
        if self.experts is not None and self.activation not in GATED:
            raise ValueError(f"experts are gated: activation {self.activation} is not, use swiglu or geglu")
        if self.latent is not None and self.head_width != self.latent.head_width:
            raise ValueError(f"head_width ({self.head_width}) must be latent's ({self.latent.head_width})")
        return self

    @property
    def rotary_width(self) -> int:
        """Coordinates of a head that are turned."""
        return self.latent.rotary_width if self.latent else int(self.head_width * self.rotary_share)

    def local(self, layer: int) -> bool:
        """Whether a layer has the window."""
        return self.window is not None and (self.local_layers is None or layer in self.local_layers)

    def normalisation(self) -> nn.Module:
        """Returns a fresh norm over the model's width."""
        if self.norm.startswith("layer"):
            return nn.LayerNorm(self.width, self.norm_epsilon, bias=self.norm == "layer_bias")
        return (RMSNorm if self.norm == "rms" else RMSNormFromOne)(self.width, self.norm_epsilon)

    def head_normalisation(self, heads: int) -> nn.Module | None:
        """Returns a fresh norm over so many heads of queries or keys, or None."""
        if self.head_norm == "whole":
            return AllHeadsRMSNorm(heads * self.head_width, self.norm_epsilon)
        if self.head_norm is None:
            return None
        return (RMSNorm if self.head_norm == "rms" else RMSNormFromOne)(self.head_width, self.norm_epsilon)

    def attention_layer(self, layer: int) -> nn.Module:
        """Returns the fresh attention of a layer."""
        if self.latent is not None:
            return LatentAttention(
                width=self.width,
                heads=self.heads,
                latent=self.latent,
                norm_epsilon=self.norm_epsilon,
                score_scale=self.score_scale,
            )
        return Attention(
            width=self.width,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_width=self.head_width,
            query_norm=self.head_normalisation(self.heads),
            key_norm=self.head_normalisation(self.kv_heads),
            biases=self.bias,
            window=self.window if self.local(layer) else None,
            score_scale=self.score_scale,
            score_cap=self.score_cap,
            alibi=Alibi(self.heads) if self.positions == "alibi" else None,
            sinks=nn.Parameter(torch.zeros(self.heads)) if self.sinks else None,
        )

    def feed_forward_layer(self, layer: int = 0) -> nn.Module:
        """Returns the fresh feed-forward layer of a layer."""
        gated = self.activation in GATED
        activation = (GATED if gated else PLAIN)[self.activation]
        if self.experts is not None and layer not in self.dense_layers:
            return Experts(self.width, self.experts, activation)
        return (GatedFeedForward if gated else FeedForward)(
            self.width, self.feed_forward, activation, self.bias
        )

    def rotary(self) -> Rotary | None:
        """Returns the angles of whole layers, or None."""
        if self.positions != "rotary":
            return None
        return Rotary(self.rotary_width, self.rope_theta, self.context, self.rope_scaling)

    def local_rotary(self) -> Rotary | None:
        """Returns the angles of local layers; None where they are those of whole ones."""
        if self.positions != "rotary" or self.window is None or self.local_rope_theta is None:
            return None
        return Rotary(self.rotary_width, self.local_rope_theta, self.context)

    def added_positions(self) -> nn.Embedding | Sinusoidal | None:
        """Returns the table of positions that is added to the embeddings, or None."""
        if self.positions == "learned":
            return nn.Embedding(self.context, self.width)
        return Sinusoidal(self.width, self.context) if self.positions == "sinusoidal" else None

    def build(self, seed: int = 0) -> Decoder:
        """Returns a freshly initialised model of these sizes."""
        from ingot.models.decoder import Decoder

        model = Decoder(self)
        zero = ("attention.output", "feed_forward.down", "experts.down", "shared.down")
        initialise(model, seed, zero=zero if self.tied else (*zero, "head"))
        return model
