"""Which parameter gets what: golden tables, patterns, layer decay, freezing, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ingot.errors import ConfigError
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.optim.groups import GroupConfig, layer_scales
from ingot.optim.joint import Name, OptimizerConfig

SMALL = DecoderConfig(
    vocabulary=11, width=8, layers=2, heads=2, kv_heads=1, head_width=4, feed_forward=16, context=8
)


class Gpt2Shaped(nn.Module):
    """Names and shapes of a GPT-2 with a convolution in front; nothing runs."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.positions = nn.Embedding(4, 8)
        self.patches = nn.Conv2d(3, 8, 2)
        self.blocks = nn.ModuleList(nn.ModuleDict({"up": nn.Linear(8, 16)}) for _ in range(2))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 11, bias=False)


def table(config: OptimizerConfig, model: nn.Module) -> dict[str, tuple[str, float, float]]:
    """What the optimizers will really do: read back from their groups, not from the assignment."""
    names = {p: name for name, p in model.named_parameters()}
    result = {}
    for optimizer in config.build(model).optimizers:
        for group in optimizer.param_groups:
            for p in group["params"]:
                kind = type(optimizer).__name__
                result[names[p]] = (kind, round(group["lr"], 10), group["weight_decay"])
    return result


def test_golden_grouping_of_muon() -> None:
    assert table(OptimizerConfig(weight_decay=0.1), Gpt2Shaped()) == {
        "embedding.weight": ("Adam", 0.2, 0.0),
        "positions.weight": ("Adam", 0.2, 0.0),
        "patches.weight": ("Adam", 0.01, 0.0),
        "patches.bias": ("Adam", 0.01, 0.0),
        "blocks.0.up.weight": ("Muon", 0.02, 0.1),
        "blocks.0.up.bias": ("Adam", 0.01, 0.0),
        "blocks.1.up.weight": ("Muon", 0.02, 0.1),
        "blocks.1.up.bias": ("Adam", 0.01, 0.0),
        "norm.weight": ("Adam", 0.01, 0.0),
        "norm.bias": ("Adam", 0.01, 0.0),
        "head.weight": ("Adam", 0.004, 0.0),
    }


def test_golden_grouping_of_adamw() -> None:
    assert table(OptimizerConfig(name="adamw", rate=0.5, weight_decay=0.1), Gpt2Shaped()) == {
        "embedding.weight": ("Adam", 0.5, 0.0),
        "positions.weight": ("Adam", 0.5, 0.0),
        "patches.weight": ("Adam", 0.5, 0.1),
        "patches.bias": ("Adam", 0.5, 0.0),
        "blocks.0.up.weight": ("Adam", 0.5, 0.1),
        "blocks.0.up.bias": ("Adam", 0.5, 0.0),
        "blocks.1.up.weight": ("Adam", 0.5, 0.1),
        "blocks.1.up.bias": ("Adam", 0.5, 0.0),
        "norm.weight": ("Adam", 0.5, 0.0),
        "norm.bias": ("Adam", 0.5, 0.0),
        "head.weight": ("Adam", 0.5, 0.1),
    }


def before_groups(model: Decoder, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """The grouping that runs made before there were groups rely on, written out once more."""
    lists: dict[str, list] = {"embedding": [], "head": [], "vector": [], "matrix": []}
    for name, p in model.named_parameters():
        first = name.split(".")[0]
        lists[first if first in lists else "matrix" if p.dim() == 2 else "vector"].append(p)
    rates = {"embedding": config.embedding_rate, "head": config.head_rate, "vector": config.norm_rate}
    groups = [{"params": lists[role], "lr": rate} for role, rate in rates.items() if lists[role]]
    if config.matrix_rate == 0:
        groups.append({"params": lists["matrix"], "lr": config.head_rate})
    return [torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0, fused=True)]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("matrix_rate", [0.02, 0.0])
def test_the_default_steps_as_it_did_before_there_were_groups(tied: bool, matrix_rate: float) -> None:
    config = OptimizerConfig(matrix_rate=matrix_rate)
    sizes = SMALL.model_copy(update={"tied": tied})
    ours, theirs = sizes.build(0), sizes.build(0)
    joint, reference = config.build(ours), before_groups(theirs, config)
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        joint.step(1.0)
        for optimizer in reference:
            optimizer.step()
    covered = [p for group in reference[0].param_groups for p in group["params"]]
    mine = dict(ours.named_parameters())
    for name, p in theirs.named_parameters():
        if any(p is q for q in covered):
            assert torch.equal(p, mine[name]), name
    # A checkpoint names the state by the place of the parameter.
    for index, p in enumerate(covered):
        assert torch.equal(joint.tensors()[f"0.{index}.exp_avg"], reference[0].state[p]["exp_avg"])


