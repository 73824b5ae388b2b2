"""GRPO's arithmetic against the formulas written out, against REINFORCE, and on a bandit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ingot.align.advantages import centred
from ingot.models.decoder import DecoderConfig, Outputs
from ingot.objectives.grpo import GRPO, cropped, k3, token_logprobs
from ingot.objectives.objective import IGNORED

TINY = DecoderConfig(
    vocabulary=17, width=16, layers=2, heads=2, kv_heads=1, head_width=8, feed_forward=24, context=16
)


def policy(seed: int = 0) -> nn.Module:
    """A tiny model whose layers all matter (the usual start has zeros in it)."""
    torch.manual_seed(seed)
    model = TINY.build(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def rollouts(rows: int = 6, length: int = 9, seed: int = 1) -> dict[str, Tensor]:
    """Rows with prompts and answers of different lengths, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, TINY.vocabulary, (rows, length + 1), generator=generator)
    targets = tokens[:, 1:].clone()
    for row in range(rows):
        targets[row, : 2 + row % 3] = IGNORED
        targets[row, length - row % 4 :] = IGNORED
    advantages = torch.randn(rows, generator=generator)
    return {"inputs": tokens[:, :-1], "targets": targets, "advantages": advantages}


def gradients(model: nn.Module, loss: Tensor) -> Tensor:
    pieces = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([piece.flatten() for piece in pieces])


def by_hand(model: nn.Module, reference: nn.Module, batch: dict[str, Tensor], beta: float) -> Tensor:
    """The loss token by token, in Python."""
    total = torch.zeros(())
    logits = model(batch["inputs"]).logits.log_softmax(-1)
    theirs = reference(batch["inputs"]).logits.log_softmax(-1).detach()
    for row, places in enumerate(batch["targets"].tolist()):
        for place, token in enumerate(places):
            if token == IGNORED:
                continue
            advantage = batch["advantages"][row]
            ratio = torch.exp(logits[row, place, token] - batch["old_logprobs"][row, place])
            clipped = min(max(ratio.item(), 0.8), 1.3)
            taken = ratio * advantage
            if clipped * advantage < taken:
                taken = clipped * advantage
            r = torch.exp(theirs[row, place, token] - logits[row, place, token])
            total = total - taken + beta * ratio * (r - 1 - torch.log(r))
    return total


def test_loss_and_gradient_are_those_of_the_formula() -> None:
    model, reference, batch = policy(0), policy(1), rollouts()
    now = model(batch["inputs"]).logits.log_softmax(-1).detach()
    old = now.gather(-1, batch["targets"].clamp(min=0)[..., None])[..., 0]
    noise = torch.randn(old.shape, generator=torch.Generator().manual_seed(3))
    batch["old_logprobs"] = old + 0.4 * noise
    objective = GRPO(clip_low=0.2, clip_high=0.3, reference=reference, beta=0.1)
    result = objective.loss(model, batch)
    expected = by_hand(model, reference, batch, beta=0.1)
    torch.testing.assert_close(result.sum, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(model, result.sum), gradients(model, expected), rtol=1e-4, atol=1e-5)
    assert 0 < result.metrics["clipped"] < objective.weight(batch)


def test_one_update_per_rollout_is_reinforce_with_a_baseline() -> None:
    model, batch = policy(), rollouts()
    result = GRPO().loss(model, batch)
    logprobs, _ = token_logprobs(model, batch["inputs"], batch["targets"])
    rows = (batch["targets"] != IGNORED).nonzero()[:, 0]
    reinforce = -(logprobs * batch["advantages"][rows]).sum()
    torch.testing.assert_close(gradients(model, result.sum), gradients(model, reinforce))
    assert result.metrics["clipped"] == 0


def test_weight_counts_answer_tokens_or_a_fixed_length() -> None:
    batch = rollouts()
    assert GRPO().weight(batch) == (batch["targets"] != IGNORED).sum()
    assert GRPO(answer_length=100).weight(batch) == 600


