"""The encoder-decoder: one sequence is read from both sides, another is written about it.

```
source -> embedding (+ place) -> [ attention ; feed_forward ] * layers ---------------> memory
tokens -> embedding (+ place) -> [ attention ; look at memory ; feed_forward ] * layers -> head

Transformer   places are added; norm(x + part(x)); LayerNorm, biases, ReLU; embeddings times sqrt(d)
T5            a bias by distance on scores; x + part(norm(x)), norm; RMSNorm, no biases, ReLU or gated GELU
```

Source: Vaswani et al. 2017, arXiv 1706.03762, section 3; Raffel et al. 2020, arXiv 1910.10683, section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ingot.errors import DataError
from ingot.models.encoder_decoder_config import EncoderDecoderConfig
from ingot.nn.attention import Attend, Attention, causal
from ingot.nn.cross_attention import CrossAttention, Looked
from ingot.nn.mixed import shortened
from ingot.nn.relative import Added, padding

__all__ = ["EncoderDecoder", "EncoderDecoderConfig", "Memory", "Outputs"]


class Outputs(NamedTuple):
    """What a forward pass gives."""

    hidden: Tensor  # [b, t, d], what the head reads
    logits: Tensor | None  # [b, t, v]
    memory: Tensor  # [b, s, d], what the encoder made of the source


class Memory(NamedTuple):
    """What is known of sources while targets are written."""

    states: Tensor  # [b, s, d]
    looked: Sequence[Looked]  # of every layer of the decoder
    attend: Attend  # past the padding of the sources


class Block(nn.Module):
    """One layer: attention, in a decoder a look at the source, feed-forward."""

    def __init__(self, config: EncoderDecoderConfig, decodes: bool) -> None:
        super().__init__()
        biases = ("query", "key", "value", "output") if config.biases else ()
        sizes: dict[str, Any] = {
            "width": config.width,
            "heads": config.heads,
            "head_width": config.head_width,
            "biases": biases,
        }
        self.after = config.arrangement == "post"
        self.attention_norm = config.normalisation()
        self.attention = Attention(**sizes, kv_heads=config.heads, query_norm=None, key_norm=None)
        self.crossing_norm = config.normalisation() if decodes else None
        self.crossing = CrossAttention(**sizes) if decodes else None
        self.feed_forward_norm = config.normalisation()
        self.feed_forward = config.feed_forward_layer()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, layer: int, attend: Attend, memory: Memory | None) -> Tensor:
        """Args: x [b, t, d], layer number, how to attend, what to look at. Returns: [b, t, d]."""
        x = self._added(x, self.attention_norm, self.attention, None, layer, attend)
        if self.crossing is not None and self.crossing_norm is not None and memory is not None:
            look = memory.looked[layer], layer, memory.attend
            x = self._added(x, self.crossing_norm, self.crossing, *look)
        return self._added(x, self.feed_forward_norm, self.feed_forward)

    def _added(self, x: Tensor, norm: nn.Module, part: nn.Module, *given: object) -> Tensor:
        if self.after:
            y: Tensor = norm(x + self.dropout(part(x, *given)))
            return y
        return x + self.dropout(part(norm(x), *given))


class Stack(nn.Module):
    """The blocks of one side, their table of distances, and the norm at their end."""

    def __init__(self, config: EncoderDecoderConfig, layers: int, decodes: bool) -> None:
        super().__init__()
        self.relative = config.relative_bias(both_sides=not decodes)
        self.blocks = nn.ModuleList(Block(config, decodes) for _ in range(layers))
        self.norm = config.normalisation() if config.last_norm else None

    def forward(self, x: Tensor, attend: Attend, memory: Memory | None = None) -> Tensor:
        """Args: x [b, t, d], how to attend, what to look at. Returns: [b, t, d]."""
        for layer, block in enumerate(self.blocks):
            x = block(x, layer, attend, memory)
        return x if self.norm is None else self.norm(x)

    def look(self, states: Tensor) -> list[Looked]:
        """Returns what every layer looks at, of what an encoder made [b, s, d]."""
        crossings = (block.crossing for block in self.blocks if isinstance(block, Block))
        return [crossing.look(states) for crossing in crossings if crossing is not None]


class EncoderDecoder(nn.Module):
    """A model from one sequence to another.

    Args:
        config: its sizes and parts.

    Example:
        >>> config = EncoderDecoderConfig(vocabulary=99, width=32, encoder_layers=2, decoder_layers=1,
        ...                               heads=2, head_width=16, feed_forward=64)
        >>> source, tokens = torch.full((2, 7), 5), torch.zeros(2, 4, dtype=torch.long)
        >>> config.build()(source, tokens).logits.shape
        torch.Size([2, 4, 99])
    """

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = config.added_positions()
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = Stack(config, config.encoder_layers, decodes=False)
        self.decoder = Stack(config, config.decoder_layers, decodes=True)
        self.head = nn.Linear(config.width, config.vocabulary, bias=config.head_bias)
        if config.tied:
            self.head.weight = self.embedding.weight

    def forward(
        self, source: Tensor, tokens: Tensor, mask: Tensor | None = None, logits: bool = True
    ) -> Outputs:
        """Predicts the next token of the target at every place, the right ones before it being given.

        Args:
            source: [b, s] int64.
            tokens: [b, t] int64: the target behind the token that begins it.
            mask: [b, s] bool, true where the source is; None is everywhere but at the padding token.
            logits: whether to apply the head.

        Raises:
            DataError: places are added, and a text has more tokens than the context.
        """
        memory = self.encode(source, mask)
        hidden = self.decode(tokens, memory)
        return Outputs(hidden, self.head(hidden) if logits else None, memory.states)

    def encode(self, source: Tensor, mask: Tensor | None = None) -> Memory:
        """Reads sources [b, s]; the mask is as in `forward`."""
        if mask is None and self.config.padding is not None:
            mask = source != self.config.padding
        x, s = self._embedded(source, 0), source.shape[1]
        hidden = padding(None if mask is None else mask.bool(), x)
        scale, relative = self.config.score_scale, self.encoder.relative
        bias = None if relative is None else relative(s, s).to(x.dtype)[None]
        both = bias if hidden is None else hidden if bias is None else bias + hidden
        states = self.encoder(x, Added(both, scale))
        return Memory(states, self.decoder.look(states), Added(hidden, scale))

    def decode(
        self, tokens: Tensor, memory: Memory, attend: Attend | None = None, first: int | Tensor = 0
    ) -> Tensor:
        """Goes over targets.

        Args:
            tokens: [b, t] int64.
            memory: of the sources.
            attend: how the decoder's tokens see one another (a cache); None is causal.
            first: place of the first token, or of each row's, [b] int64.

        Returns:
            What the head reads, [b, t, d].
        """
        x = self._embedded(tokens, first)
        hidden: Tensor = self.decoder(x, attend or self._causal(x), memory)
        return hidden if self.config.head_scale == 1 else hidden * self.config.head_scale

    def _embedded(self, tokens: Tensor, first: int | Tensor) -> Tensor:
        x = self.embedding(tokens)
        if self.config.embedding_scale != 1:
            x = x * self.config.embedding_scale
        if self.positions is not None and isinstance(first, Tensor):
            places = first[:, None] + torch.arange(tokens.shape[1], device=first.device)
            x = x + self.positions.weight[places].to(x.dtype)
        elif self.positions is not None and not isinstance(first, Tensor):
            last = first + tokens.shape[1]
            if last > self.config.context:
                what = f"a text has {last} tokens, the model's context is {self.config.context}"
                raise DataError(what, where="encoder-decoder", fix="shorten it")
            x = x + self.positions.weight[first:last].to(x.dtype)
        return shortened(self.dropout(x))

    def _causal(self, x: Tensor) -> Attend:
        t, relative = x.shape[1], self.decoder.relative
        if relative is None and self.config.score_scale is None:
            return causal
        later = torch.ones(t, t, dtype=torch.bool, device=x.device).triu(1)
        bias = x.new_zeros(1, t, t) if relative is None else relative(t, t).to(x.dtype)
        return Added(bias.masked_fill(later, -torch.inf)[None], self.config.score_scale)

    def parameter_count(self) -> int:
        """Returns the number of parameters; tied ones count once."""
        return sum(p.numel() for p in self.parameters())
