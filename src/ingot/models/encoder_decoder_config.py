"""What an encoder-decoder is made of: its sizes and its parts, and how they are built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn.functional import silu

from ingot.config import Config
from ingot.models.decoder_config import GATED, PLAIN
from ingot.nn.attention import Attention
from ingot.nn.cross_attention import CrossAttention
from ingot.nn.feed_forward import FeedForward, GatedFeedForward
from ingot.nn.initialisation import initialise
from ingot.nn.norms import RMSNorm
from ingot.nn.positions import Sinusoidal
from ingot.nn.relative import RelativeBias

if TYPE_CHECKING:
    from ingot.models.encoder_decoder import EncoderDecoder


class EncoderDecoderConfig(Config):
    """The sizes of an encoder-decoder, and which parts it is made of.

    The defaults are the parts of the original Transformer, as `torch.nn.Transformer` has them.

    Args:
        vocabulary, width, heads, head_width, feed_forward: v, d, h, e, f; of both sides.
        encoder_layers, decoder_layers: number of blocks.
        context: longest text in tokens, on either side.
        norm: LayerNorm, or RMSNorm.
        arrangement: norm after each part is added (post), or before each part (pre).
        last_norm: whether another norm follows the last block; the paper's post-norm stacks have none.
        biases: whether linear layers and LayerNorm have them.
        activation: plain, or gated (`...glu`); T5 1.1's GELU is the approximation by tanh.
        positions: waves that are added, sines and cosines in turn (the paper) or all sines first (Marian); or
            relative: learned numbers per head and distance.
        buckets, furthest: of relative positions; see `RelativeBias`.
        score_scale: of attention's scores; None is 1/sqrt(e).
        embedding_scale: of embeddings before places are added; the paper's is sqrt(d).
        head_scale: of the last hidden states; T5's is 1/sqrt(d).
        head_bias: whether the head has one.
        tied: whether the embedding is the head's weight too.
        padding: token of a source that nobody looks at unless a mask says so; None looks at all.
        begin: token that begins a target.
        end: token that ends one, or None.
        dropout: on embeddings and on what each part adds, in training.
    """

    vocabulary: int = Field(gt=0)
    width: int = Field(gt=0)
    encoder_layers: int = Field(gt=0)
    decoder_layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    head_width: int = Field(gt=0)
    feed_forward: int = Field(gt=0)
    context: int = Field(default=512, gt=1)
    norm: Literal["layer", "rms"] = "layer"
    norm_epsilon: float = 1e-5
    arrangement: Literal["post", "pre"] = "post"
    last_norm: bool = True
    biases: bool = True
    activation: Literal["relu", "gelu", "silu", "geglu_tanh", "swiglu"] = "relu"
    positions: Literal["sinusoidal", "sinusoidal_halves", "relative"] = "sinusoidal"
    buckets: int = Field(default=32, ge=4)
    furthest: int = Field(default=128, gt=0)
    score_scale: float | None = Field(default=None, gt=0)
    embedding_scale: float = Field(default=1.0, gt=0)
    head_scale: float = Field(default=1.0, gt=0)
    head_bias: bool = False
    tied: bool = True
    padding: int | None = Field(default=0, ge=0)
    begin: int = Field(default=0, ge=0)
    end: int | None = Field(default=1, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("padding", "begin", "end"):
            token = getattr(self, name)
            if token is not None and token >= self.vocabulary:
                raise ValueError(f"{name} ({token}) is outside the vocabulary ({self.vocabulary})")
        if self.positions != "relative" and self.width % 2:
            raise ValueError(f"width ({self.width}) must be even for sinusoidal positions")
        if self.positions == "relative" and self.furthest <= self.buckets // 2:
            raise ValueError(f"furthest ({self.furthest}) must be more than half of {self.buckets} buckets")
        return self

    def normalisation(self) -> nn.Module:
        """Returns a fresh norm over the model's width."""
        if self.norm == "rms":
            return RMSNorm(self.width, self.norm_epsilon)
        return nn.LayerNorm(self.width, self.norm_epsilon, bias=self.biases)

    def feed_forward_layer(self) -> nn.Module:
        """Returns a fresh feed-forward layer."""
        gated = self.activation in GATED
        activation = (GATED if gated else {**PLAIN, "silu": silu})[self.activation]
        biases = ("gate", "up", "down") if self.biases else ()
        return (GatedFeedForward if gated else FeedForward)(self.width, self.feed_forward, activation, biases)

    def added_positions(self) -> Sinusoidal | None:
        """Returns the waves that are added to embeddings, or None."""
        if self.positions == "relative":
            return None
        waves = Sinusoidal(self.width, self.context)
        if self.positions == "sinusoidal_halves":
            waves.weight = torch.cat((waves.weight[:, 0::2], waves.weight[:, 1::2]), 1)
        return waves

    def relative_bias(self, both_sides: bool) -> RelativeBias | None:
        """Returns a fresh table of one stack, or None where positions are added."""
        if self.positions != "relative":
            return None
        return RelativeBias(self.heads, self.buckets, self.furthest, both_sides)

    @torch.no_grad()
    def build(self, seed: int = 0) -> EncoderDecoder:
        """Returns a freshly initialised model of these sizes.

        Scores by content, scores by distance, embeddings and the logits of a tied head start with a deviation
        of about one. (T5's tables of distances start at 1/sqrt(d); small models then learn to copy later.)
        """
        from ingot.models.encoder_decoder import EncoderDecoder

        model = EncoderDecoder(self)
        zero = ("attention.output", "crossing.output", "feed_forward.down")
        initialise(model, seed, zero=zero if self.tied else (*zero, "head"))
        model.embedding.weight.mul_(1 / self.embedding_scale)
        for module in model.modules():
            if isinstance(module, Attention | CrossAttention) and self.score_scale is not None:
                module.query.weight.mul_(self.head_width**-0.5 / self.score_scale)
        return model
