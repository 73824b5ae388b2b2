"""Recurrent models train, carry their state, and attention does what it was made for."""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ingot.data.stream import WHOLE, Part
from ingot.errors import ConfigError
from ingot.evaluate.bits_per_byte import measure_bits
from ingot.models.ngram_counts import train as count
from ingot.models.recurrent import RecurrentConfig, generate
from ingot.models.recurrent_pairs import RecurrentPairsConfig, translate
from ingot.nn.recurrent import CELLS, Kind
from ingot.objectives.causal import CausalLM
from ingot.objectives.objective import Batch, Loss
from ingot.optim.joint import OptimizerConfig
from ingot.progress import Progress
from ingot.train.trainer import TrainConfig, Trainer

KINDS = pytest.mark.parametrize("kind", list(CELLS))
BOS = 256


class Windows:
    """Windows of a text at places that the step draws."""

    fingerprint = "windows"

    def __init__(self, text: Tensor, context: int, batch_size: int) -> None:
        self.text, self.context, self.batch_size = text, context, batch_size

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> Batch:
        random = torch.Generator().manual_seed(step)
        start = torch.randint(0, len(self.text) - self.context, (self.batch_size,), generator=random)
        rows = self.text[start[:, None] + torch.arange(self.context + 1)]
        return {"inputs": rows[:, :-1], "targets": rows[:, 1:], "sample_ids": self.sample_ids(step)}

    def sample_ids(self, step: int, salt: int = 0) -> Tensor:
        return torch.arange(self.batch_size) + step * self.batch_size


class Bytes:
    """Every byte is a token."""

    bos_id = BOS

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


def fit(
    model: nn.Module, stream: object, steps: int, rate: float, work: Path, objective: object = None
) -> float:
    optimizer = OptimizerConfig(name="adam", rate=rate, beta2=0.999, epsilon=1e-8).build(model)
    config = TrainConfig.parse({"steps": steps, "checkpoint_every": steps, "guard": {"sigmas": None}})
    log = Trainer(model, objective or CausalLM(), stream, optimizer, config, work).fit(Progress(), "x")  # type: ignore[arg-type]
    model.eval()
    return float(log[-1]["loss"])


@KINDS
def test_it_learns_a_text_by_heart_and_says_it(kind: Kind, tmp_path: Path) -> None:
    line = b"a quick brown fox jumps over the lazy dog. "
    model = RecurrentConfig(vocabulary=257, width=48, cell=kind).build()
    assert fit(model, Windows(torch.tensor(list(line * 3)), 24, 8), 200, 0.02, tmp_path) < 0.5
    made = generate(model, torch.tensor([list(line[:12]), list(line[20:32])]), 20)
    assert [bytes(row.tolist()) for row in made] == [line[12:32], line[32:] + line[:9]]


@KINDS
def test_generation_is_the_full_pass_token_by_token(kind: Kind) -> None:
    model = RecurrentConfig(vocabulary=31, width=16, cell=kind, layers=2, tied=True).build().eval()
    tokens = torch.randint(0, 31, (3, 9), generator=torch.Generator().manual_seed(0))
    whole, state, steps = model(tokens), None, []
    for column in tokens.unbind(1):
        out = model(column[:, None], state)
        state = out.state
        steps.append(out.logits)
    assert (torch.cat(steps, 1) - whole.logits).abs().max() <= 1e-5
    longer = tokens
    for _ in range(5):
        longer = torch.cat((longer, model(longer).logits[:, -1:].argmax(-1)), 1)
    assert torch.equal(generate(model, tokens, 5), longer[:, 9:])
    assert generate(model, tokens, 0).shape == (3, 0)
    drawn = generate(model, tokens, 5, choose=lambda logits: logits.argmin(-1))
    assert not torch.equal(drawn, longer[:, 9:])


def test_no_logit_knows_a_later_token_and_a_tied_head_counts_once() -> None:
    config = RecurrentConfig(vocabulary=31, width=16, layers=2)
    model = config.build()
    nn.init.normal_(model.head.weight)
    tokens = torch.arange(12)[None]
    other = tokens.clone()
    other[0, 7] = 30
    one, two = model(tokens).logits, model(other).logits
    assert torch.equal(one[:, :7], two[:, :7]) and not torch.equal(one[:, 7:], two[:, 7:])
    tied = config.model_copy(update={"tied": True}).build()
    assert model.parameter_count() - tied.parameter_count() == 31 * 16
    assert model(tokens, logits=False).logits is None


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="'lstn' is not"):
        RecurrentConfig.parse({"vocabulary": 5, "width": 4, "cell": "lstn"})
    with pytest.raises(ConfigError, match="dropout"):
        RecurrentConfig.parse({"vocabulary": 5, "width": 4, "dropout": 1})


