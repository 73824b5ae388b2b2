"""GRPO: policy gradient with the group's mean as baseline, clipped, on the model's own answers.

```
ratio = p(token) / p_old(token)
loss  = -min(ratio * A, clip(ratio, 1 - low, 1 + high) * A) + beta * ratio * k3
k3    = r - 1 - log r,   r = p_reference(token) / p(token)
```

One update per batch of rollouts needs no old probabilities: the ratio is 1 and its gradient that of
log p, so that the loss is REINFORCE with a baseline (Williams 1992). The ratio before k3 makes the
gradient of the penalty that of the divergence itself; k3 alone is a biased one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ingot.objectives.objective import IGNORED, Batch, Loss

Policy = Callable[[nn.Module, Tensor, Tensor, float], tuple[Tensor, Tensor]]
"""How log-probabilities and entropies are computed, as `token_logprobs` does."""


class GRPO:
    """Group-relative policy optimisation over batches of rollouts.

    A batch holds `inputs` [b, t] and `targets` [b, t] (-100 outside the answers) as int64, `advantages`
    [b], and may hold `old_logprobs` [b, t], those of the targets when they were sampled: ratios are to them.
    Where it holds `sampled_logprobs` [b, t], what the sampler said of the targets, the metric `sampler_kl` is
    an estimate of KL(sampler || policy): before the first update, all that their arithmetic differs by.

    Args:
        clip_low: how far below 1 the ratio still counts.
        clip_high: how far above 1; larger than `clip_low` lets rare tokens grow (DAPO, section 3.1).
        reference: model whose divergence is penalised, or None.
        beta: weight of that penalty.
        temperature: that the answers were sampled at: the policy is the softmax of logits over it.
        answer_length: tokens that every answer counts as. None divides by the real number of tokens
            (DAPO, section 3.3); a constant takes away the last preference of length (Dr. GRPO).
        policy: computes log-probabilities; `token_logprobs`, or one that computes as the sampler does.
        compared: is told the log-ratios [n] of policy to sampler, where the batch has what that takes.

    Source: Shao et al. 2024, arXiv 2402.03300, section 4.1; Yu et al. 2025 (DAPO), arXiv 2503.14476;
    Liu et al. 2025 (Dr. GRPO), arXiv 2503.20783.
    """

    def __init__(
        self,
        *,
        clip_low: float = 0.2,
        clip_high: float = 0.28,
        reference: nn.Module | None = None,
        beta: float = 0.04,
        temperature: float = 1.0,
        answer_length: int | None = None,
        policy: Policy | None = None,
        compared: Callable[[Tensor], None] | None = None,
    ) -> None:
        self.clip_low = clip_low
        self.clip_high = clip_high
        self.reference = reference
        self.beta = beta
        self.temperature = temperature
        self.answer_length = answer_length
        self.policy = policy or token_logprobs
        self.compared = compared

    def weight(self, batch: Batch) -> float:
        """Returns the number of answer tokens, or of answers times `answer_length`."""
        if self.answer_length is not None:
            return float(batch["targets"].shape[0] * self.answer_length)
        return float((batch["targets"] != IGNORED).sum())

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Returns the loss summed over the answer tokens, n of them."""
        batch = cropped(batch)
        answered = batch["targets"] != IGNORED  # [b, t]
        logprobs, entropy = self._logprobs(model, batch)  # [n], [n]
        advantages = batch["advantages"][:, None].expand_as(answered)[answered]  # [n]
        old = batch["old_logprobs"][answered] if "old_logprobs" in batch else logprobs.detach()
        ratio = (logprobs - old).exp()
        clipped = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        losses = -torch.minimum(ratio * advantages, clipped * advantages)
        metrics = {
            "entropy": entropy.sum(),
            "clipped": (clipped * advantages < ratio * advantages).float().sum(),
        }
        if "sampled_logprobs" in batch:
            sampled, now = batch["sampled_logprobs"][answered], logprobs.detach()
            metrics["sampler_kl"] = k3(sampled, now).sum()
            if self.compared is not None:
                self.compared(now - sampled)
        if self.reference is not None:
            with torch.no_grad():
                theirs, _ = self._logprobs(self.reference, batch)
            penalty = k3(logprobs, theirs)
            losses = losses + self.beta * ratio * penalty
            metrics["kl"] = penalty.detach().sum()
        return Loss(losses.sum(), metrics)

    def _logprobs(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.policy(model, batch["inputs"], batch["targets"], self.temperature)


def cropped(batch: Batch) -> Batch:
    """Returns the batch without the columns after its last answer token: they would only cost time."""
    columns = (batch["targets"] != IGNORED).any(0).nonzero()
    t = int(columns.max()) + 1 if len(columns) else 1
    return {name: value[:, :t] if value.dim() == 2 else value for name, value in batch.items()}


def told(logits: Tensor, tokens: Tensor) -> Tensor:
    """Returns the log-probability of one token per row, [n] float32, of logits [n, v] and tokens [n]."""
    return -cross_entropy(logits, tokens, reduction="none")


def token_logprobs(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    temperature: float = 1.0,
    told: Callable[[Tensor, Tensor], Tensor] = told,
    **asked: object,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the answer tokens under the model.

    Args:
        model: a causal language model with named outputs and a `head`.
        inputs: [b, t] int64.
        targets: [b, t] int64, -100 outside the answers.
        temperature: divides the logits.
        told: from logits [n, v] and tokens [n] to their log-probabilities [n].
        asked: what the model is given besides (`attend`).

    Returns:
        Of the n answer tokens, row by row: log-probabilities [n], and entropies [n] of the
        distributions that they came from (without gradient), both float32.
    """
    answered = targets != IGNORED
    hidden = model(inputs, logits=False, **asked).hidden[answered]  # [n, d]: the head works on answers only
    logits = model.get_submodule("head")(hidden).float() / temperature  # [n, v]
    logprobs = told(logits, targets[answered])  # [n]
    with torch.no_grad():
        everything = logits.log_softmax(-1)
        entropy = -(everything.exp() * everything).sum(-1)
    return logprobs, entropy


def k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """An estimate of KL(policy || reference) from tokens of the policy: never negative, unbiased.

    Source: Schulman 2020, "Approximating KL divergence".
    """
    difference = reference - logprobs
    return difference.exp() - 1 - difference
