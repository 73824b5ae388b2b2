"""The decoder-only transformer, Qwen3-shaped: RMSNorm before each part, QK-norm, RoPE, GQA, SwiGLU.

```
tokens -> embedding -> [ x + attention(norm(x)) ; x + feed_forward(norm(x)) ] * layers -> norm -> head
```

The shape is exactly that of `Qwen3ForCausalLM`, so `transformers` and every engine that knows Qwen3
run what is trained here (Qwen3 technical report 2025, arXiv 2505.09388, section 2).
"""

from __future__ import annotations

from typing import NamedTuple, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from ingot.config import Config
from ingot.nn.attention import Attend, Attention, causal
from ingot.nn.feed_forward import SwiGLU
from ingot.nn.initialisation import initialise
from ingot.nn.norms import RMSNorm
from ingot.nn.positions import Rotary


class DecoderConfig(Config):
    """The sizes of a decoder."""

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

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.head_width % 2:
            raise ValueError(f"head_width ({self.head_width}) must be even")
        return self

    def build(self, seed: int = 0) -> Decoder:
        """Returns a freshly initialised model of these sizes."""
        model = Decoder(self)
        initialise(model, seed, zero=("attention.output", "feed_forward.down", "head"))
        return model


class Outputs(NamedTuple):
    """What a forward pass gives: the last hidden states, and the logits where they were asked for."""

    hidden: Tensor  # [b, t, d], after the last norm
    logits: Tensor | None  # [b, t, v]


class Block(nn.Module):
    """One layer of the decoder: attention, then feed-forward, each added to the residual stream."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width, config.norm_epsilon)
        self.attention = Attention(
            width=config.width,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_width=config.head_width,
            query_norm=RMSNorm(config.head_width, config.norm_epsilon),
            key_norm=RMSNorm(config.head_width, config.norm_epsilon),
        )
        self.feed_forward_norm = RMSNorm(config.width, config.norm_epsilon)
        self.feed_forward = SwiGLU(config.width, config.feed_forward)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], layer: int, attend: Attend) -> Tensor:
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
        self.norm = RMSNorm(config.width, config.norm_epsilon)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight
        self.rotary = Rotary(config.head_width, config.rope_theta, config.context)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        attend: Attend | None = None,
        logits: bool = True,
    ) -> Outputs:
        """Predicts the next token at every place.

        Args:
            tokens: [b, t] int64.
            positions: [b, t] or [t] int64; None counts from 0.
            attend: how queries meet keys (a cache, a document mask); None is plain causal attention.
            logits: whether to apply the head; a fused head and loss asks for hidden states only.

        Returns:
            Hidden states [b, t, d] and logits [b, t, v] or None.
        """
        x = self.embedding(tokens)
        angles = self.rotary.angles(positions, tokens.shape[1])
        for layer, block in enumerate(self.blocks):
            x = block(x, angles, layer, attend or causal)
        hidden = self.norm(x)
        return Outputs(hidden, self.head(hidden) if logits else None)

    def parameter_count(self) -> int:
        """Returns the number of parameters; tied ones count once."""
        return sum(p.numel() for p in self.parameters())
