"""More layers of the ones that there are, to train a larger model from a smaller one's weights.

```
identity   0 1 2 3 -> 0 1 1' 2 3 3'     copies that add nothing yet: the model answers as before
solar      0 1 2 3 -> 0 1 2 1 2 3       the first layers and the last ones, overlapping: it must be trained on
```

Source: identity, block expansion, Wu et al. 2024, LLaMA Pro, arXiv 2401.02415, section 3.1; solar, depthwise
scaling, Kim et al. 2023, SOLAR 10.7B, arXiv 2312.15166, section 2.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ingot.errors import ConfigError
from ingot.models.decoder import Decoder, DecoderConfig

How = Literal["identity", "solar"]

_ADDING = (
    "attention.output.",
    "feed_forward.down.",
    "feed_forward.experts.down.",
    "feed_forward.shared.down.",
)
"""What makes that which a layer adds to the residual stream."""
_AFTER = ("attention_output_norm.bias", "feed_forward_output_norm.bias")


@torch.no_grad()
def deepened(model: Decoder, layers: int, how: How = "identity") -> Decoder:
    """Returns a model with more layers; its width, heads and vocabulary stay.

    Args:
        model: any dtype; it is not changed.
        layers: to have in all: with `solar` at most twice those of the model.
        how: see above.

    Raises:
        ConfigError: not more layers, or more than the way allows.

    Example:
        >>> deepened(model, 2 * model.config.layers).config.layers          # doctest: +SKIP
    """
    before = model.config.layers
    if layers <= before:
        what = f"{layers} layers are no more than the {before} that the model has"
        raise ConfigError(what, where="layers", fix=f"use more than {before}")
    if how == "solar" and layers > 2 * before:
        what = f"{layers} layers are more than twice the {before} that the model has"
        raise ConfigError(what, where="layers", fix=f"use at most {2 * before}, or how=identity")
    line = _doubled(before, layers) if how == "solar" else _interleaved(before, layers)
    state = model.state_dict()
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("blocks.")}
    for place, (source, silent) in enumerate(line):
        prefix = f"blocks.{source}."
        for name, tensor in state.items():
            if name.startswith(prefix):
                part = name.removeprefix(prefix)
                kept[f"blocks.{place}.{part}"] = (
                    torch.zeros_like(tensor) if silent and _adds(part) else tensor
                )
    changed = Decoder(_config(model.config, [source for source, _ in line]))
    changed.to(state["embedding.weight"]).load_state_dict(kept)
    return changed.train(model.training)


def _interleaved(before: int, layers: int) -> list[tuple[int, bool]]:
    """Layers with silent copies spread among them evenly, each behind the layer that it is of."""
    line = []
    for layer in range(before):
        copies = layers * (layer + 1) // before - layers * layer // before - 1
        line += [(layer, False), *[(layer, True)] * copies]
    return line


def _doubled(before: int, layers: int) -> list[tuple[int, bool]]:
    """The first half of the layers to be made from the bottom, the other from the top."""
    first = -(-layers // 2)
    return [(layer, False) for layer in (*range(first), *range(before - (layers - first), before))]


def _adds(part: str) -> bool:
    return part.startswith(_ADDING) or part in _AFTER


def _config(config: DecoderConfig, line: list[int]) -> DecoderConfig:
    """The configuration in which each layer is of the kind of its source."""

    def moved(layers: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(place for place, source in enumerate(line) if source in layers)

    local = None if config.local_layers is None else moved(config.local_layers)
    changes = {"layers": len(line), "local_layers": local, "dense_layers": moved(config.dense_layers)}
    changes["unturned_layers"] = moved(config.unturned_layers)
    return config.model_copy(update=changes)


def same_answers(model: Decoder, changed: Decoder, tokens: Tensor, vocabulary: int | None = None) -> float:
    """Returns the largest difference of two models' logits, over the tokens that both know.

    Args:
        model, changed: of the same device.
        tokens: [b, t] that they read.
        vocabulary: how many of the first tokens to compare; None is all that both have.
    """
    known = vocabulary or min(model.config.vocabulary, changed.config.vocabulary)
    with torch.no_grad():
        ours, theirs = (one.eval()(tokens).logits for one in (model, changed))
    assert ours is not None and theirs is not None
    return float((ours[..., :known].float() - theirs[..., :known].float()).abs().max())
