"""Who takes part in a study of architectures: small models of bytes that differ in what is studied alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from ingot.bench.material import CONTEXT, MODEL
from ingot.errors import ConfigError, did_you_mean
from ingot.models.decoder import Decoder, DecoderConfig


class Entrant(NamedTuple):
    """One architecture.

    Args:
        name: for people.
        config: its sizes and parts; the context is twice what it is trained on.
    """

    name: str
    config: DecoderConfig

    @property
    def parameters(self) -> int:
        """How many it has."""
        return parameters(self.config)


def parameters(config: DecoderConfig) -> int:
    """Returns the number of parameters of a model that is not made."""
    with torch.device("meta"):
        return Decoder(config).parameter_count()


def _with(**changes: Any) -> DecoderConfig:
    return DecoderConfig(**{**MODEL.model_dump(), "context": 2 * CONTEXT, **changes})


def fitted(config: DecoderConfig, wanted: int) -> DecoderConfig:
    """Returns the same with the feed-forward width that brings it nearest to a number of parameters.

    Args:
        config: of the model.
        wanted: parameters.

    Example:
        >>> parameters(fitted(MODEL, 200_000))
        199872
    """
    one = parameters(config)
    more = parameters(config.model_copy(update={"feed_forward": config.feed_forward + 1}))
    width = config.feed_forward + round((wanted - one) / (more - one))
    return config.model_copy(update={"feed_forward": max(1, width)})


_USUAL = _with(head_norm=None)
_SAME = parameters(_USUAL)
_OLD: dict[str, Any] = {"norm": "layer", "activation": "gelu", "positions": "learned"}
"""GPT-2's parts, each in the place of one of Llama's."""


def _sized(width: int, layers: int, parts: dict[str, Any]) -> DecoderConfig:
    heads = max(1, width // 32)
    sizes = {
        "width": width,
        "layers": layers,
        "heads": heads,
        "kv_heads": heads,
        "head_width": width // heads,
        "feed_forward": 3 * width,
    }
    return _with(head_norm=None, **sizes, **parts)


_SIZES = ((16, 1), (32, 2), (64, 3), (128, 4))

STUDIES: dict[str, tuple[Entrant, ...]] = {
    "positions": (
        Entrant("rotary", _USUAL),
        Entrant("learned", _with(head_norm=None, positions="learned")),
        Entrant("sinusoidal", _with(head_norm=None, positions="sinusoidal")),
        Entrant("alibi", _with(head_norm=None, positions="alibi")),
        Entrant("none", _with(head_norm=None, positions=None)),
    ),
    "parts": (
        Entrant("llama: RMSNorm, SwiGLU, RoPE", _USUAL),
        *(
            Entrant(f"{part} {old}", fitted(_with(head_norm=None, **{part: old}), _SAME))
            for part, old in _OLD.items()
        ),
        Entrant("gpt2: all three", fitted(_with(head_norm=None, **_OLD), _SAME)),
    ),
    "sizes": tuple(
        Entrant(
            f"{name} {width}x{layers}",
            fitted(_sized(width, layers, parts), parameters(_sized(width, layers, {}))),
        )
        for width, layers in _SIZES
        for name, parts in (("llama", {}), ("gpt2", _OLD))
    ),
}
"""By name: ways to know the place; Llama's parts one by one; two families in four sizes."""


def study_of(name: str) -> tuple[Entrant, ...]:
    """Returns the entrants of a study.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in STUDIES:
        fix = did_you_mean(name, STUDIES)
        raise ConfigError(f"unknown study '{name}'", where="bench architectures", fix=fix)
    return STUDIES[name]
