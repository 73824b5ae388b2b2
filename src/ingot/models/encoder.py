"""The encoder: every token sees those on both sides of it.

```
BERT, RoBERTa   token + place + segment -> norm
                -> [ norm(x + attention(x)) ; norm(x + feed_forward(x)) ] * layers -> head
ModernBERT      token -> norm
                -> [ x + attention(norm(x)) ; x + feed_forward(norm(x)) ] * layers -> norm -> head
```

Attention is whole, or in most layers local: a token then sees `window` tokens on each side of it.

Source: Devlin et al. 2019, arXiv 1810.04805; Liu et al. 2019 (RoBERTa), arXiv 1907.11692; Warner et al. 2024
(ModernBERT), arXiv 2412.13663, section 2.1.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ingot.config import Config
from ingot.models.heads import Head, HeadConfig
from ingot.nn.activations import gelu
from ingot.nn.attention import Attend, Attention
from ingot.nn.both_sides import BothSides
from ingot.nn.feed_forward import FeedForward, GatedFeedForward
from ingot.nn.initialisation import initialise
from ingot.nn.mixed import shortened
from ingot.nn.positions import Angles, Rotary

PROJECTIONS = ("query", "key", "value", "output", "gate", "up", "down")
EMBEDDING_DEVIATION = 0.02  # as BERT's: a tied head starts with small logits


class EncoderConfig(Config):
    """The sizes of an encoder, and which parts it is made of.

    Args:
        vocabulary, width, layers, heads, feed_forward: v, d, number of blocks, h, f.
        context: longest text in tokens.
        norm: after each part (BERT) or before it (ModernBERT).
        biases: whether linear layers and norms have them.
        activation: plain GELU, or gated by it.
        positions: learned, or rotary.
        segments: kinds of sentence (BERT: 2), or None.
        padding: token that nobody looks at unless a mask says so; None looks at all.
        count_tokens: whether learned positions count tokens other than padding only, and begin after the
            number of the padding token (RoBERTa).
        window: tokens that a local layer sees on each side; None makes all layers whole.
        whole_every: which layers are whole among local ones: 0, n, 2n, ...
        rope_theta: of whole layers; local ones have `local_rope_theta`.
        dropout: on embeddings and on what each part adds, in training.
        head: what stands on it, or None.
    """

    vocabulary: int = Field(gt=0)
    width: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    feed_forward: int = Field(gt=0)
    context: int = Field(gt=1)
    norm: Literal["post", "pre"] = "post"
    norm_epsilon: float = 1e-12
    biases: bool = True
    activation: Literal["gelu", "geglu"] = "gelu"
    positions: Literal["learned", "rotary"] = "learned"
    segments: int | None = Field(default=2, gt=0)
    padding: int | None = Field(default=None, ge=0)
    count_tokens: bool = False
    window: int | None = Field(default=None, ge=0)
    whole_every: int = Field(default=1, gt=0)
    rope_theta: float = 160_000.0
    local_rope_theta: float = 10_000.0
    dropout: float = Field(default=0.0, ge=0, lt=1)
    head: HeadConfig | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        if self.count_tokens and self.padding is None:
            raise ValueError("count_tokens needs the padding token")
        if self.padding is not None and self.padding >= self.vocabulary:
            raise ValueError(f"padding ({self.padding}) is outside the vocabulary ({self.vocabulary})")
        return self

    @property
    def tied(self) -> bool:
        """Whether the embedding is the head's weight too."""
        return self.head is not None and self.head.task == "masked" and self.head.tied

    @property
    def first_position(self) -> int:
        """The row of the first token in the table of positions."""
        return self.padding + 1 if self.count_tokens and self.padding is not None else 0

    def whole(self, layer: int) -> bool:
        """Whether a layer sees the whole text."""
        return self.window is None or layer % self.whole_every == 0

    def normalisation(self) -> nn.LayerNorm:
        """Returns a fresh norm over the model's width."""
        return nn.LayerNorm(self.width, self.norm_epsilon, bias=self.biases)

    def feed_forward_layer(self) -> nn.Module:
        """Returns a fresh feed-forward layer."""
        kind = GatedFeedForward if self.activation == "geglu" else FeedForward
        return kind(self.width, self.feed_forward, gelu, PROJECTIONS if self.biases else ())

    def build(self, seed: int = 0) -> Encoder:
        """Returns a freshly initialised model of these sizes."""
        model = Encoder(self)
        zero = ("attention.output", "feed_forward.down")
        initialise(model, seed, zero=zero if self.tied else (*zero, "head.output"))
        with torch.no_grad():
            for table in (model.embedding, model.positions, model.segments):
                if table is not None:
                    table.weight.mul_(EMBEDDING_DEVIATION)
        return model


