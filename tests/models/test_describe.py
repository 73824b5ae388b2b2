"""Parts, parameters and costs: against PyTorch's own counts, the planner, a real cache, and by hand."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
import torch
from torch import nn

from ingot.errors import ConfigError
from ingot.inference.computing.paged_attention import TorchRunner
from ingot.inference.computing.pages import PAGE, Pages
from ingot.inference.computing.passes import Segment, assemble
from ingot.models.decoder import DecoderConfig
from ingot.models.describe import Part, blank, cost, tree
from ingot.models.flow import INPUT, trace
from ingot.nn.attention import causal
from ingot.train.planner import parameter_count, shape, training_flops_per_token

TINY: dict[str, Any] = {
    "vocabulary": 97, "width": 32, "layers": 3, "heads": 4, "kv_heads": 2,
    "head_width": 8, "feed_forward": 48, "context": 64,
}  # fmt: skip
PLAIN = {"norm": "layer", "head_norm": None, "positions": "learned", "activation": "gelu", "tied": True}
SHAPES = [{}, {"tied": True}, PLAIN, {"kv_heads": 4, "layers": 1}, {"activation": "squared_relu"}]


def spelled_out(part: Part, path: str = "") -> list[tuple[str, tuple[int, ...], str | None]]:
    """All parameters of a tree by their full names, folded blocks one by one."""
    found = []
    for name in part.names:
        here = f"{path}.{name}".strip(".")
        found += [(f"{here}.{one.name}".strip("."), one.shape, one.shared_with) for one in part.weights]
        for below in part.parts:
            found += spelled_out(below, here)
    return found


class Alternating(nn.Module):
    """Blocks of two kinds in turn, and one that shares its weight with the first."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4 + 4 * (k % 2), bias=k % 2 == 0) for k in range(6))
        self.last = nn.Linear(4, 4, bias=False)
        self.last.weight = self.blocks[0].weight


@pytest.mark.parametrize("changes", SHAPES)
def test_every_parameter_stands_in_the_tree_once(changes: dict[str, Any]) -> None:
    model = DecoderConfig.parse({**TINY, **changes}).build()
    root = tree(model)
    found = spelled_out(root)
    assert {name: given for name, given, _ in found} == {
        name: tuple(p.shape) for name, p in model.named_parameters(remove_duplicate=False)
    }
    assert len(found) == len(list(model.named_parameters(remove_duplicate=False)))
    assert root.total == sum(p.numel() for p in model.parameters()) == model.parameter_count()
    shared = [(name, whose) for name, _, whose in found if whose]
    assert shared == ([("head.weight", "embedding.weight")] if changes.get("tied") else [])
    assert [part.name for _, part in root.walk()].count("0-2" if model.config.layers == 3 else "0") == 1


@pytest.mark.parametrize(
    "make", [Alternating, lambda: nn.Transformer(16, 2, 3, 2, 32), lambda: nn.LSTM(4, 8, 2)]
)
def test_any_module_has_a_tree(make: Any) -> None:
    model = make()
    root = tree(model)
    assert root.total == sum(p.numel() for p in model.parameters())
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    assert {name for name, _, _ in spelled_out(root)} == names


def test_blocks_of_two_kinds_in_turn_are_two_parts() -> None:
    folded = tree(Alternating()).parts[0].parts
    assert [(part.name, part.times) for part in folded] == [("0,2,4", 3), ("1,3,5", 3)]


@pytest.mark.parametrize("changes", SHAPES)
def test_flops_agree_with_the_planner(changes: dict[str, Any]) -> None:
    config = DecoderConfig.parse({**TINY, **changes})
    counted = cost(blank(config), config.context)
    assert counted.training == pytest.approx(training_flops_per_token(config), rel=0.02)
    assert counted.training == pytest.approx(3 * counted.forward)


def test_flops_agree_with_the_planner_for_a_real_size() -> None:
    config = shape(6, 32_768, 1024)
    assert cost(blank(config), 1024).training == pytest.approx(training_flops_per_token(config), rel=0.02)


