"""Recomputed activations: the same gradients to the last bit, from a fraction of the memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from ingot.models.decoder import DecoderConfig
from ingot.objectives.causal import CausalLM
from ingot.parallel.apply import Plan
from ingot.parallel.recompute import Mode, recompute


def deep() -> nn.Module:
    """Eight layers, so that what the units keep outweighs embedding and head."""
    config = DecoderConfig(
        vocabulary=17, width=32, layers=8, heads=2, kv_heads=1, head_width=16, feed_forward=64, context=64
    )
    return config.build(0)


def forgetful(model: nn.Module, mode: Mode | None) -> nn.Module:
    if mode is not None:
        recompute(model, mode, Plan().find(model))
    return model


def gradients(model: nn.Module) -> dict[str, Tensor]:
    CausalLM().loss(model, tiny.batch()).sum.backward()
    return tiny.gradients(model)


@pytest.mark.parametrize("mode", ["full", "selective"])
def test_gradients_are_equal_bit_for_bit(mode: Mode) -> None:
    expected = gradients(tiny.model())
    model = forgetful(tiny.model(), mode)
    found = gradients(model)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert list(model.state_dict()) == list(tiny.model().state_dict())


@pytest.mark.parametrize("mode", ["full", "selective"])
def test_dropout_draws_the_same_numbers_again(mode: Mode) -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(
                nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Dropout(0.5)) for _ in range(3)
            )

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = x + block(x)
            return x

    torch.manual_seed(0)
    plain = Dropping()
    forgets = forgetful(copy.deepcopy(plain), mode)
    inputs, found = torch.randn(4, 8), []
    for model in (plain, forgets):
        torch.manual_seed(1)
        model(inputs).square().sum().backward()
        found.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def saved_bytes(mode: Mode | None) -> int:
    """Bytes that autograd packs away in one forward pass; weights, which wait anyway, left out."""
    model = forgetful(deep(), mode)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = torch.randint(0, 17, (4, 64), generator=torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = model(tokens, logits=False).hidden
    del hidden
    return sum(kept.values())


def held_bytes(mode: Mode | None) -> int:
    """Bytes that a forward pass allocated and that are still held at its end, as the allocator counts."""
    model = forgetful(deep(), mode)
    tokens = torch.randint(0, 17, (4, 64), generator=torch.Generator().manual_seed(0))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        loss = model(tokens, logits=False).hidden.sum()
    held = sum(event.self_cpu_memory_usage for event in seen.events())
    loss.backward()
    return held


def test_full_recomputing_saves_half_of_the_bytes_and_more() -> None:
    assert saved_bytes("full") <= 0.5 * saved_bytes(None)
    assert held_bytes("full") <= 0.5 * held_bytes(None)


def test_selective_recomputing_lies_between() -> None:
    assert held_bytes("full") < held_bytes("selective") <= 0.75 * held_bytes(None)


def counted_products(mode: Mode | None) -> dict[str, int]:
    """How often each kind of operation ran in a forward and a backward pass."""
    counts: dict[str, int] = {}

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.__name__.partition(".")[0]
            counts[name] = counts.get(name, 0) + 1
            return func(*args, **(kwargs or {}))

    model = forgetful(tiny.model(), mode)
    with Count():
        gradients(model)
    return counts


def test_selective_recomputing_repeats_no_product_and_full_all_of_the_units() -> None:
    none, selective, full = (counted_products(mode) for mode in (None, "selective", "full"))
    attention = next(name for name in none if "scaled_dot_product" in name and "backward" not in name)
    assert selective["mm"] == none["mm"]
    assert selective[attention] == none[attention] == 3
    assert full[attention] == 6
    assert full["mm"] > none["mm"]
    assert selective["mul"] > none["mul"]


def test_without_gradients_nothing_is_wrapped_up() -> None:
    model, plain = forgetful(tiny.model(), "full"), tiny.model()
    tokens = tiny.batch()["inputs"]
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, plain(tokens).logits)


def test_a_copied_model_recomputes_with_its_own_weights() -> None:
    model = forgetful(tiny.model(), "full")
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    expected = gradients(tiny.model())
    found = gradients(twin)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(p.grad is None for p in model.parameters())


if __name__ == "__main__":
    for mode in (None, "selective", "full"):
        print(mode, saved_bytes(mode), held_bytes(mode))
