"""Experts in training: the loss knows their terms, biases move after updates only, checkpoints hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ingot.data.stream import WHOLE, Part
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.nn.experts import ExpertsConfig
from ingot.nn.routing import Router
from ingot.objectives.causal import CausalLM
from ingot.objectives.objective import Batch, Loss
from ingot.optim.joint import OptimizerConfig
from ingot.progress import Progress
from ingot.train.balance import Balanced, balanced
from ingot.train.trainer import TrainConfig, Trainer


def sizes(**experts: Any) -> DecoderConfig:
    return DecoderConfig(
        vocabulary=31, width=16, layers=2, heads=2, kv_heads=1, head_width=8, feed_forward=32, context=16,
        experts=ExpertsConfig(**{"count": 6, "chosen": 2, "width": 16, **experts}),
    )  # fmt: skip


def built(seed: int, **experts: Any) -> Decoder:
    return sizes(**experts).build(seed)


class Numbers:
    """Random rows, a pure function of the step; the first targets of some rows are not learned."""

    fingerprint = "numbers"
    batch_size = 8

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> Batch:
        rows = torch.randint(0, 31, (8, 17), generator=torch.Generator().manual_seed(step))
        targets = rows[:, 1:].clone()
        targets[:3, :5] = -100
        batch = {"inputs": rows[:, :-1], "targets": targets, "sample_ids": self.sample_ids(step, salt)}
        return {name: value[part.rank :: part.ranks] for name, value in batch.items()}

    def sample_ids(self, step: int, salt: int = 0) -> torch.Tensor:
        return torch.arange(8) + 8 * step


def trainer(
    work: Path, model: Decoder, steps: int = 8, objective: CausalLM | None = None, **keys: Any
) -> Trainer:
    config = TrainConfig(steps=steps, checkpoint_every=4, watchdog=None, **keys)
    optimizer = OptimizerConfig(name="adamw", rate=3e-3).build(model)
    run = Trainer(model, objective or CausalLM(), Numbers(), optimizer, config, work)
    run.program = balanced(run.program, model)
    return run


def routers(model: Decoder) -> list[Router]:
    return [module for module in model.modules() if isinstance(module, Router)]


def biases(model: Decoder) -> torch.Tensor:
    return torch.stack([router.bias for router in routers(model) if router.bias is not None])


def test_a_seed_says_all_of_a_model_and_its_experts_begin_with_nothing() -> None:
    one, same, other = (built(seed, shared=8).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    for name, weight in one.items():
        if "feed_forward.experts.down" in name or "feed_forward.shared.down" in name:
            assert (weight == 0).all()
        elif "feed_forward." in name:
            assert not torch.equal(weight, other[name]) or "norm" in name
            assert float(weight.std() * weight.shape[-1] ** 0.5) == pytest.approx(1, abs=0.25)


def test_a_model_without_experts_keeps_its_program(tmp_path: Path) -> None:
    model = sizes().model_copy(update={"experts": None}).build()
    run = trainer(tmp_path, model)
    assert not isinstance(run.program, Balanced)


def test_an_unbalanced_router_is_balanced_by_training(tmp_path: Path) -> None:
    model = built(0, scoring="sigmoid", balance_bias=0.02)
    with torch.no_grad():
        for router in routers(model):
            router.weight.normal_(generator=torch.Generator().manual_seed(1))
            router.bias.copy_(torch.tensor([0.9, 0.6, 0, 0, 0, 0]))  # type: ignore[union-attr]
    log = trainer(tmp_path, model, steps=90).fit(Progress(), "training")
    load = [line["expert_load"] for line in log]
    assert load[0] >= 2.0
    assert sum(load[-10:]) / 10 <= 1.3


def test_a_step_moves_biases_by_one_step_against_the_load_of_the_whole_batch(tmp_path: Path) -> None:
    model = built(0, balance_bias=0.01)
    run = trainer(tmp_path, model, micro_batch=2)
    with torch.no_grad():
        model(Numbers().batch(0)["inputs"])
    counted = torch.stack([router.load.clone() for router in routers(model)])
    assert (counted.sum(1) == 8 * 16 * 2).all()
    update = run.program.update(Numbers().batch(0), 1.0)
    assert torch.equal(biases(model), 0.01 * (counted.mean(1, keepdim=True) - counted).sign())
    assert update.metrics["expert_load"] == pytest.approx(
        float((counted / counted.mean(1, keepdim=True)).max())
    )


def test_a_refused_update_moves_no_bias(tmp_path: Path) -> None:
    class Poisoned(CausalLM):
        def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
            return Loss(super().loss(model, batch).sum * float("nan"), {})

    model = built(0, balance_bias=0.01)
    update = trainer(tmp_path, model, objective=Poisoned()).program.update(Numbers().batch(0), 1.0)
    assert update.refused is not None
    assert (biases(model) == 0).all()


def test_a_run_that_was_interrupted_has_the_same_biases_and_losses(tmp_path: Path) -> None:
    whole, halves = (built(0, balance_bias=0.01, scoring="sigmoid") for _ in range(2))
    log = trainer(tmp_path / "whole", whole).fit(Progress(), "x")
    interrupted = trainer(tmp_path / "halves", halves)
    for _ in range(4):
        interrupted.step()
    interrupted._save(Progress())
    again = built(5, balance_bias=0.01, scoring="sigmoid")
    rest = trainer(tmp_path / "halves", again).fit(Progress(), "x")
    assert [line["loss"] for line in rest] == [line["loss"] for line in log]
    assert torch.equal(biases(again), biases(whole)) and (biases(whole) != 0).any()


def test_the_terms_are_in_the_loss_and_in_the_log(tmp_path: Path) -> None:
    plain, terms = built(0), built(0, balance_loss=0.5, router_z=0.01)
    batch = Numbers().batch(0)
    bare = trainer(tmp_path / "a", plain).program.update(batch, 0.0)
    with_terms = trainer(tmp_path / "b", terms).program.update(batch, 0.0)
    added = with_terms.metrics["balance"]
    assert "balance" not in bare.metrics
    assert added >= 2 * 0.5 * 0.99  # two layers, each at least one where all is even
    assert with_terms.loss == pytest.approx(bare.loss + added, rel=1e-5)


def test_the_z_loss_does_not_know_the_micro_batch(tmp_path: Path) -> None:
    """A mean over tokens: exact where all rows have as many targets. The balance is not, by definition."""

    class Even(Numbers):
        def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> Batch:
            batch = super().batch(step, salt, part)
            return batch | {"targets": batch["targets"].abs() % 31}

    gradients = []
    for rows in (8, 4, 1):
        model = built(0, router_z=0.1)
        run = trainer(tmp_path / str(rows), model, micro_batch=rows, clip=None)
        run.program.update(Even().batch(0), 0.0)
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for others in gradients[1:]:
        for one, other in zip(gradients[0], others, strict=True):
            assert (one - other).abs().max() <= 1e-6
