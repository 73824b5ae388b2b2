"""The linear-time decoder: layers of a memory of fixed size, and every few layers one of attention.

```
tokens -> embedding -> [ x + mix(norm(x)) ; x + feed_forward(norm(x)) ] * layers -> norm -> head
                         mix: gated delta rule; in every n-th layer attention, or in none
```

Without attention layers, a token costs the same after a million tokens as after one, in time and memory.
With them it is the shape of `Qwen3NextForCausalLM`.

Source: Yang et al. 2024, arXiv 2412.06464, section 3.4; the gate over attention: Qiu et al. 2025,
arXiv 2505.06708.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ingot.models.linear_config import LinearDecoderConfig
from ingot.models.linear_state import KeysValues, LinearState, Recall
from ingot.nn.attention import Attend, Attention, WithinDocuments, document_starts
from ingot.nn.delta import DeltaState, GatedDelta
from ingot.nn.linear import Linear
from ingot.nn.mixed import shortened
from ingot.nn.norms import RMSNormFromOne
from ingot.nn.positions import Angles, Rotary
from ingot.nn.scoring import Scored


class LinearOutputs(NamedTuple):
    """What a pass over some tokens gives, and the state from which the next pass can go on."""

    hidden: Tensor  # [b, t, d], after the last norm
    logits: Tensor | None  # [b, t, v]
    state: LinearState | None  # None where rows hold several documents, or somebody else attends


def _gated(attend: Attend, gate: Tensor) -> Attend:
    """Returns a way to attend whose results are multiplied by the sigmoid of a gate, [b, t, h * e]."""

    def attended(
        layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None
    ) -> Tensor:
        mixed = attend(layer, query, key, value, scored)
        return mixed * gate.sigmoid().unflatten(-1, (query.shape[1], -1)).transpose(1, 2)

    return attended


class LinearBlock(nn.Module):
    """One layer: the gated delta rule or gated attention, then feed-forward, each added to the stream."""

    def __init__(self, config: LinearDecoderConfig, layer: int) -> None:
        super().__init__()
        width, epsilon = config.width, config.norm_epsilon
        full = config.attention if config.attends(layer) else None
        self.mixer_norm = RMSNormFromOne(width, epsilon)
        self.delta = GatedDelta(width, config.delta, epsilon) if full is None else None
        self.attention = self.attention_gate = None
        if full is not None:
            self.attention = Attention(
                width=width,
                heads=full.heads,
                kv_heads=full.kv_heads,
                head_width=full.head_width,
                query_norm=RMSNormFromOne(full.head_width, epsilon),
                key_norm=RMSNormFromOne(full.head_width, epsilon),
            )
            self.attention_gate = Linear(width, full.heads * full.head_width, bias=False)
        self.feed_forward_norm = RMSNormFromOne(width, epsilon)
        self.feed_forward = config.feed_forward_layer(layer)

    def forward(
        self,
        x: Tensor,
        angles: Angles | None,
        layer: int,
        attend: Attend,
        state: DeltaState | None = None,
        starts: Tensor | None = None,
    ) -> tuple[Tensor, DeltaState | None]:
        """Args: x [b, t, d]; see `LinearDecoder`. Returns: [b, t, d], and the state of a delta layer."""
        normed, after = self.mixer_norm(x), None
        if self.delta is not None:
            mixed, after = self.delta(normed, state, starts)
        else:
            assert self.attention is not None and self.attention_gate is not None
            mixed = self.attention(normed, angles, layer, _gated(attend, self.attention_gate(normed)))
        x = x + mixed
        return x + self.feed_forward(self.feed_forward_norm(x)), after


class LinearDecoder(nn.Module):
    """A causal language model whose cost grows linearly with the text.

    Args:
        config: its sizes.

    Example:
        >>> delta = {"key_heads": 2, "value_heads": 4, "key_width": 16, "value_width": 16}
        >>> sizes = {"vocabulary": 256, "width": 64, "layers": 2, "feed_forward": 128, "context": 32}
        >>> model = LinearDecoderConfig.parse(sizes | {"delta": delta}).build()
        >>> first = model(torch.zeros(1, 8, dtype=torch.long))
        >>> model(torch.zeros(1, 1, dtype=torch.long), first.state).logits.shape
        torch.Size([1, 1, 256])
    """

    def __init__(self, config: LinearDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(LinearBlock(config, layer) for layer in range(config.layers))
        self.norm = RMSNormFromOne(config.width, config.norm_epsilon)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight
        full = config.attention
        self.rotary = None if full is None else Rotary(full.rotary_width, full.rope_theta, config.context)

    def forward(
        self,
        tokens: Tensor,
        state: LinearState | None = None,
        logits: bool = True,
        documents: Tensor | None = None,
        positions: Tensor | None = None,
        attend: Attend | None = None,
    ) -> LinearOutputs:
        """Predicts the next token at every place.

        Args:
            tokens: [b, t] int64.
            state: that a pass over the tokens before gave; None is the beginning of a text.
            logits: whether to apply the head; a fused head and loss asks for hidden states only.
            documents: [b, t] integers, where rows hold several documents side by side: neighbours with the
                same number are of one document, and know nothing of the others. There is no state then.
            positions: [b, t] or [t] int64; None counts on from the state, or from 0 in each document.
            attend: how queries meet keys in the layers of attention; None attends to all earlier tokens.

        Returns:
            Hidden states [b, t, d], logits [b, t, v] or None, and the state after the last token.
        """
        t, starts = tokens.shape[1], None if documents is None else document_starts(documents)
        past = 0 if state is None else state.length
        if positions is None and (past or starts is not None):
            positions = torch.arange(past, past + t, device=tokens.device)
            positions = positions if starts is None else positions - starts
        layers = dict(enumerate(() if state is None else state.layers))
        recall = Recall({at: kept for at, kept in layers.items() if isinstance(kept, KeysValues)})
        way: Attend = attend or (recall if starts is None else WithinDocuments(starts))
        angles = None if self.rotary is None else self.rotary.angles(positions, t)
        x, after = shortened(self.embedding(tokens)), []
        for layer, block in enumerate(self.blocks):
            kept = layers.get(layer)
            x, known = block(x, angles, layer, way, kept if isinstance(kept, DeltaState) else None, starts)
            after.append(recall.after.get(layer) if known is None else known)
        hidden = self.norm(x)
        whole = all(known is not None for known in after) and starts is None
        now = LinearState(past + t, tuple(known for known in after if known is not None)) if whole else None
        return LinearOutputs(hidden, self.head(hidden) if logits else None, now)

    def parameter_count(self) -> int:
        """Returns the number of parameters; tied ones count once."""
        return sum(p.numel() for p in self.parameters())