class Outputs(NamedTuple):
    """What a forward pass gives: the last hidden states, and what the head made of them, if there is one."""

    hidden: Tensor  # [b, t, d]
    logits: Tensor | None  # [b, t, v], [b, t, o], [b, o], or [b, d] of an embedding


class Block(nn.Module):
    """One layer of the encoder: attention, then feed-forward.

    Args:
        config: of the encoder.
        layer: its number; the first of a pre-norm encoder reads embeddings that have just been normed.
    """

    def __init__(self, config: EncoderConfig, layer: int) -> None:
        super().__init__()
        self.after = config.norm == "post"
        self.attention_norm = config.normalisation() if self.after or layer else None
        self.attention = Attention(
            width=config.width,
            heads=config.heads,
            kv_heads=config.heads,
            head_width=config.width // config.heads,
            query_norm=None,
            key_norm=None,
            biases=PROJECTIONS if config.biases else (),
        )
        self.feed_forward_norm = config.normalisation()
        self.feed_forward = config.feed_forward_layer()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, angles: Angles | None, layer: int, attend: Attend) -> Tensor:
        """Args: x [b, t, d]. Returns: [b, t, d]."""
        if self.after and self.attention_norm is not None:
            x = self.attention_norm(x + self.dropout(self.attention(x, angles, layer, attend)))
            return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        read = x if self.attention_norm is None else self.attention_norm(x)
        x = x + self.dropout(self.attention(read, angles, layer, attend))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class Encoder(nn.Module):
    """A bidirectional language model with at most one head.

    Args:
        config: its sizes and parts.

    Example:
        >>> config = EncoderConfig(vocabulary=100, width=32, layers=2, heads=4, feed_forward=64, context=16,
        ...                        head=HeadConfig(task="sequence", labels=3, transform="tanh"))
        >>> config.build()(torch.zeros(2, 8, dtype=torch.long)).logits.shape
        torch.Size([2, 3])
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        rows = config.context + config.first_position
        head_width = config.width // config.heads
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(rows, config.width) if config.positions == "learned" else None
        self.segments = None if config.segments is None else nn.Embedding(config.segments, config.width)
        self.embedding_norm = config.normalisation()
        self.dropout = nn.Dropout(config.dropout)
        rotary = config.positions == "rotary"
        self.rotary = Rotary(head_width, config.rope_theta, config.context) if rotary else None
        local = rotary and config.window is not None
        self.local_rotary = Rotary(head_width, config.local_rope_theta, config.context) if local else None
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = config.normalisation() if config.norm == "pre" else None
        self.head: nn.Module | None = None
        if config.head is not None:
            self.head = config.head.build(config.width, config.vocabulary, config.norm_epsilon)
        if isinstance(self.head, Head) and config.tied:
            self.head.output.weight = self.embedding.weight

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        segments: Tensor | None = None,
        logits: bool = True,
    ) -> Outputs:
        """Reads texts.

        Args:
            tokens: [b, t] int64.
            mask: [b, t] bool, true where tokens are; None is everywhere but at the padding token.
            segments: [b, t] int64, which sentence of a pair; None is the first.
            logits: whether to ask the head.

        Returns:
            Hidden states [b, t, d] and what the head says, or None.
        """
        if mask is None and self.config.padding is not None:
            mask = tokens != self.config.padding
        x, t = self.embedding(tokens), tokens.shape[1]
        if self.segments is not None:
            x = x + (self.segments.weight[0] if segments is None else self.segments(segments))
        if self.positions is not None:
            x = x + self.positions(self._places(tokens))
        x = shortened(self.dropout(self.embedding_norm(x)))
        attend = BothSides(
            None if mask is None else mask.bool(),
            t,
            tokens.device,
            window=self.config.window,
            whole=self.config.whole,
        )
        far, near = (turn and turn.angles(None, t) for turn in (self.rotary, self.local_rotary))
        for layer, block in enumerate(self.blocks):
            x = block(x, far if self.config.whole(layer) else near, layer, attend)
        hidden = x if self.norm is None else self.norm(x)
        return Outputs(hidden, self.head(hidden, mask) if logits and self.head is not None else None)

    def _places(self, tokens: Tensor) -> Tensor:
        """Rows of the table of positions, [t] or [b, t]."""
        if not self.config.count_tokens:
            return torch.arange(tokens.shape[1], device=tokens.device)
        real = tokens.ne(self.config.first_position - 1).long()
        return real.cumsum(1) * real + self.config.first_position - 1

    def parameter_count(self) -> int:
        """Returns the number of parameters; tied ones count once."""
        return sum(p.numel() for p in self.parameters())
