"""The decoder-only transformer: embedding, blocks of attention and feed-forward, norm, head.

```
tokens -> embedding -> [ x + attention(norm(x)) ; x + feed_forward(norm(x)) ] * layers -> norm -> head
```

The parts' defaults make exactly the shape of `Qwen3ForCausalLM` (RMSNorm, QK-norm, RoPE, GQA, SwiGLU), so
`transformers` and every engine that knows Qwen3 run what is trained here (Qwen3 technical report 2025,
arXiv 2505.09388, section 2). Other parts make the other published decoders: `families/` says which.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ingot.models.decoder_config import DecoderConfig
from ingot.nn.attention import Attend, WithinDocuments, causal, document_starts
from ingot.nn.capped import CappedLinear
from ingot.nn.mixed import shortened
from ingot.nn.positions import Angles

__all__ = ["Block", "Decoder", "DecoderConfig", "Outputs"]


class Outputs(NamedTuple):
    """What a forward pass gives: the last hidden states, and the logits where they were asked for."""

    hidden: Tensor  # [b, t, d], after the last norm
    logits: Tensor | None  # [b, t, v]


class Block(nn.Module):
    """One layer of the decoder: attention and feed-forward, each added to the residual stream.

    Args:
        config: of the decoder.
        layer: its number.
    """

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        before, after = config.arrangement != "post", config.arrangement in ("post", "sandwich")
        self._parallel = config.arrangement == "parallel"
        self.attention_norm = config.normalisation() if before else None
        self.attention = config.attention_layer(layer)
        self.attention_output_norm = config.normalisation() if after else None
        self.feed_forward_norm = config.normalisation() if before else None
        self.feed_forward = config.feed_forward_layer(layer)
        self.feed_forward_output_norm = config.normalisation() if after else None

    def forward(self, x: Tensor, angles: Angles | None, layer: int, attend: Attend) -> Tensor:
        """Args: x [b, t, d]. Returns: [b, t, d]."""
        gathered = self.attention(_normed(self.attention_norm, x), angles, layer, attend)
        if self._parallel:
            return x + gathered + self.feed_forward(_normed(self.feed_forward_norm, x))
        x = x + _normed(self.attention_output_norm, gathered)
        made = self.feed_forward(_normed(self.feed_forward_norm, x))
        return x + _normed(self.feed_forward_output_norm, made)


def _normed(norm: nn.Module | None, x: Tensor) -> Tensor:
    """x through a norm, where there is one."""
    normed: Tensor = x if norm is None else norm(x)
    return normed


class Decoder(nn.Module):
    """A causal language model.

    Args:
        config: its sizes and parts.

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
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = config.normalisation()
        self.head: nn.Linear
        if config.logit_cap is None:
            self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        else:
            self.head = CappedLinear(config.width, config.vocabulary, config.logit_cap)
        if config.tied:
            self.head.weight = self.embedding.weight
        self.rotary = config.rotary()
        self.local_rotary = config.local_rotary()
        self.positions = config.added_positions()

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
        if self.config.embedding_scale is not None:
            # As a tensor of x's type: the published models round the number itself to bf16.
            x = x * torch.full((), self.config.embedding_scale, dtype=x.dtype, device=x.device)
        if self.positions is not None:
            x = x + (self.positions.weight[:t] if positions is None else self.positions(positions))
        x = shortened(x)
        whole = self._angles(positions, t, attend is None or documents is not None)
        local = whole if self.local_rotary is None else self.local_rotary.angles(positions, t)
        unturned = self.config.unturned_layers
        for layer, block in enumerate(self.blocks):
            angles = local if self.config.local(layer) else whole
            x = block(x, None if layer in unturned else angles, layer, attend or causal)
        hidden = self.norm(x)
        return Outputs(hidden, self.head(hidden) if logits else None)

    def _angles(self, positions: Tensor | None, t: int, whole_texts: bool) -> Angles | None:
        """How layers turn; a text of which a part is elsewhere is turned as one of the longest."""
        if self.rotary is None:
            return None
        return (self.rotary.whole_angles if whole_texts else self.rotary.angles)(positions, t)

    def parameter_count(self) -> int:
        """Returns the number of parameters; tied ones count once."""
        return sum(p.numel() for p in self.parameters())
