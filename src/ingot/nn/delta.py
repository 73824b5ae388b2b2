"""Gated DeltaNet: attention whose memory has a fixed size, whatever the length of the text.

Each head keeps one matrix S. A token fades it, takes out what S already says about the token's key, and
writes the difference to the token's value:

```
S <- a S                            a in (0, 1]: how much is kept
S <- S + b k (v - S^T k)^T          b in (0, 1): how strongly is written
o  = S^T q
```

Step by step that is a loop over tokens (`step_by_step`). For whole texts it is made of matrix products over
chunks of C tokens (`by_chunks`): within a chunk, what each token writes depends on those before it by a
triangular system, which is solved at once; only S goes from chunk to chunk.

| letter | meaning | letter | meaning |
|---|---|---|---|
| b | batch | k, h | key heads, value heads (h a multiple of k) |
| t | tokens | e, w | width of keys, of values |
| n, c | chunks, tokens in a chunk | g | value heads that share a key head, h / k |

Source: Yang et al. 2024, arXiv 2412.06464, sections 3.1 and 3.3; arXiv 2406.06484, section 3.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import pad, silu, softplus

from ingot.config import Config
from ingot.nn.linear import Linear
from ingot.nn.norms import RMSNorm
from ingot.nn.short_convolution import ShortConvolution

CHUNKS = {"cpu": 32}
"""Tokens of a chunk where a device has a number of its own (measured), and `CHUNK` where it has not."""
CHUNK = 64
FORGOTTEN = -30.0
"""Fading below which nothing is left in float32. What fades more only takes digits from its chunk's sums."""


class DeltaConfig(Config):
    """The sizes of a gated delta layer.

    Args:
        key_heads: k, heads of queries and keys.
        value_heads: h, heads of values, a multiple of k; each has a memory of its own.
        key_width: e, of each head's queries and keys.
        value_width: w, of each head's values.
        taps: values that the short convolutions see.
    """

    key_heads: int = Field(gt=0)
    value_heads: int = Field(gt=0)
    key_width: int = Field(gt=0)
    value_width: int = Field(gt=0)
    taps: int = Field(default=4, gt=0)

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.value_heads % self.key_heads:
            both = f"value_heads ({self.value_heads}) must be a multiple of key_heads ({self.key_heads})"
            raise ValueError(both)
        return self


