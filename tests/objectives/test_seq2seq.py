"""Sequence to sequence: against PyTorch's own loss, and however the batch is cut."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ingot.errors import ConfigError
from ingot.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from ingot.models.families import t5
from ingot.objectives.objective import IGNORED, Batch, Objective
from ingot.objectives.seq2seq import Seq2Seq
from ingot.objectives.spans import SpanCorruption
from ingot.train.step import Gradients, loss_function

SIZES = {
    "vocabulary": 40,
    "width": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "heads": 2,
    "head_width": 8,
    "feed_forward": 24,
}


class Said(NamedTuple):
    logits: Tensor


class Table(nn.Module):
    """Says what stands in a table about the token before; remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 9)

    def forward(self, source: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Said:
        self.given = source, tokens, mask
        return Said(self.table(tokens))


def model_of(kind: str) -> EncoderDecoder:
    parts = {**t5.PARTS, "activation": "geglu_tanh"} if kind == "t5" else {}
    model = EncoderDecoderConfig.parse({**SIZES, **parts}).build(2)
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.3)
    return model


def pairs() -> Batch:
    torch.manual_seed(0)
    inputs, targets = torch.randint(2, 40, (6, 9)), torch.randint(2, 40, (6, 7))
    for row, (long, wide) in enumerate([(9, 7), (3, 1), (5, 7), (9, 2), (4, 4), (1, 6)]):
        inputs[row, long:], targets[row, wide:] = 0, IGNORED
    return {"inputs": inputs, "targets": targets, "sample_ids": torch.arange(6)}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_formula(smoothing: float) -> None:
    torch.manual_seed(1)
    model = Table()
    batch = {"inputs": torch.tensor([[3, 4]]), "targets": torch.tensor([[5, IGNORED, 7, 1]])}
    loss = Seq2Seq(begin=2, filler=0, smoothing=smoothing).loss(model, batch)
    assert model.given[1].tolist() == [[2, 5, 0, 7]] and model.given[2] is None
    chances = model.table.weight.log_softmax(-1)
    expected = nats = right = torch.zeros(())
    for before, target in ((2, 5), (0, 7), (7, 1)):
        nats = nats - chances[before, target]
        expected = expected - (1 - smoothing) * chances[before, target] - smoothing * chances[before].mean()
        right = right + (chances[before].argmax() == target)
    assert torch.allclose(loss.sum, expected, atol=1e-6)
    assert loss.metrics["accuracy"] == right
    assert ("nats" in loss.metrics) == (smoothing > 0)
    assert torch.allclose(loss.metrics.get("nats", nats), nats)
    assert Seq2Seq().weight(batch) == 3


def test_a_mask_of_the_batch_reaches_the_model() -> None:
    model, mask = Table(), torch.tensor([[True, False]])
    Seq2Seq().loss(model, {"inputs": torch.tensor([[3, 4]]), "targets": torch.tensor([[5]]), "mask": mask})
    assert model.given[2] is mask


@pytest.mark.parametrize("kind", ["original", "t5"])
@pytest.mark.parametrize(
    "objective", [Seq2Seq(smoothing=0.1), SpanCorruption(tuple(range(39, 29, -1)), density=0.3)]
)
def test_micro_batches_change_nothing(objective: Objective, kind: str) -> None:
    """Rows of very different lengths, all at once and two at a time."""
    batch, found = pairs(), []
    for micro in (None, 2):
        model = model_of(kind)
        forward = loss_function(model, objective, torch.float32, False, "cpu")
        done = Gradients(objective, forward, list(model.parameters()), micro).compute(batch)
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert len(gradients) == len(list(model.parameters()))
        found.append((done, gradients))
    (one, whole), (other, parts) = found
    assert one.weight == other.weight == objective.weight(batch) > 0
    assert one.loss == pytest.approx(other.loss, rel=1e-6)
    assert one.metrics == pytest.approx(other.metrics, rel=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, parts, strict=True))


def test_the_loss_of_a_model_is_that_of_its_logits() -> None:
    model, batch, objective = model_of("t5"), pairs(), Seq2Seq()
    logits = model(batch["inputs"], objective.read(batch["targets"])).logits
    mean = cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())
    assert torch.allclose(objective.loss(model, batch).sum / objective.weight(batch), mean)


def test_a_smoothing_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"smoothing is -0\.1"):
        Seq2Seq(smoothing=-0.1)
