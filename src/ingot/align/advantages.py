"""Advantages: how much better an answer was than the others that the same prompt got.

The mean reward of the group is the baseline that a value network would give in PPO. An answer that
cannot be scored has reward NaN: it gets no advantage and takes no part in its group's mean.
"""

from __future__ import annotations

import torch
from torch import Tensor


def centred(rewards: Tensor) -> Tensor:
    """Rewards minus the mean of their group.

    Args:
        rewards: [p, g], prompts by answers; NaN where there is none.

    Returns:
        [p, g]; each group sums to 0, a group of equal rewards is exactly 0.

    Source: Liu et al. 2025 ("Dr. GRPO"), arXiv 2503.20783, section 3.2: without the division by the
    standard deviation, easy and hard prompts do not weigh more than those between.
    """
    scored = ~rewards.isnan()
    known = rewards.nan_to_num(0.0)
    mean = known.sum(-1, keepdim=True) / scored.sum(-1, keepdim=True).clamp(min=1)
    # Equal rewards must give exactly zero, whatever rounding did to their mean.
    low = known.masked_fill(~scored, torch.inf).amin(-1, keepdim=True)
    high = known.masked_fill(~scored, -torch.inf).amax(-1, keepdim=True)
    return torch.where(scored & (high > low), known - mean, 0.0)


def standardised(rewards: Tensor, epsilon: float = 1e-4) -> Tensor:
    """Rewards minus the mean of their group, over its standard deviation.

    Args:
        rewards: [p, g], prompts by answers; NaN where there is none.
        epsilon: added to the standard deviation (with Bessel's correction).

    Returns:
        [p, g]; a group of equal rewards is exactly 0.

    Source: Shao et al. 2024 (GRPO), arXiv 2402.03300, section 4.1.2.
    """
    difference = centred(rewards)
    scored = (~rewards.isnan()).sum(-1, keepdim=True)
    variance = difference.square().sum(-1, keepdim=True) / (scored - 1).clamp(min=1)
    return difference / (variance.sqrt() + epsilon)


ESTIMATORS = {"centred": centred, "standardised": standardised}
"""By the names that configurations use."""