def step_by_step(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    fading: Tensor,
    strength: Tensor,
    memory: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The gated delta rule as it is defined, one token after the other.

    Args:
        query: [b, t, k, e].
        key: [b, t, k, e], of length 1 or less.
        value: [b, t, h, w].
        fading: [b, t, h], log a, not above 0.
        strength: [b, t, h], b.
        memory: [b, h, e, w] before the first token; None is zeros.

    Returns:
        What is read, [b, t, h, w] in the values' dtype, and the memory after the last token, in float32.
    """
    shared = value.shape[2] // key.shape[2]
    query, key = (x.repeat_interleave(shared, 2) for x in (query, key))
    query, key, wide, fading, strength = map(_wide, (query, key, value, fading, strength))
    if memory is None:
        memory = wide.new_zeros(wide.shape[0], wide.shape[2], key.shape[3], wide.shape[3])
    kept = fading.exp()
    read: list[Tensor] = []
    with torch.autocast(value.device.type, enabled=False):
        for place in range(value.shape[1]):
            memory = memory * kept[:, place, :, None, None]
            known = key[:, place, :, None] @ memory  # [b, h, 1, w]
            new = strength[:, place, :, None, None] * (wide[:, place, :, None] - known)
            memory = memory + key[:, place, :, :, None] * new
            read.append((query[:, place, :, None] @ memory)[:, :, 0])
    return torch.stack(read, 1).to(value.dtype), memory


def by_chunks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    fading: Tensor,
    strength: Tensor,
    memory: Tensor | None = None,
    starts: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The gated delta rule over whole chunks: the numbers of `step_by_step` by way of matrix products.

    Args:
        query: see `step_by_step`, as all others that stand there.
        key: likewise.
        value: likewise.
        fading: likewise.
        strength: likewise.
        memory: likewise.
        starts: [b, t], the place at which each token's document begins; each document begins with an empty
            memory, so that none may be given. None where rows hold one document.
        chunk: c; None is the device's.

    Returns:
        See `step_by_step`.
    """
    b, t, k, _ = key.shape
    h, w = value.shape[2:]
    g, c = h // k, min(chunk or CHUNKS.get(value.device.type, CHUNK), t)

    def chunks(x: Tensor, heads: int) -> Tensor:
        """[b, t, heads, *] -> [n, b, k, heads / k, c, *]; what is filled up writes and fades nothing."""
        x = _wide(x).view(b, t, heads, -1)
        x = pad(x, (0, 0, 0, 0, 0, -t % c)).view(b, -1, c, k, heads // k, x.shape[-1])
        return x.permute(1, 0, 3, 4, 2, 5).contiguous()  # once, and not in each product

    with torch.autocast(value.device.type, enabled=False):
        queries, keys, values = chunks(query, k), chunks(key, k), chunks(value, h)
        amounts = chunks(strength, h)  # [n, b, k, g, c, 1]
        faded = chunks(fading.clamp(min=FORGOTTEN), h).cumsum(4)  # since the beginning of the chunk
        earlier, reached = _sight(b, t, c, starts, value.device)
        # between[i, j]: what is left at token i of what token j wrote, 0 where i must not see it.
        between = (faded - faded.mT).masked_fill(~earlier, float("-inf")).exp()  # [n, b, k, g, c, c]
        since = faded.exp() if reached is None else faded.exp() * reached  # of the memory before the chunk
        system = amounts * (keys @ keys.mT) * between
        given = torch.cat([amounts * values, amounts * since * keys], -1)
        solved = torch.linalg.solve_triangular(system, given, upper=False, unitriangular=True)
        fresh, known = solved.split([w, key.shape[3]], -1)
        left = (keys * between[..., -1, :, None]).mT  # of the keys, at the chunk's end: [n, b, k, g, e, c]
        if memory is None:
            memory = values.new_zeros(b, h, key.shape[3], w)
        memory = memory.view(b, k, g, *memory.shape[2:])
        memories, written = [], []
        # `unbind`, because the gradient of an index is as large as what it is an index of.
        parts = (fresh, known, left, since[..., -1:, :])
        for new, old, keep, rest in zip(*(part.unbind() for part in parts), strict=True):
            memories.append(memory)
            written.append(new - old @ memory)
            memory = rest * memory + keep @ written[-1]
        read = (queries * since) @ torch.stack(memories)
        read = read + ((queries @ keys.mT) * between) @ torch.stack(written)
    read = read.permute(1, 0, 4, 2, 3, 5).reshape(b, -1, h, w)[:, :t]
    return read.to(value.dtype), memory.flatten(1, 2)


def _sight(
    b: int, t: int, c: int, starts: Tensor | None, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Which tokens of its chunk a token sees, and whether it sees the memory before the chunk.

    Returns:
        [c, c] or [n, b, 1, 1, c, c] bool; None for always, or [n, b, 1, 1, c, 1] bool.
    """
    places = torch.arange(c, device=device)
    earlier = places <= places[:, None]
    if starts is None:
        return earlier, None
    full = torch.cat([starts, starts[:, -1:].expand(b, -t % c)], 1).view(b, -1, c).transpose(0, 1)
    first = torch.arange(len(full), device=device)[:, None, None] * c  # of each chunk
    own = places >= (full - first)[..., None]
    return (earlier & own)[:, :, None, None], (full < first)[:, :, None, None, :, None]


def _wide(x: Tensor) -> Tensor:
    """At least float32: sums over long texts need it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def unit(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Scales the vectors of the last dimension to length 1, in at least float32."""
    x = _wide(x)
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + epsilon)


class DeltaState(NamedTuple):
    """What a gated delta layer knows of the text so far; its size never changes."""

    memory: Tensor  # [b, h, e, w] float32
    tails: tuple[Tensor, Tensor, Tensor]  # last inputs of the convolutions: of queries, keys, values


class GatedDelta(nn.Module):
    """A layer that mixes tokens by the gated delta rule.

    ```
    query, key: projection -> short convolution -> silu -> length 1     gate, strength, decay: projections
    value:      projection -> short convolution -> silu                 output(norm(read) * silu(gate))
    ```

    The logarithm of what is kept is -exp(rate) * softplus(decay(x) + decay_bias), as in Mamba-2.

    Args:
        width: d.
        config: the sizes.
        norm_epsilon: of the norm over what each head reads.

    Source: Yang et al. 2024, arXiv 2412.06464, section 3.4 and figure 1.
    """

    def __init__(self, width: int, config: DeltaConfig, norm_epsilon: float = 1e-6) -> None:
        super().__init__()
        self.key_width, self.value_width = config.key_width, config.value_width
        keys, values = config.key_heads * config.key_width, config.value_heads * config.value_width
        self.query = Linear(width, keys, bias=False)
        self.key = Linear(width, keys, bias=False)
        self.value = Linear(width, values, bias=False)
        self.query_convolution = ShortConvolution(keys, config.taps)
        self.key_convolution = ShortConvolution(keys, config.taps)
        self.value_convolution = ShortConvolution(values, config.taps)
        self.strength = Linear(width, config.value_heads, bias=False)
        self.decay = Linear(width, config.value_heads, bias=False)
        self.rate = nn.Parameter(torch.empty(config.value_heads))
        self.decay_bias = nn.Parameter(torch.empty(config.value_heads))
        self.gate = Linear(width, values, bias=False)
        self.norm = RMSNorm(config.value_width, norm_epsilon)
        self.output = Linear(values, width, bias=False)
        start(self, torch.Generator().manual_seed(0))

    def forward(
        self, x: Tensor, state: DeltaState | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, DeltaState]:
        """Mixes the tokens.

        Args:
            x: [b, t, d].
            state: after the tokens before x; None is the beginning of a text.
            starts: [b, t], see `by_chunks`; there is no state then.

        Returns:
            [b, t, d], and the state after the last token.
        """
        tails = (None, None, None) if state is None else state.tails
        query, query_tail = self.query_convolution(self.query(x), tails[0], starts)
        key, key_tail = self.key_convolution(self.key(x), tails[1], starts)
        value, value_tail = self.value_convolution(self.value(x), tails[2], starts)
        query = unit(silu(query).unflatten(-1, (-1, self.key_width))) * self.key_width**-0.5
        key = unit(silu(key).unflatten(-1, (-1, self.key_width)))
        value = silu(value).unflatten(-1, (-1, self.value_width))
        fading = -_wide(self.rate).exp() * softplus(_wide(self.decay(x)) + self.decay_bias)
        given = (query, key, value, fading, self.strength(x).sigmoid())
        before = None if state is None else state.memory
        single = x.shape[1] == 1 and starts is None
        read, memory = step_by_step(*given, before) if single else by_chunks(*given, before, starts)
        gate = silu(_wide(self.gate(x).unflatten(-1, (-1, self.value_width))))
        mixed = (self.norm(read) * gate).to(value.dtype).flatten(2)
        return self.output(mixed), DeltaState(memory, (query_tail, key_tail, value_tail))


@torch.no_grad()
def start(model: nn.Module, generator: torch.Generator) -> None:
    """Draws what `initialise` does not know: convolutions, and how fast the memories of a layer fade.

    A head forgets by a factor exp(-A dt) per token at first, with A even between 1 and 16 and dt between
    0.001 and 0.1, even in its logarithm: some heads remember a thousand tokens, some ten.

    Args:
        model: all its delta layers and convolutions are changed in place.
        generator: of the draw.

    Source: Dao and Gu 2024 (Mamba-2), arXiv 2405.21060; as the authors of Gated DeltaNet start theirs.
    """
    for module in model.modules():
        if isinstance(module, ShortConvolution):
            bound = module.taps**-0.5
            fresh = torch.empty(module.weight.shape).uniform_(-bound, bound, generator=generator)
            module.weight.copy_(fresh)
        elif isinstance(module, GatedDelta):
            heads = module.rate.shape
            module.rate.copy_(torch.empty(heads).uniform_(1, 16, generator=generator).log())
            low, high = math.log(0.001), math.log(0.1)
            step = torch.empty(heads).uniform_(low, high, generator=generator).exp()
            module.decay_bias.copy_(step.expm1().log())  # softplus of it is the step
