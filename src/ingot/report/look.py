"""Looking into a decoder while it reads a text: attention, flow of information, what each layer would say.

```
one pass -> attention weights (what `attend` does to the unit vectors) -> maps, rollout, kinds of heads
         -> hidden states of every layer -> final norm and head         -> its likeliest next tokens
         -> queries, keys, values of the first tokens                   -> a pass to step through
```

Attention is linear in the values, so the weights that were used are read off exactly by giving the very
same `attend` the unit vectors as values: no kernel, window or bias has to be written a second time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ingot.errors import ConfigError
from ingot.models.decoder import Decoder
from ingot.nn.attention import Attend, causal

SHOWN = 64
"""Tokens at the end of a text whose maps are shown."""

STEPPED = 8
"""Tokens at the start of a text that can be stepped through. A causal model computes them as if nothing
followed, so that what a page holds of them is all there is."""

LIKELIEST = 5
_MAP_BYTES = 6_000_000
_STEP_BYTES = 1_500_000


class Heads(NamedTuple):
    """How much of its attention each head gives to places of a kind, on average: [L, h] each.

    Args:
        itself: the token that asks.
        previous: the one before it.
        first: the first of the text, where heads rest that find nothing.
        same: earlier places with the same token.
        induction: places that follow those: what came next the last time (Olsson et al. 2022,
            arXiv 2209.11895). Not a number where no token of the text stood before.
    """

    itself: Tensor
    previous: Tensor
    first: Tensor
    same: Tensor
    induction: Tensor


class Lens(NamedTuple):
    """What the final norm and the head make of the hidden states before the first block and after each.

    Args:
        ids: [L + 1, T, 5] likeliest next tokens.
        chances: [L + 1, T, 5] of these.
        next: [L + 1, T - 1] chance of the token that did come next.
        last: [T, v] logits of the last row.

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
    """

    ids: Tensor
    chances: Tensor
    next: Tensor
    last: Tensor


@dataclass(frozen=True)
class Steps:
    """The tensors of the first tokens, n of them, for some layers.

    Args:
        layers: numbers of the layers that are kept.
        embedding: [n, d] as the first block receives it.
        query: per layer [h, n, e], as attention receives it: normalised and rotated.
        key: per layer [k, n, e].
        value: per layer [k, n, e].
        weights: per layer [h, n, n], as attention used them.
        mixed: per layer [h, n, e], what the heads give on.
        ids: [n, 10] likeliest next tokens at the end of the pass.
        chances: [n, 10] of these.
    """

    layers: tuple[int, ...]
    embedding: Tensor
    query: list[Tensor]
    key: list[Tensor]
    value: list[Tensor]
    weights: list[Tensor]
    mixed: list[Tensor]
    ids: Tensor
    chances: Tensor


@dataclass(frozen=True)
class Seen:
    """All that was seen of one pass.

    Args:
        tokens: [t] ids of the text.
        first: place of the first token shown; the last T are.
        maps: [L, h, T, T + 1] attention of the tokens shown; column 0 is what goes to earlier ones.
        rollout: [L, T, T + 1] attention multiplied through the layers, the residual stream counted as half
            (Abnar and Zuidema 2020, arXiv 2005.00928, section 3).
        heads: kinds of heads.
        lens: likeliest next tokens after every layer.
        steps: the pass to step through.
    """

    tokens: Tensor
    first: int
    maps: Tensor
    rollout: Tensor
    heads: Heads
    lens: Lens
    steps: Steps


@dataclass
class _Watch:
    """An `attend` that notes what another one does."""

    attend: Attend
    tokens: Tensor
    shown: int
    kept: frozenset[int]
    rollout: Tensor
    maps: list[Tensor] = field(default_factory=list)
    rollouts: list[Tensor] = field(default_factory=list)
    heads: list[Heads] = field(default_factory=list)
    tensors: list[tuple[Tensor, ...]] = field(default_factory=list)

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *more: Any, **named: Any
    ) -> Tensor:
        """See `Attend`."""
        mixed = self.attend(layer, query, key, value, *more, **named)
        t = query.shape[2]
        units = torch.eye(t, dtype=value.dtype, device=value.device).expand(1, value.shape[1], t, t)
        weights = self.attend(layer, query, key, units, *more, **named)[0].float().cpu()  # [h, t, t]
        self.maps.append(_window(weights, self.shown))
        flow = 0.5 * weights.mean(0) + 0.5 * torch.eye(t)
        self.rollout = flow / flow.sum(-1, keepdim=True) @ self.rollout
        self.rollouts.append(_window(self.rollout, self.shown))
        self.heads.append(_kinds(weights, self.tokens))
        if layer in self.kept:
            n = min(t, STEPPED)
            inputs = [x[0, :, :n].float().cpu() for x in (query, key, value)]
            self.tensors.append((*inputs, weights[:, :n, :n].clone(), mixed[0, :, :n].float().cpu()))
        return mixed


def look(model: Decoder, tokens: Tensor, attend: Attend = causal) -> Seen:
    """Reads a text and notes what happens inside.

    Args:
        model: in evaluation mode, best in fp32.
        tokens: [t] int64, at least two, at most the model's context.
        attend: how its queries meet keys.

    Raises:
        ConfigError: too few tokens, or too many.
    """
    config = model.config
    if not 2 <= len(tokens) <= config.context:
        what = f"{len(tokens)} tokens, and it takes 2 to {config.context}"
        raise ConfigError(what, where="text", fix="give a longer text" if len(tokens) < 2 else "shorten it")
    heads = config.layers * config.heads
    sizes = (min(size, len(tokens)) for size in (SHOWN, 48, 32, 24))
    shown = next((size for size in sizes if heads * size * (size + 1) <= _MAP_BYTES), min(16, len(tokens)))
    n = min(STEPPED, len(tokens))
    each = 4 * n * (config.head_width * 2 * (config.heads + config.kv_heads) + config.heads * n)
    kept = _spread(config.layers, max(1, _STEP_BYTES // each))
    watch = _Watch(attend, tokens.cpu(), shown, frozenset(kept), torch.eye(len(tokens)))
    with torch.inference_mode():
        states, logits = _run(model, tokens, watch)
        lens = _lens(model, states, tokens, shown)
        end = torch.softmax(logits[:n].float(), -1).topk(min(10, config.vocabulary))
    query, key, value, weights, mixed = (list(column) for column in zip(*watch.tensors, strict=True))
    return Seen(
        tokens=tokens.cpu(),
        first=len(tokens) - shown,
        maps=torch.stack(watch.maps),
        rollout=torch.stack(watch.rollouts),
        heads=Heads(*(torch.stack(kind) for kind in zip(*watch.heads, strict=True))),
        lens=lens,
        steps=Steps(
            layers=kept,
            embedding=states[0][:n].float().cpu(),
            query=query,
            key=key,
            value=value,
            weights=weights,
            mixed=mixed,
            ids=end.indices.cpu(),
            chances=end.values.cpu(),
        ),
    )


def _run(model: Decoder, tokens: Tensor, attend: Attend) -> tuple[list[Tensor], Tensor]:
    """One pass. Returns the hidden states [t, d] before the first block and after each, and logits [t, v]."""
    states: list[Tensor] = []

    def before(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        states.append(given[0][0])

    def after(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        states.append(made[0])

    blocks = list(model.blocks)
    hooks = [blocks[0].register_forward_pre_hook(before)]
    hooks += [block.register_forward_hook(after) for block in blocks]
    try:
        logits = model(tokens[None].to(model.embedding.weight.device), attend=attend).logits
    finally:
        for hook in hooks:
            hook.remove()
    return states, logits[0]


def _lens(model: Decoder, states: list[Tensor], tokens: Tensor, shown: int) -> Lens:
    after = tokens[-shown:].cpu()[1:, None]
    ids, chances, following = [], [], []
    for state in states:
        logits = model.head(model.norm(state[-shown:][None]))[0].float().cpu()
        spread = torch.softmax(logits, -1)
        best = spread.topk(min(LIKELIEST, spread.shape[-1]))
        ids.append(best.indices)
        chances.append(best.values)
        following.append(spread[:-1].gather(1, after)[:, 0])
    return Lens(torch.stack(ids), torch.stack(chances), torch.stack(following), logits)


def _window(weights: Tensor, shown: int) -> Tensor:
    """The last rows and columns of [..., t, t], and before them a column with what the others get."""
    rows = weights[..., -shown:, :]
    earlier = rows[..., : rows.shape[-1] - shown].sum(-1, keepdim=True)
    return torch.cat([earlier, rows[..., -shown:]], -1)


def _kinds(weights: Tensor, tokens: Tensor) -> Heads:
    """Args: weights [h, t, t]. Returns: kinds of one layer, [h] each."""
    t = len(tokens)
    alike = (tokens[:, None] == tokens).tril(-1).float()  # [t, t]: the same token stood there before
    follows = torch.zeros(t, t)
    follows[:, 1:] = alike[:, :-1]
    again = alike.any(-1)
    asked = max(1, int(again.sum()))
    nothing = torch.full(weights.shape[:1], float("nan"))
    return Heads(
        itself=weights.diagonal(dim1=-2, dim2=-1).mean(-1),
        previous=weights.diagonal(-1, dim1=-2, dim2=-1).mean(-1),
        first=weights[:, 1:, 0].mean(-1),
        same=(weights * alike).sum((-2, -1)) / asked if again.any() else nothing,
        induction=(weights * follows).sum((-2, -1)) / asked if again.any() else nothing,
    )


def _spread(layers: int, most: int) -> tuple[int, ...]:
    """Up to `most` layers, the first and the last among them, evenly apart."""
    if most >= layers:
        return tuple(range(layers))
    if most == 1:
        return (layers - 1,)
    return tuple(sorted({round(step * (layers - 1) / (most - 1)) for step in range(most)}))
