"""Repeatable sums: the same step gives the same bits, in this process and in the next.

On a CPU, compiled code and PyTorch add gradients of embeddings from several threads at once, in the order
in which the threads happen to come; asked to, both take a fixed order, at no cost that could be measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.utils.deterministic


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """Fixes the order of all sums within, on the CPU.

    On other devices nothing changes: their fixed orders are slower, and some operations have none.

    Args:
        device: where the work is done.
    """
    if not device.startswith("cpu"):
        yield
        return
    was, warned = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was, warn_only=warned)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
