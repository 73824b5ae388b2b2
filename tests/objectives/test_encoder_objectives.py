"""Objectives of encoders: exact however a batch is cut, and equal to losses written out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ingot.errors import ConfigError
from ingot.models.encoder import Encoder, EncoderConfig
from ingot.models.heads import HeadConfig
from ingot.objectives.classification import Classification
from ingot.objectives.contrastive import Contrastive
from ingot.objectives.masked import MaskedLM
from ingot.objectives.objective import IGNORED, Batch, Objective
from ingot.objectives.span import Span, best_spans
from ingot.objectives.token_classification import TokenClassification
from ingot.train.step import Computed, Gradients, loss_function

VOCABULARY, ROWS, PLACES = 31, 8, 12
WEIGHTS = (0.5, 1.0, 4.0)


def model(head: HeadConfig, seed: int = 2) -> Encoder:
    sizes = {"width": 16, "layers": 2, "heads": 2, "feed_forward": 32, "context": PLACES, "padding": 0}
    made = EncoderConfig(vocabulary=VOCABULARY, **sizes, head=head).build(seed)
    torch.manual_seed(seed)
    for parameter in made.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.2)
    return made


def batch() -> Batch:
    """Eight ragged texts with everything that any objective asks for."""
    torch.manual_seed(1)
    mask = torch.arange(PLACES) < torch.tensor([12, 3, 7, 5, 9, 2, 12, 4])[:, None]
    inputs = torch.where(mask, torch.randint(2, VOCABULARY, (ROWS, PLACES)), 0)
    ends = mask.sum(1) - 1
    return {
        "inputs": inputs,
        "partners": torch.where(mask, torch.randint(2, VOCABULARY, (ROWS, PLACES)), 0),
        "mask": mask,
        "partner_mask": mask.clone(),
        "segments": (torch.arange(PLACES) > 2).long().expand(ROWS, PLACES),
        "labels": torch.tensor([0, 2, 1, IGNORED, 1, 1, 0, 2]),
        "starts": torch.where(torch.arange(ROWS) == 4, IGNORED, ends // 2),
        "ends": ends,
        "sample_ids": torch.randperm(1000)[:ROWS],
    }


def token_batch() -> Batch:
    """Labels of every token; none in the fourth text."""
    rows = batch()
    torch.manual_seed(3)
    labels = torch.where(rows["mask"], torch.randint(0, 3, (ROWS, PLACES)), IGNORED)
    labels[3] = IGNORED
    return rows | {"labels": labels}


SEQUENCE = HeadConfig(task="sequence", labels=3, transform="tanh", pooling="mean")
TOKENS = HeadConfig(task="tokens", labels=3)
CASES: dict[str, tuple[Callable[[], Objective], HeadConfig, Callable[[], Batch]]] = {
    "masked": (
        lambda: MaskedLM(1, VOCABULARY, special_ids=(0, 1), share=0.4),
        HeadConfig(task="masked", transform="gelu_norm"),
        batch,
    ),
    "sequence": (Classification, SEQUENCE, batch),
    "weighted sequence": (lambda: Classification(WEIGHTS), SEQUENCE, batch),
    "tokens": (TokenClassification, TOKENS, token_batch),
    "weighted tokens": (lambda: TokenClassification(WEIGHTS), TOKENS, token_batch),
    "span": (Span, HeadConfig(task="span"), batch),
}


def gradients_of(
    objective: Objective, head: HeadConfig, rows: Batch, micro: int | None
) -> tuple[Computed, list[Tensor]]:
    made = model(head)
    loss = loss_function(made, objective, torch.float32, False, "cpu")
    computed = Gradients(objective, loss, list(made.parameters()), micro).compute(rows)
    return computed, [p.grad for p in made.parameters() if p.grad is not None]


def largest_difference(ones: list[Tensor], others: list[Tensor]) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(ones, others, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_eight_by_one_two_by_four_one_by_eight(name: str) -> None:
    make, head, rows = CASES[name]
    whole, expected = gradients_of(make(), head, rows(), None)
    assert whole.norm > 1e-3
    for micro in (8, 4, 3, 2, 1):
        computed, found = gradients_of(make(), head, rows(), micro)
        assert largest_difference(found, expected) <= 1e-6, micro
        assert computed.loss == pytest.approx(whole.loss, abs=1e-6)
        assert computed.metrics == pytest.approx(whole.metrics, abs=1e-6)
        assert computed.weight == whole.weight


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("name", ["sequence", "tokens"])
def test_classification_is_torchs_own_weighted_mean(name: str, weights: Any) -> None:
    _, head, make = CASES[name]
    rows = make()
    objective = Classification(weights) if name == "sequence" else TokenClassification(weights)
    computed, found = gradients_of(objective, head, rows, 2)
    made = model(head)
    logits = made(rows["inputs"], rows["mask"], rows["segments"]).logits
    weight = None if weights is None else torch.tensor(weights)
    loss = cross_entropy(logits.flatten(0, -2), rows["labels"].flatten(), weight, ignore_index=IGNORED)
    loss.backward()
    assert computed.loss == pytest.approx(float(loss.detach()), abs=1e-6)
    assert largest_difference(found, [p.grad for p in made.parameters() if p.grad is not None]) <= 1e-6
    right = (logits.argmax(-1) == rows["labels"]).float() * (
        1 if weight is None else weight[rows["labels"].clamp(min=0)]
    )
    total = float((rows["labels"] != IGNORED).sum()) if weight is None else objective.weight(rows)
    assert computed.metrics["accuracy"] == pytest.approx(float(right.sum()) / total, abs=1e-6)


def test_span_loss_is_the_mean_of_both_ends_over_places_that_exist() -> None:
    rows, head = batch(), HeadConfig(task="span")
    computed, _ = gradients_of(Span(), head, rows, 2)
    with torch.no_grad():
        logits = model(head)(rows["inputs"], rows["mask"], rows["segments"]).logits
    losses = []
    for row in (0, 1, 2, 3, 5, 6, 7):
        length = int(rows["mask"][row].sum())
        for side, name in enumerate(("starts", "ends")):
            losses.append(-logits[row, :length, side].log_softmax(0)[rows[name][row]])
    assert computed.loss == pytest.approx(float(torch.stack(losses).mean()), abs=1e-6)


def test_best_spans_are_those_of_a_search_through_all() -> None:
    torch.manual_seed(0)
    logits = torch.randn(20, 9, 2)
    found = best_spans(logits, longest=4)
    for row in range(20):
        pairs = [(i, j) for i in range(9) for j in range(i, min(i + 4, 9))]
        best = max(pairs, key=lambda pair: float(logits[row, pair[0], 0] + logits[row, pair[1], 1]))
        assert (int(found.starts[row]), int(found.ends[row])) == best
        assert float(found.scores[row]) == pytest.approx(
            float(logits[row, best[0], 0] + logits[row, best[1], 1])
        )


EMBEDDING = HeadConfig(task="embedding", pooling="mean")


def test_contrastive_parts_have_the_gradient_of_the_whole_batch() -> None:
    whole, expected = gradients_of(Contrastive(), EMBEDDING, batch(), None)
    assert whole.norm > 1e-3
    for rows in (8, 4, 3, 2, 1):
        computed, found = gradients_of(Contrastive(rows=rows), EMBEDDING, batch(), None)
        assert largest_difference(found, expected) <= 1e-6, rows
        assert computed.loss == pytest.approx(whole.loss, abs=1e-6)
        assert computed.metrics == whole.metrics


def test_contrastive_loss_written_out() -> None:
    rows, temperature = batch(), 0.3
    computed, _ = gradients_of(Contrastive(temperature, rows=2), EMBEDDING, rows, None)
    with torch.no_grad():
        made = model(EMBEDDING)
        ones = made(rows["inputs"], rows["mask"]).logits.double()
        others = made(rows["partners"], rows["partner_mask"]).logits.double()
    assert torch.allclose(ones.norm(dim=1), torch.ones(ROWS, dtype=torch.float64), atol=1e-6)
    nats = 0.0
    for i in range(ROWS):
        terms = [float((ones[i] @ others[j] / temperature).exp()) for j in range(ROWS)]
        nats -= float(torch.tensor(terms[i] / sum(terms), dtype=torch.float64).log())
    assert computed.loss == pytest.approx(nats / ROWS, abs=1e-5)


def test_contrastive_refuses_settings_without_meaning() -> None:
    for settings in ({"temperature": 0.0}, {"rows": 0}):
        with pytest.raises(ConfigError, match="use more than zero"):
            Contrastive(**settings)


def test_a_batch_without_labels_leaves_no_gradient() -> None:
    empty = batch() | {"labels": torch.full((ROWS,), IGNORED)}
    computed, found = gradients_of(Classification(), SEQUENCE, empty, 4)
    assert (computed.loss, computed.weight, found) == (0.0, 0.0, [])
