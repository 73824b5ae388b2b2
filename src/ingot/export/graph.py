"""A decoder as a plain function of tensors, cache in and cache out: what other runtimes take as a graph.

```
input_ids       [b, t]        the new tokens
attention_mask  [b, p + t]    1 where there is a token, 0 where there is padding, past ones first
position_ids    [b, t]        place of each new token, counted from 0 at the first that is no padding
past            [b, k, p, e]  per layer keys, then values; p is 0 at the beginning
-> logits [b, t, v], and per layer keys and values [b, k, p + t, e]; values of latent attention are narrower
```

Tensors have to be contiguous: compiled graphs do not look at strides. The names are those of `transformers`
and its exporters, so that what runs their graphs runs these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ingot.errors import ArtifactError
from ingot.export.all_experts import unsorted
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.nn import scoring
from ingot.nn.attention import causal
from ingot.nn.scoring import Scored

Step = tuple[Tensor, Tensor, Tensor, list[Tensor]]
"""input_ids, attention_mask, position_ids, past."""

LARGEST_DIFFERENCE = 1e-3
"""How far a graph's logits may be from the model's before it counts as broken."""


class Remembering:
    """Attends from new tokens to those before them and to themselves; hands the longer cache on.

    Args:
        past: per layer keys, then values, [b, k, p, e] each.
        mask: [b, p + t] integers, 0 for padding.
        new: t.
    """

    def __init__(self, past: list[Tensor], mask: Tensor, new: int) -> None:
        self.past = past
        self.present: list[Tensor] = []
        place = torch.arange(mask.shape[1], device=mask.device)
        own = place[-new:, None]  # [t, 1]
        # Padding sees itself: a row of attention that sees nothing would be NaN, and 0 * NaN is NaN.
        self.distance = own - place  # [t, p + t]
        self.seen = ((place < own) & (mask[:, None, None] != 0)) | (place == own)  # [b, 1, t, p + t]

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None
    ) -> Tensor:
        """See `Attend`."""
        keys = torch.cat([self.past[2 * layer], key], dim=2)
        values = torch.cat([self.past[2 * layer + 1], value], dim=2)
        self.present += [keys, values]
        if scored is not None:
            every = _for_each_head(keys, query), _for_each_head(values, query)
            return scoring.attend(query, *every, self.distance, self.seen, scored)
        return scaled_dot_product_attention(
            query, _for_each_head(keys, query), _for_each_head(values, query), attn_mask=self.seen
        )


def _for_each_head(shared: Tensor, query: Tensor) -> Tensor:
    """[b, k, T, e] as [b, h, T, e]: every graph format knows this, and not all know grouped attention."""
    b, k, places, e = shared.shape
    groups = query.shape[1] // k
    return shared[:, :, None].expand(b, k, groups, places, e).reshape(b, k * groups, places, e)


class Graph(nn.Module):
    """A decoder whose cache is an argument.

    Args:
        model: in evaluation mode, on the CPU, in float32.

    Example:
        >>> graph = Graph(model)
        >>> logits, *past = graph(*first_step(model.config, torch.tensor([[5, 3, 8]])))
    """

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = unsorted(model)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, past: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """See the top of this file."""
        remember = Remembering(past, attention_mask, input_ids.shape[1])
        logits = self.model(input_ids, position_ids, remember).logits
        assert logits is not None
        return logits, *remember.present


def cache_shapes(config: DecoderConfig, b: int, p: int) -> list[tuple[int, int, int, int]]:
    """Returns the shapes of `past` for b rows of p places."""
    if config.latent is None:
        return [(b, config.kv_heads, p, config.head_width)] * (2 * config.layers)
    wide, narrow = config.head_width, config.latent.value_width
    return [(b, config.heads, p, wide), (b, config.heads, p, narrow)] * config.layers


def first_step(config: DecoderConfig, tokens: Tensor) -> Step:
    """Returns what a graph takes for a prompt [b, t] without padding."""
    b, t = tokens.shape
    positions = torch.arange(t).expand(b, t).contiguous()
    past = [torch.zeros(shape) for shape in cache_shapes(config, b, 0)]
    return tokens.contiguous(), torch.ones(b, t, dtype=torch.int64), positions, past


def next_step(tokens: Tensor, past: list[Tensor]) -> Step:
    """Returns what a graph takes for tokens [b, t] behind a cache without padding."""
    b, t = tokens.shape
    p = past[0].shape[2]
    positions = torch.arange(p, p + t).expand(b, t).contiguous()
    return tokens.contiguous(), torch.ones(b, p + t, dtype=torch.int64), positions, past


def example(config: DecoderConfig) -> Step:
    """Returns a step whose sizes are all different, so that a tracer takes none of them for another."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, config.vocabulary, (3, 5), generator=generator)
    past = [torch.randn(shape, generator=generator) for shape in cache_shapes(config, 3, 7)]
    return next_step(tokens, past)


def names(config: DecoderConfig) -> tuple[list[str], list[str]]:
    """Returns the names of a graph's inputs and outputs, in order."""
    slots = [f"{layer}.{what}" for layer in range(config.layers) for what in ("key", "value")]
    inputs = ["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{slot}" for slot in slots)]
    return inputs, ["logits", *(f"present.{slot}" for slot in slots)]


def check(graph: Graph, run: Callable[[Step], Sequence[Tensor]], where: object) -> float:
    """Compares an exported graph with the model at sizes that it was not exported at.

    Args:
        graph: what was exported.
        run: calls the exported one.
        where: to name in the error.

    Returns:
        The largest difference of a logit.

    Raises:
        ArtifactError: they differ by more than rounding.
    """
    config = graph.model.config
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, config.vocabulary, (1, min(11, config.context - 1)), generator=generator)
    step = first_step(config, tokens)
    with torch.no_grad():
        plain = graph.model(tokens, attend=causal).logits  # turned as behind a cache
        assert plain is not None
        differences = [(run(step)[0] - plain).abs().max()]
        for _ in range(2):  # a prompt of one row on an empty cache, then a single token behind it
            logits, *past = graph(*step)
            differences.append((run(step)[0] - logits).abs().max())
            step = next_step(logits[:, -1:].argmax(-1), past)
    largest = float(torch.stack(differences).max())  # NaN stays NaN, and is no small difference
    if not largest <= LARGEST_DIFFERENCE:
        what = f"the exported graph's logits are {largest:g} off"
        raise ArtifactError(what, where=where, fix="report this with the versions of torch and the runtime")
    return largest
