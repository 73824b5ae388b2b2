"""Truncation: which tokens may be sampled at all, by rank, by probability or by how typical they are."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def threshold(scores: Tensor, top_k: Tensor, top_p: Tensor, best: int) -> Tensor:
    """Returns the smallest score that each row may sample, [b, 1].

    Only as many of the best scores are sorted as the rows turn out to need: sorting whole vocabularies
    would cost more than the model.

    Args:
        scores: [b, v] float32, logits over temperature.
        top_k: [b] int64, from 1 to v; v keeps everything.
        top_p: [b] float32, above 0; 1 keeps everything.
        best: how many scores to look at first; at least every k below v.
    """
    v = scores.shape[-1]
    k, p = top_k[:, None], top_p[:, None]
    free = (k == v) & (p >= 1)
    log_total = scores.logsumexp(-1, keepdim=True)  # [b, 1]
    while True:
        high = highest(scores, best)  # [b, best], descending
        allowed = torch.arange(best, device=scores.device) < k
        mass = (high - log_total).exp() * allowed
        reached = mass.cumsum(-1)
        # The last running sum, not a sum of its own: it does not depend on how many scores were looked at.
        total = torch.where(k < v, reached[:, -1:], 1.0)  # [b, 1]
        kept = allowed & ((reached - mass < p * total) | (p >= 1))
        if best == v or bool((free | (k <= best) | ~kept[:, -1:]).all()):
            smallest = high.masked_fill(~kept, torch.inf).amin(-1, keepdim=True)
            return smallest.masked_fill(free, -torch.inf)
        best = min(v, 8 * best)


def highest(scores: Tensor, count: int) -> Tensor:
    """Returns the `count` highest scores of each row, descending, [b, count]."""
    v = scores.shape[-1]
    if scores.device.type == "cpu" and 64 * count > v:  # where torch would select slowly
        low = -scores.numpy()
        found = np.partition(low, count - 1, -1)[:, :count] if count < v else low
        return -torch.from_numpy(np.sort(found, -1))
    return scores.topk(count).values


def typical(scores: Tensor, mass: Tensor) -> Tensor:
    """Keeps the tokens whose surprise is nearest to the entropy (Meister et al. 2022, section 3).

    Args:
        scores: [b, v] float32; -inf is already cut off.
        mass: [b] probability that what is kept must reach; 1 keeps everything.

    Returns:
        The scores, -inf where cut off.
    """
    logprobs = scores.log_softmax(-1)
    probabilities = logprobs.exp()
    entropy = torch.special.entr(probabilities).sum(-1, keepdim=True)  # [b, 1]
    distance = (logprobs + entropy).abs()
    nearest, order = distance.sort(-1)
    reached = probabilities.gather(-1, order).cumsum(-1)
    last = (reached < mass[:, None]).sum(-1, keepdim=True).clamp(max=scores.shape[-1] - 1)
    farthest = nearest.gather(-1, last).masked_fill(mass[:, None] >= 1, torch.inf)
    return scores.masked_fill(distance > farthest, -torch.inf)
