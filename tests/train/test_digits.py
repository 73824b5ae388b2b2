"""The same loop learns pictures: handwritten digits, with a rate that rises and falls once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ingot.data.permutation import key, permute
from ingot.data.stream import WHOLE, Part
from ingot.objectives.objective import Batch, Loss
from ingot.optim.joint import OptimizerConfig
from ingot.progress import Progress
from ingot.train.trainer import TrainConfig, Trainer

datasets = pytest.importorskip("sklearn.datasets")

BATCH = 64
CYCLE = {"kind": "one-cycle", "warmup": 0.3, "momenta": (0.85, 0.95)}


class Classify:
    """Cross-entropy of the class."""

    def weight(self, batch: Batch) -> float:
        return float(len(batch["labels"]))

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        return Loss(
            nn.functional.cross_entropy(model(batch["pictures"]), batch["labels"], reduction="sum"), {}
        )


class Pictures:
    """Every picture once per epoch, in an order of its own."""

    fingerprint = "digits"
    batch_size = BATCH

    def __init__(self, pictures: Tensor, labels: Tensor) -> None:
        self.pictures, self.labels = pictures, labels
        self.per_epoch = len(labels) // BATCH

    def sample_ids(self, step: int, salt: int = 0) -> Tensor:
        epoch, place = divmod(step, self.per_epoch)
        places = np.arange(place * BATCH, (place + 1) * BATCH)
        return torch.from_numpy(permute(places, len(self.labels), key(epoch, salt)))

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> Batch:
        ids = self.sample_ids(step, salt)[part.rank :: part.ranks]
        return {"pictures": self.pictures[ids], "labels": self.labels[ids], "sample_ids": ids}


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1)]
    layers += [nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10)]
    return nn.Sequential(*layers)


def split(seed: int) -> tuple[Pictures, Tensor, Tensor]:
    """1,797 pictures of 8 x 8 (the test part of Alpaydin and Kaynak 1998); a third is held out."""
    found = datasets.load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    pictures = torch.from_numpy(found.images[order]).float()[:, None] / 16
    labels = torch.from_numpy(found.target[order])
    cut = 600
    return Pictures(pictures[cut:], labels[cut:]), pictures[:cut], labels[:cut]


@pytest.fixture(scope="module")
def digits() -> tuple[Pictures, Tensor, Tensor]:
    return split(0)


def course(
    digits: tuple[Pictures, Tensor, Tensor],
    work: Path,
    epochs: int,
    rate: float = 0.2,
    seed: int = 0,
    **changes: Any,
) -> list[dict[str, Any]]:
    """The log of a training that is looked at after every epoch."""
    stream, pictures, labels = digits
    model = network(seed)

    @torch.no_grad()
    def accuracy() -> dict[str, float]:
        return {"error": float((model(pictures).argmax(1) != labels).float().mean())}

    settings = {"steps": epochs * stream.per_epoch, "checkpoint_every": stream.per_epoch, **changes}
    optimizer = OptimizerConfig.parse({"name": "sgd", "rate": rate}).build(model)
    config = TrainConfig.parse(settings)
    trainer = Trainer(model, Classify(), stream, optimizer, config, work, validate=accuracy)
    return trainer.fit(Progress(), "looking at digits")


def test_two_runs_are_the_same_to_the_bit(digits: tuple[Pictures, Tensor, Tensor], tmp_path: Path) -> None:
    logs = [course(digits, tmp_path / name, 8, schedule=CYCLE) for name in ("a", "b")]
    one, two = ([(line["loss"], line["samples"], line.get("error")) for line in log] for log in logs)
    assert one == two
    assert logs[0][-1]["error"] <= 0.03


def test_batch_norm_and_dropout_train_and_judge_as_in_a_bare_loop(
    digits: tuple[Pictures, Tensor, Tensor], tmp_path: Path
) -> None:
    """Running statistics are buffers: the trainer must keep and move them as PyTorch's own loop does."""

    def layered() -> nn.Module:
        torch.manual_seed(0)
        layers = [nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.0)]
        return nn.Sequential(*layers, nn.Linear(32, 10))

    stream, pictures, _ = digits
    ours, book = layered(), layered()
    config = TrainConfig.parse({"steps": 30, "clip": None, "schedule": {"kind": "constant", "warmup": 0}})
    optimizer = OptimizerConfig.parse({"name": "sgd", "rate": 0.1, "momentum": 0.9}).build(ours)
    Trainer(ours, Classify(), stream, optimizer, config, tmp_path).fit(Progress(), "looking at digits")
    stepping = torch.optim.SGD(book.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for step in range(30):
        batch = stream.batch(step)
        stepping.zero_grad()
        nn.functional.cross_entropy(book(batch["pictures"]), batch["labels"]).backward()
        stepping.step()
    for name, tensor in book.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.eval()(pictures), book.eval()(pictures), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours.train()(pictures), book.eval()(pictures), atol=1e-2)


@pytest.mark.slow
def test_one_cycle_gets_there_in_half_the_epochs(tmp_path: Path) -> None:
    """Super-convergence (Smith and Topin 2018, arXiv 1708.07120), means of five seeds.

    0.05 is the best constant rate of 0.02, 0.05 and 0.1: where this was written it came to 0.985 in 25,
    the others not in 30 epochs, one cycle in 12. What is asserted leaves room for other rounding.
    """

    def accuracies(name: str, epochs: int, rate: float, schedule: dict[str, Any]) -> list[float]:
        logs = [
            course(split(seed), tmp_path / f"{name}{seed}", epochs, rate, seed, schedule=schedule)
            for seed in range(5)
        ]
        errors = np.array([[line["error"] for line in log if "error" in line] for log in logs])
        means: list[float] = (1 - errors.mean(axis=0)).tolist()
        return means

    cycle = accuracies("cycle", 12, 0.4, CYCLE)
    constant = accuracies("constant", 24, 0.05, {"kind": "constant"})
    assert cycle[-1] >= np.mean(constant[20:])
    assert cycle[-1] >= np.mean(constant[8:12]) + 0.005
