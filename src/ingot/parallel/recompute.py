"""Activation checkpointing: forget what a layer computed, and compute it again on the way back.

```
none        every intermediate tensor of every unit waits in memory for the backward pass
selective   outputs of matrix products and attention wait; norms, activations, rotations are made again
full        only the input of each unit waits; the unit runs twice (about a third more work)
```

Gradients do not change, not even in the last bit: the same operations see the same numbers, and random
numbers (dropout) are drawn again from the same state.

Source: Chen et al. 2016, arXiv 1604.06174, section 3; selective: Korthikanti et al. 2022, arXiv
2205.05198, section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from ingot.errors import ConfigError

Mode = Literal["full", "selective"]

_KEPT = frozenset({"mm", "addmm", "bmm", "baddbmm"})
_KEPT_PARTS = ("scaled_dot_product", "flex_attention", "blocked_attention", "grouped_product")


def recompute(model: nn.Module, mode: Mode, units: Sequence[tuple[str, nn.Module]]) -> None:
    """Has the units forget their activations and compute them again in the backward pass.

    The modules stay what they are, names and state included; only their `forward` is wrapped.

    Args:
        model: changed in place.
        mode: 'full' keeps the units' inputs only; 'selective' keeps what is dear to compute, too.
        units: names and modules, as `Plan.units` finds them; none may contain another.

    Raises:
        ConfigError: an unknown mode, or no units: nothing would be saved, in silence.
    """
    if mode not in ("full", "selective"):
        raise ConfigError(f"unknown mode '{mode}'", where="recompute", fix="use full or selective")
    if not units:
        what = f"{type(model).__name__} has no units to recompute"
        raise ConfigError(what, where="recompute", fix="give a plan whose patterns match its layers")
    contexts = partial(create_selective_checkpoint_contexts, _policy)
    choice: dict[str, Any] = {"context_fn": contexts} if mode == "selective" else {}
    for _, unit in units:
        unit.forward = _twice(unit.forward, choice)


def _twice(forward: Callable[..., Any], choice: dict[str, Any]) -> Callable[..., Any]:
    return partial(_run, forward, choice)


def _run(forward: Callable[..., Any], choice: dict[str, Any], *inputs: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    return checkpoint(forward, *inputs, use_reentrant=False, **choice, **named)


def _policy(context: Any, operation: Any, *inputs: Any, **named: Any) -> CheckpointPolicy:
    """Keeps the outputs of matrix products and of attention."""
    name = operation.__name__.partition(".")[0]
    dear = name in _KEPT or any(part in name for part in _KEPT_PARTS)
    return CheckpointPolicy.MUST_SAVE if dear else CheckpointPolicy.PREFER_RECOMPUTE