@pytest.mark.parametrize("attention", ["additive", "multiplicative", None])
def test_padding_of_a_source_changes_nothing(attention: str | None) -> None:
    config = {"vocabulary": 9, "width": 8, "cell": "lstm", "attention": attention, "padding": 0}
    model = RecurrentPairsConfig.parse(config).build()
    nn.init.normal_(model.head.weight)
    source, tokens = torch.tensor([[3, 4, 5]]), torch.tensor([[8, 2, 1, 6]])
    padded = torch.cat((source, torch.zeros(1, 4, dtype=torch.long)), 1)
    short, long = model(source, tokens), model(padded, tokens)
    assert (short.logits - long.logits).abs().max() <= 1e-6
    assert not torch.allclose(short.logits, model(source.flip(1), tokens).logits)
    if attention is None:
        assert long.weights is None
    else:
        assert torch.allclose(long.weights.sum(-1), torch.ones(1, 4))
        assert (long.weights[:, :, 3:] == 0).all()


def test_translation_is_the_likeliest_token_by_the_full_pass() -> None:
    model = RecurrentPairsConfig(vocabulary=9, width=8).build()
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    source = torch.tensor([[3, 4, 5], [1, 1, 2]])
    tokens = torch.full((2, 1), 8)
    for _ in range(6):
        tokens = torch.cat((tokens, model(source, tokens).logits[:, -1:].argmax(-1)), 1)
    assert torch.equal(translate(model, source, 8, 6), tokens[:, 1:])


class Reversals:
    """Rows of 20 random digits, and the same from behind."""

    fingerprint = "reversals"
    batch_size = 32

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> Batch:
        rows = torch.randint(0, 10, (32, 20), generator=torch.Generator().manual_seed(step))
        targets = rows.flip(1)
        tokens = torch.cat((torch.full((32, 1), 10), targets[:, :-1]), 1)
        return {"inputs": rows, "tokens": tokens, "targets": targets, "sample_ids": self.sample_ids(step)}

    def sample_ids(self, step: int, salt: int = 0) -> Tensor:
        return torch.arange(32) + 32 * step


class Pairs:
    """Cross-entropy of the target, the source being given."""

    def weight(self, batch: Batch) -> float:
        return float(batch["targets"].numel())

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        logits = model(batch["inputs"], batch["tokens"]).logits
        return Loss(cross_entropy(logits.flatten(0, 1), batch["targets"].flatten(), reduction="sum"), {})


@pytest.mark.slow
def test_reversal_needs_attention(tmp_path: Path) -> None:
    """20 digits from behind, with the same steps, rate and widths: Bahdanau et al. 2015, section 1."""
    exact = {}
    held = torch.randint(0, 10, (500, 20), generator=torch.Generator().manual_seed(10**6))
    for attention in ("additive", None):
        config = RecurrentPairsConfig.parse({"vocabulary": 11, "width": 48, "attention": attention})
        model = config.build()
        fit(model, Reversals(), 1000, 0.01, tmp_path / str(attention), Pairs())
        exact[attention] = (translate(model, held, 10, 20) == held.flip(1)).all(1).float().mean().item()
    assert exact["additive"] >= 0.99, exact
    assert exact[None] <= 0.5, exact


@pytest.mark.slow
def test_an_lstm_needs_fewer_bits_than_three_grams(tmp_path: Path) -> None:
    """Bytes of modules of the standard library; the last twentieth is held out."""
    modules = (argparse, json, statistics, pytest.importorskip("tarfile"), pytest.importorskip("typing"))
    text = "\n".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in modules)
    cut = len(text) * 19 // 20
    pages, held = text[:cut].encode(), text[cut:]
    model = RecurrentConfig(vocabulary=257, width=160, context=96).build()
    fit(model, Windows(torch.tensor([BOS, *pages]), 96, 16), 900, 0.008, tmp_path)
    ours = measure_bits(model, Bytes(), [held]).bits_per_byte  # type: ignore[arg-type]
    grams = count([list(pages)], 257, BOS, order=3).nats(list(held.encode())).mean() / math.log(2)
    assert ours < grams, (ours, grams)
