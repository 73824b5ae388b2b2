"""Multi-head latent attention: keys and values are made of one short vector per token.

```
x -> query_down -> norm -> query_up      -> per head [ plain | rotary ]                   queries
x -> key_value_down -> [ latent | rotary ]
            latent -> norm -> key_value_up -> per head [ plain | value ]
                                               key = [ plain | rotary, the same for all heads ]
```

What a cache must remember of a token is the latent and the rotary part: in DeepSeek-V3 576 numbers, where 128
heads of keys and values would be 40,960. Here they are expanded before they meet the queries.

| letter | meaning | letter | meaning |
|---|---|---|---|
| b | batch | h | heads |
| t | tokens | e | width of a query's or key's head |
| d | model width | w | width of a value's head |
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from ingot.config import Config
from ingot.nn.attention import Attend
from ingot.nn.linear import Linear
from ingot.nn.norms import RMSNorm
from ingot.nn.positions import Angles, rotate


class LatentConfig(Config):
    """Sizes of latent attention.

    A query and a key have `plain_width + rotary_width` numbers per head (a decoder's `head_width`), of which
    only the last `rotary_width` are turned by position: the decoder's `Rotary` is made for that width.

    Args:
        query_rank: numbers of the vector that queries are made of; None makes them of the token itself.
        key_value_rank: numbers of the vector that keys and values are made of.
        rotary_width: numbers of a head that are turned by position; all heads share this part of a key.
        plain_width: numbers of a query's or key's head that are not.
        value_width: numbers of a value's head.
    """

    query_rank: int | None = Field(default=None, gt=0)
    key_value_rank: int = Field(gt=0)
    rotary_width: int = Field(gt=0, multiple_of=2)
    plain_width: int = Field(gt=0)
    value_width: int = Field(gt=0)

    @property
    def head_width(self) -> int:
        """Numbers of a query's or key's head."""
        return self.plain_width + self.rotary_width


class LatentAttention(nn.Module):
    """Attention whose keys and values come out of one latent vector per token.

    Args:
        width: d.
        heads: h.
        latent: the other sizes.
        norm_epsilon: of the norms of the latents.
        score_scale: that scores are multiplied by; None is 1 / sqrt(e).

    Source: DeepSeek-V2 2024, arXiv 2405.04434, section 2.1.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        latent: LatentConfig,
        norm_epsilon: float = 1e-6,
        score_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.sizes = latent
        self.query_down: nn.Module | None = None
        self.query_norm: nn.Module | None = None
        if latent.query_rank is not None:
            self.query_down = Linear(width, latent.query_rank, bias=False)
            self.query_norm = RMSNorm(latent.query_rank, norm_epsilon)
        self.query_up = Linear(latent.query_rank or width, heads * latent.head_width, bias=False)
        self.key_value_down = Linear(width, latent.key_value_rank + latent.rotary_width, bias=False)
        self.key_value_norm = RMSNorm(latent.key_value_rank, norm_epsilon)
        both = latent.plain_width + latent.value_width
        self.key_value_up = Linear(latent.key_value_rank, heads * both, bias=False)
        self.output = Linear(heads * latent.value_width, width, bias=False)
        # Whoever attends divides by sqrt(e): another scale is put into the query.
        self.query_scale = None if score_scale is None else score_scale * latent.head_width**0.5

    def forward(self, x: Tensor, angles: Angles | None, layer: int, attend: Attend) -> Tensor:
        """Args: x [b, t, d], rotation angles if any, layer number, how to attend. Returns: [b, t, d]."""
        b, t, _ = x.shape
        sizes = self.sizes
        narrow = x
        if self.query_down is not None and self.query_norm is not None:
            narrow = self.query_norm(self.query_down(x))
        query = self.query_up(narrow).view(b, t, -1, sizes.head_width)  # [b, t, h, e]
        latent, turned = self.key_value_down(x).split([sizes.key_value_rank, sizes.rotary_width], -1)
        turned = turned.unsqueeze(2)  # [b, t, 1, rotary]
        expanded = self.key_value_up(self.key_value_norm(latent))
        expanded = expanded.view(b, t, -1, sizes.plain_width + sizes.value_width)
        plain, value = expanded.split([sizes.plain_width, sizes.value_width], -1)  # [b, t, h, ...]
        if angles is not None:
            still, moved = query.split([sizes.plain_width, sizes.rotary_width], -1)
            query = torch.cat([still, rotate(moved, angles)], -1)
            turned = rotate(turned, angles)
        key = torch.cat([plain, turned.expand(-1, -1, plain.shape[2], -1)], -1)  # [b, t, h, e]
        if self.query_scale is not None:
            query = query * self.query_scale
        mixed = attend(layer, query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        return self.output(mixed.transpose(1, 2).reshape(b, t, -1))  # from [b, h, t, w]
