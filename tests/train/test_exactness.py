"""The gradient of a batch does not know how the batch was cut: into micro-batches, or over ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ingot.models.decoder import Decoder, DecoderConfig
from ingot.objectives.causal import CausalLM
from ingot.objectives.grpo import GRPO
from ingot.objectives.masked import MaskedLM
from ingot.objectives.objective import IGNORED, Batch, Objective
from ingot.train.step import Gradients, loss_function

VOCABULARY, ROWS, PLACES = 31, 8, 16


def model(seed: int) -> Decoder:
    config = DecoderConfig(
        vocabulary=VOCABULARY,
        width=16,
        layers=2,
        heads=2,
        kv_heads=1,
        head_width=8,
        feed_forward=32,
        context=PLACES,
    )
    made = config.build(seed)
    torch.manual_seed(seed)
    for parameter in made.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.2)
    return made


def batch() -> Batch:
    """Ragged rows: the first has all its targets, the last a single one; some have none at all."""
    torch.manual_seed(1)
    targets = torch.randint(0, VOCABULARY, (ROWS, PLACES))
    for row in range(ROWS):
        targets[row, : 2 * row + (row == 7)] = IGNORED
    targets[3] = IGNORED
    return {
        "inputs": torch.randint(0, VOCABULARY, (ROWS, PLACES)),
        "targets": targets,
        "advantages": torch.randn(ROWS),
        "old_logprobs": -torch.rand(ROWS, PLACES) - 2,
        "sample_ids": torch.randperm(1000)[:ROWS],
    }


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "causal": CausalLM,
    "grpo": lambda: GRPO(reference=model(5), beta=0.1),
    "grpo of constant length": lambda: GRPO(answer_length=16),
    "masked": lambda: MaskedLM(30, VOCABULARY, special_ids=(0, 1), seed=3),
}


class Two:
    """Rank 0 of two, the other of which is asked by hand."""

    world = 2

    def __init__(self, others: float) -> None:
        self.others = others

    def sum_numbers(self, numbers: list[float]) -> list[float]:
        return [numbers[0] + self.others]

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor


def gradients_of(name: str, rows: int | None, part: Batch, ranks: Any = None) -> tuple[Any, list[Tensor]]:
    made, objective = model(2), OBJECTIVES[name]()
    loss = loss_function(made, objective, torch.float32, False, "cpu")
    options = {} if ranks is None else {"ranks": ranks}
    computed = Gradients(objective, loss, list(made.parameters()), rows, **options).compute(part)
    return computed, [p.grad for p in made.parameters() if p.grad is not None]


def largest_difference(ones: list[Tensor], others: list[Tensor]) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(ones, others, strict=True))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_eight_by_one_two_by_four_one_by_eight(name: str) -> None:
    whole, expected = gradients_of(name, None, batch())
    assert whole.norm > 1e-3
    assert whole.norm == pytest.approx(float(torch.cat([g.flatten() for g in expected]).norm()), rel=1e-5)
    for rows in (8, 4, 3, 2, 1):
        computed, found = gradients_of(name, rows, batch())
        assert largest_difference(found, expected) <= 1e-6, rows
        assert computed.loss == pytest.approx(whole.loss, abs=1e-6)
        assert computed.metrics == pytest.approx(whole.metrics, abs=1e-6)
        assert computed.weight == whole.weight


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_ranks_add_up_to_one_process(name: str) -> None:
    """Each rank divides by the weight of both; `parallel` adds what comes out (tests/parallel does, too)."""
    whole, expected = gradients_of(name, None, batch())
    parts = [{key: value[rank::2] for key, value in batch().items()} for rank in range(2)]
    weights = [OBJECTIVES[name]().weight(part) for part in parts]
    found = [gradients_of(name, 2, parts[rank], Two(weights[1 - rank])) for rank in range(2)]
    summed = [one + other for one, other in zip(found[0][1], found[1][1], strict=True)]
    assert largest_difference(summed, expected) <= 1e-6
    assert found[0][0].loss + found[1][0].loss == pytest.approx(whole.loss, abs=1e-6)
    assert found[0][0].weight == found[1][0].weight == whole.weight


def test_the_loss_is_the_mean_over_all_targets_not_a_mean_of_means() -> None:
    computed, _ = gradients_of("causal", 1, batch())
    rows = batch()
    logits = model(2)(rows["inputs"]).logits
    expected = cross_entropy(logits.flatten(0, 1), rows["targets"].flatten(), ignore_index=IGNORED)
    assert computed.loss == pytest.approx(float(expected.detach()), abs=1e-6)


def test_masked_gradients_are_those_of_the_hidden_batch_written_out() -> None:
    """The objective against plain cross-entropy on a batch that was masked beforehand."""
    objective, rows = OBJECTIVES["masked"](), batch()
    assert isinstance(objective, MaskedLM)
    chosen = objective.chosen(rows)
    made = model(2)
    targets = torch.where(chosen, rows["inputs"], IGNORED)
    logits = made(objective.hidden(rows, chosen)).logits
    cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED).backward()
    _, found = gradients_of("masked", 2, rows)
    assert largest_difference(found, [p.grad for p in made.parameters() if p.grad is not None]) <= 1e-6


def test_a_batch_that_weighs_nothing_leaves_no_gradient() -> None:
    empty = batch() | {"targets": torch.full((ROWS, PLACES), IGNORED)}
    computed, found = gradients_of("causal", 4, empty)
    assert (computed.loss, computed.norm, computed.weight, found) == (0.0, 0.0, 0.0, [])
