"""How a layer scores keys where it does more than multiply: windows, caps, distances, sinks.

```
scores = query . key / sqrt(e)  ->  cap * tanh(scores / cap)  ->  - slope * distance  ->  softmax with sink
```

`Scored` is what a layer asks for; `attend` does it with any mask. The backend is chosen by capability: all
but caps run in PyTorch's fused attention, with a mask of bits (windows) or of numbers (distances, sinks); a
cap stands between score and softmax, which fused attention cannot do, and is written out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

BLOCK = 128  # queries at least, where there is a window


class Scored(NamedTuple):
    """What a layer asks for beyond causal attention.

    Args:
        window: tokens that a token sees, itself included: those just before it. None sees all (Beltagy et
            al. 2020, arXiv 2004.05150; Jiang et al. 2023, Mistral 7B, arXiv 2310.06825, section 2).
        cap: that scores stay below, softly (Gemma 2, arXiv 2408.00118, section 2), or None.
        slopes: [h] by which scores fall with distance (ALiBi), or None.
        sinks: [h] logits of a place that takes its share of the softmax and gives nothing (gpt-oss model card
            2025, arXiv 2508.10925, section 2.2), or None.
    """

    window: int | None = None
    cap: float | None = None
    slopes: Tensor | None = None
    sinks: Tensor | None = None

    def within(self, places: int) -> Scored | None:
        """Returns what is left of it where there are so many keys; None is plain causal attention."""
        window = None if self.window is None or self.window >= places else self.window
        left = self._replace(window=window)
        return None if all(part is None for part in left) else left


def causal(query: Tensor, key: Tensor, value: Tensor, scored: Scored, starts: Tensor | None = None) -> Tensor:
    """Attention over the tokens of one pass. With a window, blocks of queries meet the keys near them only.

    Args:
        query: [b, h, t, e].
        key: [b, k, t, e].
        value: [b, k, t, w].
        scored: what is asked for.
        starts: [b, t] the first key that each query sees; None is 0.

    Returns:
        [b, h, t, w].
    """
    t = query.shape[2]
    places = torch.arange(t, device=query.device)
    block = t if scored.window is None else max(scored.window, BLOCK)
    mixed = []
    for first in range(0, t, block):
        here = slice(first, min(first + block, t))
        there = slice(0 if scored.window is None else max(0, first - scored.window + 1), here.stop)
        distance = places[here, None] - places[there]
        seen = None if starts is None else places[there] >= starts[:, None, here, None]
        near = key[:, :, there], value[:, :, there]
        mixed.append(attend(query[:, :, here], *near, distance, seen, scored))
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed, 2)


def attend(
    query: Tensor, key: Tensor, value: Tensor, distance: Tensor, seen: Tensor | None, scored: Scored
) -> Tensor:
    """Causal attention with all that a layer asks for.

    Args:
        query: [b, h, t, e].
        key: [b, k, T, e].
        value: [b, k, T, w].
        distance: [t, T] or [b, 1, t, T] integers: how far each key stands before the query; negative ones
            come after it.
        seen: bools of the same shape, false where a key is of another document or of nothing; None sees all.
        scored: what is asked for.

    Returns:
        [b, h, t, w].
    """
    visible = distance >= 0
    if scored.window is not None:
        visible = visible & (distance < scored.window)
    if seen is not None:
        visible = visible & seen
    if scored.cap is not None:
        return _written_out(query, key, value, distance, visible, scored)
    mask = visible
    if scored.slopes is not None or scored.sinks is not None:
        numbers = _falls(distance, scored.slopes, query)
        mask = torch.where(visible, numbers, float("-inf"))  # [b or 1, h or 1, t, T]
    if scored.sinks is not None:
        # One more key, of zeros: its score is the sink alone, and its value adds nothing.
        sinks = scored.sinks.to(mask.dtype).view(1, -1, 1, 1).expand(len(mask), -1, mask.shape[2], 1)
        mask = torch.cat([mask.expand(-1, sinks.shape[1], -1, -1), sinks], -1)
        key, value = pad(key, (0, 0, 0, 1)), pad(value, (0, 0, 0, 1))
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, enable_gqa=query.shape[1] != key.shape[1]
    )


def _falls(distance: Tensor, slopes: Tensor | None, like: Tensor) -> Tensor:
    """What is added to the scores, [b or 1, h or 1, t, T]; in float32, as far distances need it."""
    far = distance.view(-1, 1, *distance.shape[-2:]).float()
    return torch.zeros_like(far) if slopes is None else -slopes.float().view(1, -1, 1, 1) * far


def _written_out(
    query: Tensor, key: Tensor, value: Tensor, distance: Tensor, visible: Tensor, scored: Scored
) -> Tensor:
    """The same, step by step: scores in the inputs' type, softmax in float32."""
    b, h, t, e = query.shape
    k = key.shape[1]
    together = query.reshape(b, k, h // k, t, e)  # query heads that share keys stand side by side
    scores = (together @ key[:, :, None].mT * e**-0.5).reshape(b, h, t, -1)
    if scored.cap is not None:
        scores = scored.cap * torch.tanh(scores / scored.cap)
    if scored.slopes is not None:
        scores = scores + _falls(distance, scored.slopes, query)
    scores = scores.float().masked_fill(~visible, float("-inf"))
    if scored.sinks is not None:
        sinks = scored.sinks.float().view(1, -1, 1, 1).expand(b, -1, t, 1)
        chances = torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]
    else:
        chances = scores.softmax(-1)
    chances = chances.to(value.dtype).view(b, k, h // k, t, -1)
    return (chances @ value[:, :, None]).reshape(b, h, t, -1)
