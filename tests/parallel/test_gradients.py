"""Gradients over ranks are those of one process, however ragged the parts and however they are cut."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from spawn import Crew
from torch import Tensor
from torch.distributed.tensor import DTensor

from ingot.errors import ConfigError
from ingot.objectives.causal import CausalLM
from ingot.parallel.apply import (
    ParallelConfig,
    Plan,
    accumulate,
    clip,
    parallelize,
    total_norm,
)
from ingot.parallel.ranks import ALONE, Ranks


def learn(
    ranks: Ranks, values: dict[str, Any], micro: int = 99, tied: bool = False, recompute: str | None = None
) -> dict[str, Any]:
    """One accumulated backward pass over this rank's rows, as a trainer makes it."""
    model, objective = tiny.model(tied), CausalLM()
    names = list(dict(model.named_parameters()))
    wrapped = parallelize(model, ParallelConfig.parse(values), ranks, recompute=recompute)
    mine = tiny.part(tiny.batch(), ranks.rank, ranks.world)
    weight = ranks.sum_numbers([objective.weight(mine)])[0]
    starts = list(range(0, len(mine["inputs"]), micro))
    total = torch.zeros(())
    for start in starts:
        rows = {name: value[start : start + micro] for name, value in mine.items()}
        with accumulate(wrapped, last=start == starts[-1]):
            loss = objective.loss(wrapped, rows)
            (loss.sum / weight).backward()
        total += loss.sum.detach()
    parameters = list(model.parameters())
    norm = total_norm(parameters)
    whole = tiny.gradients(model)
    clip(parameters, 0.01, norm)
    return {
        "loss": float(ranks.sum(total)) / weight,
        "gradients": {name: gradient.numpy() for name, gradient in whole.items()},
        "norm": float(norm),
        "plain": type(norm) is Tensor,
        "clipped": float(total_norm(parameters)),
        "same_names": list(dict(model.named_parameters())) == names,
        "cut": sum(isinstance(p, DTensor) for p in parameters),
        "attributes": wrapped.head is model.head and wrapped.get_submodule("blocks.0") is model.blocks[0],
    }


def agree(found: list[dict[str, Any]], tied: bool = False) -> None:
    loss, expected = tiny.textbook(tied)
    norm = torch.sqrt(sum((g.double() ** 2).sum() for g in expected.values()))  # type: ignore[arg-type]
    for one in found:
        assert one["loss"] == pytest.approx(loss, abs=1e-6)
        assert one["norm"] == pytest.approx(float(norm), abs=1e-6)
        assert one["norm"] == found[0]["norm"]
        assert one["clipped"] == pytest.approx(0.01, rel=1e-3)
        assert one["plain"] and one["same_names"] and one["attributes"]
        assert one["gradients"].keys() == expected.keys()
        for name, gradient in expected.items():
            assert (torch.from_numpy(one["gradients"][name]) - gradient).abs().max() <= 1e-6, name


DDP, FSDP = {"data": "ddp"}, {"data": "fsdp"}


@pytest.mark.parametrize("values", [DDP, FSDP], ids=["ddp", "fsdp"])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_gradients_do_not_know_the_ranks(crew: Crew, values: dict[str, Any], world: int) -> None:
    found = crew.run(world, learn, values)
    agree(found)
    assert (found[0]["cut"] > 0) == (values is FSDP and world > 1)


@pytest.mark.parametrize("values", [DDP, FSDP, {"data": "fsdp", "copies": 2}], ids=["ddp", "fsdp", "copies"])
@pytest.mark.parametrize("micro", [1, 2])
def test_nor_the_micro_batch(crew: Crew, values: dict[str, Any], micro: int) -> None:
    agree(crew.run(4 if "copies" in values else 2, learn, values, micro))


@pytest.mark.parametrize("values", [DDP, FSDP], ids=["ddp", "fsdp"])
@pytest.mark.parametrize("recompute", ["full", "selective"])
def test_nor_whether_weights_are_tied_and_activations_recomputed(
    crew: Crew, values: dict[str, Any], recompute: str
) -> None:
    agree(crew.run(2, learn, values, 3, True, recompute), tied=True)


def gathered_in_bf16(ranks: Ranks) -> tuple[float, str]:
    found = learn(ranks, {"data": "fsdp", "gather": "bf16"})
    return found["norm"], str(found["gradients"]["head.weight"].dtype)


def test_weights_may_travel_as_bf16(crew: Crew) -> None:
    norm, dtype = crew.run(2, gathered_in_bf16)[0]
    expected = tiny.textbook()[1]
    whole = torch.sqrt(sum((g.double() ** 2).sum() for g in expected.values()))  # type: ignore[arg-type]
    assert norm == pytest.approx(float(whole), rel=0.05)
    assert norm != pytest.approx(float(whole), rel=1e-6)
    assert dtype == "float32"


def uneven_start(ranks: Ranks, values: dict[str, Any]) -> float:
    model = tiny.model()
    with torch.no_grad():
        model.norm.weight += ranks.rank
    parallelize(model, ParallelConfig.parse(values), ranks)
    weight = model.norm.weight.detach()
    return float((weight.full_tensor() if isinstance(weight, DTensor) else weight).sum())


@pytest.mark.parametrize("values", [DDP, FSDP], ids=["ddp", "fsdp"])
def test_all_ranks_begin_with_the_weights_of_rank_0(crew: Crew, values: dict[str, Any]) -> None:
    expected = float(tiny.model().norm.weight.detach().sum())
    assert crew.run(2, uneven_start, values) == pytest.approx([expected] * 2, abs=1e-6)


def test_norm_and_clipping_of_plain_gradients_are_torchs() -> None:
    def made() -> list[torch.nn.Parameter]:
        generator = torch.Generator().manual_seed(0)
        parameters = [torch.nn.Parameter(torch.zeros(n, 3)) for n in (4, 1, 7)]
        for parameter in parameters[:2]:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        return parameters

    ours, theirs = made(), made()
    expected = torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    assert torch.equal(total_norm(ours), expected)
    clip(ours, 0.5, total_norm(ours))
    for one, other in zip(ours[:2], theirs[:2], strict=True):
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]
    assert float(total_norm([])) == 0.0
    ours[0].grad.fill_(float("nan"))  # type: ignore[union-attr]
    assert torch.isnan(total_norm(ours))


def test_one_rank_gets_the_model_itself() -> None:
    model = tiny.model()
    assert parallelize(model, ParallelConfig(), ALONE) is model
    with accumulate(model, last=False):
        pass


def test_plans_match_whole_parts_of_names() -> None:
    model = tiny.model()
    assert [name for name, _ in Plan().find(model)] == ["blocks.0", "blocks.1", "blocks.2"]
    assert [name for name, _ in Plan(("blocks.[02].attention",)).find(model)] == [
        "blocks.0.attention",
        "blocks.2.attention",
    ]


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="tensor is 2, but tensor parallelism comes later"):
        ParallelConfig.parse({"tensor": 2})
    with pytest.raises(ConfigError, match="copies and gather are for fsdp"):
        ParallelConfig.parse({"data": "ddp", "copies": 2})
    with pytest.raises(ConfigError, match="3 ranks cannot hold 2 copies of equal size"):
        ParallelConfig(data="fsdp", copies=2).grid(3)
    with pytest.raises(ConfigError, match="Linear has no units to recompute"):
        parallelize(torch.nn.Linear(2, 2), ParallelConfig(), ALONE, recompute="full")
    with pytest.raises(ConfigError, match="unknown mode 'half'"):
        parallelize(tiny.model(), ParallelConfig(), ALONE, recompute="half")  # type: ignore[arg-type]
