"""The decoder-only transformer: embedding, blocks of attention and feed-forward, norm, head.

```
tokens -> embedding -> [ x + attention(norm(x)) ; x + feed_forward(norm(x)) ] * layers -> norm -> head
```

The parts' defaults make exactly the shape of `Qwen3ForCausalLM` (RMSNorm, QK-norm, RoPE, GQA, SwiGLU), so
`transformers` and every engine that knows Qwen3 run what is trained here (Qwen3 technical report 2025,
arXiv 2505.09388, section 2). Other parts make other shapes: LayerNorm, learned positions, GELU and a tied
head are GPT-2's, without its biases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ingot.config import Config
from ingot.nn.activations import gelu
from ingot.nn.attention import Attend, Attention, WithinDocuments, causal, document_starts
from ingot.nn.feed_forward import FeedForward, SwiGLU, squared_relu
from ingot.nn.initialisation import initialise
from ingot.nn.mixed import shortened
from ingot.nn.norms import RMSNorm
from ingot.nn.positions import Angles, Rotary

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": gelu, "squared_relu": squared_relu}


class DecoderConfig(Config):
    """The sizes of a decoder, and which parts it is made of."""

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
    norm: Literal["rms", "layer"] = "rms"
    head_norm: Literal["rms"] | None = "rms"
    positions: Literal["rotary", "learned"] = "rotary"
    activation: Literal["swiglu", "gelu", "squared_relu"] = "swiglu"

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.head_width % 2:
            raise ValueError(f"head_width ({self.head_width}) must be even")
        return self

    def normalisation(self) -> nn.Module:
        """Returns a fresh norm over the model's width."""
        if self.norm == "layer":
            return nn.LayerNorm(self.width, self.norm_epsilon, bias=False)
        return RMSNorm(self.width, self.norm_epsilon)

    def head_normalisation(self) -> nn.Module | None:
        """Returns a fresh norm over queries or keys, or None."""
        return RMSNorm(self.head_width, self.norm_epsilon) if self.head_norm else None

    def feed_forward_layer(self) -> nn.Module:
        """Returns a fresh feed-forward layer."""
        if self.activation == "swiglu":
            return SwiGLU(self.width, self.feed_forward)
        return FeedForward(self.width, self.feed_forward, ACTIVATIONS[self.activation])

    def build(self, seed: int = 0) -> Decoder:
        """Returns a freshly initialised model of these sizes."""
        model = Decoder(self)
        zero = ("attention.output", "feed_forward.down")
        initialise(model, seed, zero=zero if self.tied else (*zero, "head"))
        return model


class Outputs(NamedTuple):
    """What a forward pass gives: the last hidden states, and the logits where they were asked for."""

    hidden: Tensor  # [b, t, d], after the last norm
    logits: Tensor | None  # [b, t, v]


class Block(nn.Module):
    """One layer of the decoder: attention, then feed-forward, each added to the residual stream."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention_norm = config.normalisation()
        self.attention = Attention(
            width=config.width,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_width=config.head_width,
            query_norm=config.head_normalisation(),
            key_norm=config.head_normalisation(),
        )
        self.feed_forward_norm = config.normalisation()
        self.feed_forward = config.feed_forward_layer()

    def forward(self, x: Tensor, angles: Angles | None, layer: int, attend: Attend) -> Tensor:
        """Args: x [b, t, d]. Returns: [b, t, d]."""
        x = x + self.attention(self.attention_norm(x), angles, layer, attend)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Decoder(nn.Module):
    """A causal language model.

    Args:
        config: its sizes.

    Example:
        >>> config = DecoderConfig(vocabulary=256, width=64, layers=2, heads=4, kv_heads=2,
        ...                        head_width=16, feed_forward=128, context=32)
        >>> config.build()(torch.zeros(1, 8, dtype=torch.long)).logits.shape
        torch.Size([1, 8, 256])
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = config.normalisation()
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight
        rotary, learned = config.positions == "rotary", config.positions == "learned"
        self.rotary = Rotary(config.head_width, config.rope_theta, config.context) if rotary else None
        self.positions = nn.Embedding(config.context, config.width) if learned else None

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        attend: Attend | None = None,
        logits: bool = True,
        documents: Tensor | None = None,
    ) -> Outputs:
        """Predicts the next token at every place.

        Args:
            tokens: [b, t] int64.
            positions: [b, t] or [t] int64; None counts from 0, in each document where there are several.
            attend: how queries meet keys (a cache, a document mask); None is plain causal attention.
            logits: whether to apply the head; a fused head and loss asks for hidden states only.
            documents: [b, t] integers, where rows hold several documents side by side: neighbours with the
                same number are of one document, and see nothing of the others; `attend` is not used then.

        Returns:
            Hidden states [b, t, d] and logits [b, t, v] or None.
        """
        t = tokens.shape[1]
        if documents is not None:
            starts = document_starts(documents)
            attend = WithinDocuments(starts)
            positions = torch.arange(t, device=tokens.device) - starts if positions is None else positions
        x = self.embedding(tokens)
        if self.positions is not None:
            x = x + (self.positions.weight[:t] if positions is None else self.positions(positions))
        x = shortened(x)
        angles = None if self.rotary is None else self.rotary.angles(positions, t)
        for layer, block in enumerate(self.blocks):
            x = block(x, angles, layer, attend or causal)
        hidden = self.norm(x)
        return Outputs(hidden, self.head(hidden) if logits else None)

    def parameter_count(self) -> int:
        """Returns the number of parameters; tied ones count once."""
        return sum(p.numel() for p in self.parameters())