def test_attention_counts_the_places_that_are_seen() -> None:
    config = DecoderConfig.parse(TINY)
    t, e = 12, config.head_width
    query = torch.randn(1, config.heads, t, e)
    key = torch.randn(1, config.kv_heads, t, e)
    seen = causal(0, query, key, torch.eye(t).expand(1, config.kv_heads, t, t)).count_nonzero().item()
    by_hand = (
        config.layers * seen * 2 * (e + e) / t
    )  # one product for a score, one to mix: two FLOPs a number
    assert cost(config.build(), t).attention == pytest.approx(by_hand)


def test_kv_bytes_are_those_of_a_real_cache() -> None:
    config = DecoderConfig.parse(TINY)
    model, pages = config.build(), Pages(2 * 64 // PAGE)
    rows = [Segment([0] * 64, 0, array("i", [pages.take() for _ in range(64 // PAGE)])) for _ in range(2)]
    with torch.no_grad():
        TorchRunner(model)(assemble(rows), pages)
    counted = cost(blank(config), 64)
    assert counted.kv_bytes(torch.float32) == pages.bytes() / (2 * 64)
    assert counted.kv_bytes() == pages.bytes() / (2 * 64) / 2


def test_counting_leaves_the_model_as_it_was() -> None:
    model = DecoderConfig.parse(TINY).build()
    model.norm.requires_grad_(False)
    before = {name: (p.requires_grad, p.detach().clone()) for name, p in model.named_parameters()}
    real = cost(model, 16)
    for name, p in model.named_parameters():
        assert p.grad is None and p.requires_grad == before[name][0] and torch.equal(p, before[name][1])
    assert real == cost(blank(model.config), 16)


def test_a_model_larger_than_any_memory_here_is_described() -> None:
    config = shape(64, 128_256, 8192).model_copy(update={"feed_forward": 32_768, "layers": 80})
    assert tree(blank(config)).total == parameter_count(config) > 30e9


def test_only_a_decoder_can_be_made_without_numbers() -> None:
    with pytest.raises(ConfigError, match="int"):
        blank(3)  # type: ignore[arg-type]


def test_the_flow_of_a_block_is_the_one_that_runs() -> None:
    flows = trace(blank(DecoderConfig.parse(TINY)))
    block = [(node.name or node.joint, node.sources) for node in flows["blocks.0"].nodes]
    assert block == [
        ("attention_norm", (INPUT,)), ("attention", (0,)), ("+", (INPUT, 1)),
        ("feed_forward_norm", (2,)), ("feed_forward", (3,)), ("+", (2, 4)),
    ]  # fmt: skip
    gated = [(node.name or node.joint, node.sources) for node in flows["blocks.0.feed_forward"].nodes]
    assert gated == [("gate", (INPUT,)), ("silu", (0,)), ("up", (INPUT,)), ("×", (1, 2)), ("down", (3,))]
    attention = {node.name or node.joint: node for node in flows["blocks.2.attention"].nodes}
    assert set(attention) == {"query", "key", "value", "query_norm", "key_norm", "attend", "output"}
    assert len(attention["attend"].sources) == 3
    assert attention["query_norm"].shape == (23, 4, 8)


def test_the_flow_of_parallel_branches() -> None:
    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.embedding = nn.Linear(4, 4), nn.Linear(4, 4), nn.Embedding(9, 4)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            x = self.embedding(tokens)
            return x + self.one(x) + self.two(x)

    nodes = trace(Parallel())[""].nodes
    assert [(node.name or node.joint, node.sources) for node in nodes] == [
        ("embedding", (INPUT,)), ("one", (0,)), ("+", (0, 1)), ("two", (0,)), ("+", (2, 3)),
    ]  # fmt: skip


def test_learned_positions_are_found_though_no_module_is_called() -> None:
    nodes = trace(blank(DecoderConfig.parse({**TINY, **PLAIN})))[""].nodes
    assert [node.name or node.joint for node in nodes[:3]] == ["embedding", "positions", "+"]
