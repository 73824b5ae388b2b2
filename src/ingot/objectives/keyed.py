"""Random numbers that belong to samples: the same whoever draws them, in whatever company.

    (seed, purpose) -> stream      (stream, sample id) -> sample      (sample, place) -> number

Nothing is remembered between calls, so neither ranks nor micro-batches nor kills change what a sample
gets. A sample that comes again under the same id (in another epoch, say) gets the same numbers again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed number
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


def mix(x: Tensor) -> Tensor:
    """Spreads every bit of each number over all 64: SplitMix64's finaliser (Steele, Lea and Flood 2014).

    Args:
        x: int64, read as 64 bits without sign.
    """
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def uniform(seed: int, sample_ids: Tensor, purpose: str, shape: Sequence[int]) -> Tensor:
    """Draws numbers in [0, 1).

    Args:
        seed: of the run.
        sample_ids: [b] int64.
        purpose: what they are for ('mask'); other purposes get independent numbers.
        shape: of each sample's numbers.

    Returns:
        [b, *shape] float32, multiples of 2^-24, on the device of `sample_ids`.

    Example:
        >>> both = uniform(7, torch.tensor([3, 5]), "mask", [4])
        >>> torch.equal(both[1:], uniform(7, torch.tensor([5]), "mask", [4]))
        True
    """
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    stream = int.from_bytes(digest[:8], "little", signed=True)
    samples = mix(mix(sample_ids + stream) + _GOLDEN)  # [b]
    places = torch.arange(1, math.prod(shape) + 1, device=sample_ids.device) * _GOLDEN
    bits = _shifted(mix(samples[:, None] + places), 40)  # [b, n], 24 bits each
    return (bits.to(torch.float32) * 2.0**-24).view(len(sample_ids), *shape)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shifts to the right, zeros coming in from the left."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