def test_the_first_pattern_that_matches_counts() -> None:
    config = OptimizerConfig(
        name="sgd",
        rate=1.0,
        groups=(
            GroupConfig(match="blocks.0.up.weight", rate=0.125, weight_decay=0.3),
            GroupConfig(match="blocks.0.*", frozen=True),
            GroupConfig(match="blocks.*", rate_scale=0.5),
        ),
    )
    model = Gpt2Shaped()
    rows = table(config, model)
    assert rows["blocks.0.up.weight"] == ("SGD", 0.125, 0.3)
    assert "blocks.0.up.bias" not in rows and not model.blocks[0]["up"].bias.requires_grad
    assert rows["blocks.1.up.weight"] == ("SGD", 0.5, 0.0)
    assert rows["head.weight"] == ("SGD", 1.0, 0.0)
    assert table(config, model) == rows  # building again after freezing gives the same


def test_layer_decay_is_geometric_from_the_last_block_down() -> None:
    rows = table(OptimizerConfig(name="adamw", rate=1.0, layer_decay=0.5), Gpt2Shaped())
    assert {name: rate for name, (_, rate, _) in rows.items()} == {
        "embedding.weight": 0.25,
        "positions.weight": 0.25,
        "patches.weight": 1.0,
        "patches.bias": 1.0,
        "blocks.0.up.weight": 0.5,
        "blocks.0.up.bias": 0.5,
        "blocks.1.up.weight": 1.0,
        "blocks.1.up.bias": 1.0,
        "norm.weight": 1.0,
        "norm.bias": 1.0,
        "head.weight": 1.0,
    }
    stacks = ["encoder.blocks.0.w", "encoder.blocks.1.experts.0.w", "decoder.blocks.0.w", "embedding.weight"]
    assert list(layer_scales(stacks, 0.5).values()) == [0.5, 1.0, 1.0, 0.25]


def test_an_unknown_pattern_names_the_nearest_parameters() -> None:
    config = OptimizerConfig(groups=(GroupConfig(match="blocks.0.upp.*", frozen=True),))
    with pytest.raises(ConfigError, match=r"groups\.0\.match: 'blocks\.0\.upp\.\*' .*blocks\.0\.up\."):
        config.build(Gpt2Shaped())


def test_a_pattern_in_the_shadow_of_another_is_refused() -> None:
    groups = (GroupConfig(match="blocks.*", rate_scale=0.5), GroupConfig(match="blocks.0.*", frozen=True))
    with pytest.raises(ConfigError, match="earlier groups took"):
        OptimizerConfig(groups=groups).build(Gpt2Shaped())


def test_refusals_name_the_values() -> None:
    with pytest.raises(ConfigError, match="did you mean 'adamw'"):
        OptimizerConfig.parse({"name": "adamww"})
    with pytest.raises(ConfigError, match=r"rate \(0.1\) is not for muon"):
        OptimizerConfig.parse({"rate": 0.1})
    with pytest.raises(ConfigError, match=r"rate \(0.1\) and rate_scale \(0.5\)"):
        OptimizerConfig.parse({"groups": [{"match": "a", "rate": 0.1, "rate_scale": 0.5}]})
    with pytest.raises(ConfigError, match="every parameter is frozen"):
        OptimizerConfig(groups=(GroupConfig(match="*", frozen=True),)).build(Gpt2Shaped())
    model = Gpt2Shaped()
    joint = OptimizerConfig().build(model)
    joint.prepare()
    with pytest.raises(ConfigError, match=r"state '0.0.step' .* has no place here"):
        OptimizerConfig(name="sgd").build(Gpt2Shaped()).restore(joint.tensors())


@pytest.mark.parametrize("name", Name.__args__)
def test_every_name_trains_every_parameter_and_survives_plain_data(name: str) -> None:
    config = OptimizerConfig.parse(OptimizerConfig(name=name, layer_decay=0.9).plain())
    assert config.name == name
    model = SMALL.build(0)
    joint = config.build(model)
    before = [p.detach().clone() for p in joint.parameters()]
    generator = torch.Generator().manual_seed(0)
    for p in joint.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
    joint.step(1.0, momentum=0.8)
    assert len(before) == len(list(model.parameters()))
    assert all(not torch.equal(a, b) for a, b in zip(before, joint.parameters(), strict=True))


def test_a_schedule_drives_momentum_or_beta1() -> None:
    joint = OptimizerConfig().build(SMALL.build(0))
    joint.step(1.0, momentum=0.5)
    adam, muon = joint.optimizers
    assert all(group["betas"] == (0.5, 0.95) for group in adam.param_groups)
    assert all(group["momentum"] == 0.5 for group in muon.param_groups)


def test_following_a_model_whose_parameters_were_made_anew() -> None:
    model = SMALL.build(0)
    joint = OptimizerConfig().build(model)
    other = SMALL.build(1)
    joint.follow(other)
    names = {p: name for name, p in other.named_parameters()}
    again = OptimizerConfig().build(other)
    assert [names[p] for p in joint.parameters()] == [names[p] for p in again.parameters()]