def test_micro_batches_add_up() -> None:
    model, batch = policy(), rollouts()
    objective = GRPO(reference=policy(2))
    whole = objective.loss(model, batch).sum
    halves = [{k: v[rows] for k, v in batch.items()} for rows in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(sum(objective.loss(model, half).sum for half in halves), whole)
    assert sum(objective.weight(half) for half in halves) == objective.weight(batch)


def test_no_advantage_no_gradient() -> None:
    model, batch = policy(), rollouts()
    batch["advantages"] = torch.zeros(6)
    assert gradients(model, GRPO().loss(model, batch).sum).abs().max() == 0


def test_padding_does_not_matter() -> None:
    model, batch = policy(), rollouts()
    longer = {
        "inputs": nn.functional.pad(batch["inputs"], (0, 4), value=3),
        "targets": nn.functional.pad(batch["targets"], (0, 4), value=IGNORED),
        "advantages": batch["advantages"],
    }
    assert cropped(longer)["inputs"].shape == cropped(batch)["inputs"].shape == (6, 9)
    torch.testing.assert_close(
        GRPO().loss(model, longer).sum, GRPO().loss(model, batch).sum, rtol=1e-5, atol=1e-5
    )


def test_logprobs_and_entropy() -> None:
    model, batch = policy(), rollouts()
    logprobs, entropy = token_logprobs(model, batch["inputs"], batch["targets"], temperature=0.7)
    everything = torch.distributions.Categorical(logits=model(batch["inputs"]).logits / 0.7)
    answered = batch["targets"] != IGNORED
    expected = everything.log_prob(batch["targets"].clamp(min=0))[answered]
    torch.testing.assert_close(logprobs, expected)
    torch.testing.assert_close(entropy, everything.entropy()[answered])


def test_k3_is_never_negative_and_unbiased() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 1000, 5).log_softmax(-1)
    estimates = k3(ours, theirs)
    assert (estimates >= -1e-6).all()
    exact = (ours.exp() * (ours - theirs)).sum(-1)
    torch.testing.assert_close((ours.exp() * estimates).sum(-1), exact, rtol=1e-4, atol=1e-5)


class Bandit(nn.Module):
    """One state, three arms: a language model whose whole vocabulary can be summed over."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.arms = nn.Parameter(torch.tensor(logits))
        self.head = nn.Identity()

    def forward(self, inputs: Tensor, logits: bool = True) -> Outputs:
        hidden = self.arms.expand(*inputs.shape, -1)
        return Outputs(hidden, hidden if logits else None)


def test_the_penalty_has_the_gradient_of_the_divergence() -> None:
    """Summed over every token with its probability, the loss's gradient is that of KL itself."""
    model, reference = Bandit([0.3, -1.0, 0.8]), Bandit([-0.5, 0.4, 0.1])
    objective = GRPO(reference=reference, beta=1.0)
    expected = torch.zeros(3)
    for token, probability in enumerate(model.arms.detach().softmax(-1)):
        batch = {
            "inputs": torch.zeros(1, 1, dtype=torch.long),
            "targets": torch.tensor([[token]]),
            "advantages": torch.zeros(1),
        }
        expected += probability * gradients(model, objective.loss(model, batch).sum)
    ours, theirs = model.arms.log_softmax(-1), reference.arms.log_softmax(-1).detach()
    exact = gradients(model, (ours.exp() * (ours - theirs)).sum())
    torch.testing.assert_close(expected, exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_model_learns_the_rewarded_token(seed: int) -> None:
    """Reward for one token out of 17: from one in seventeen to nearly always, in a few dozen steps."""
    model = TINY.build(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.tensor([[1, 2], [3, 4]]).repeat_interleave(16, 0)  # two prompts, 16 answers each
    objective = GRPO()
    for _ in range(60):
        with torch.no_grad():
            probabilities = model(prompts).logits[:, -1].softmax(-1)
        answers = torch.multinomial(probabilities, 1, generator=generator)
        rewards = (answers[:, 0] == 7).float().view(2, 16)
        targets = torch.cat([torch.full_like(answers, IGNORED), answers], 1)
        batch = {"inputs": prompts, "targets": targets, "advantages": centred(rewards).flatten()}
        optimizer.zero_grad()
        (objective.loss(model, batch).sum / objective.weight(batch)).backward()
        optimizer.step()
    learned = model(prompts[[0, 16]]).logits[:, -1].softmax(-1)[:, 7]
    assert learned.min() > 0.9 > 10 / TINY.vocabulary
    assert math.isfinite(objective.loss(model, batch).sum.item())
