"""Which layers of ModernBERT are local, and how their positions turn, as `config.json` tells it."""

from __future__ import annotations

from typing import Any

from ingot.errors import ArtifactError
from ingot.models.families.encoder_keys import refuse


def whole_every(raw: dict[str, Any], layers: int) -> int:
    """Returns the n of "layers 0, n, 2n, ... are whole", told in either of two ways."""
    every: int = raw.get("global_attn_every_n_layers", 3)
    kinds = raw.get("layer_types")
    if kinds is None or kinds == kinds_of(every, layers):
        return every
    fitting = (n for n in range(1, layers + 1) if kinds_of(n, layers) == kinds)
    if (found := next(fitting, None)) is None:
        raise ArtifactError(
            f"layer_types {kinds} has no period",
            where="config.json",
            fix="whole layers must be 0, n, 2n, ...",
        )
    return found


def kinds_of(every: int, layers: int) -> list[str]:
    """Returns the kind of every layer, in their words."""
    return ["sliding_attention" if layer % every else "full_attention" for layer in range(layers)]


def theta_of(raw: dict[str, Any], kind: str, older: str, usual: float) -> float:
    """Returns the base of the rotary wavelengths of a kind of layer."""
    rope = (raw.get("rope_parameters") or {}).get(kind) or {}
    refuse(rope, {"rope_type": "default"})
    theta: float = rope.get("rope_theta", raw.get(older, usual))
    return theta
