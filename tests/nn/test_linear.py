"""The linear layer whose weight's gradient a kernel sums, against float64 and against `nn.Linear`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd

from ingot.nn import linear
from ingot.nn.kernels import weight_gradient as kernel
from ingot.nn.linear import Linear

needs_kernel = pytest.mark.skipif(not kernel.ready(), reason="no AMX here, or no compiler")
SIZES = st.sampled_from([1, 15, 17, 31, 32, 33, 64, 65, 100, 130])


def bf16(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def relative(found: Tensor, g: Tensor, x: Tensor) -> float:
    """The greatest error, measured by the sum of what was added without its signs."""
    exact, size = g.double().T @ x.double(), g.double().abs().T @ x.double().abs()
    return float(((found - exact).abs() / size.clamp_min(1e-30)).max())


def learned(layer: nn.Linear, x: Tensor, g: Tensor) -> list[Tensor]:
    """Output, gradient of the input and gradients of the parameters under bf16 autocast."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    y.backward(g.to(y.dtype))
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]


@needs_kernel
@settings(max_examples=60, deadline=None)
@given(t=st.one_of(SIZES, st.sampled_from([383, 385, 1100])), o=SIZES, i=SIZES)
def test_kernel_sums_in_fp32_whatever_the_shape(t: int, o: int, i: int) -> None:
    g, x = bf16(t, o, seed=t), bf16(t, i, seed=o)
    found = kernel.weight_gradient(g, x)
    assert found.shape == (o, i) and found.dtype == torch.float32
    assert relative(found, g, x) < 2e-6


@needs_kernel
@pytest.mark.parametrize(("o", "i"), [(500, 800), (800, 40), (40, 1600)])
def test_kernel_on_outputs_of_several_rectangles(o: int, i: int) -> None:
    g, x = bf16(600, o), bf16(600, i, seed=1)
    assert relative(kernel.weight_gradient(g, x), g, x) < 2e-6


@needs_kernel
def test_kernel_reads_rows_that_lie_apart() -> None:
    both = bf16(100, 90)
    g, x = both[:, :50], both[:, 50:]
    assert torch.equal(kernel.weight_gradient(g, x), kernel.weight_gradient(g.contiguous(), x.contiguous()))
    columns = bf16(50, 100).T  # neighbours of a row are not beside one another
    assert torch.equal(kernel.weight_gradient(columns, x), kernel.weight_gradient(columns.contiguous(), x))
    alike = bf16(1, 50).expand(100, 50)  # the gradient of a sum
    assert relative(kernel.weight_gradient(alike, x), alike, x) < 2e-6


@needs_kernel
def test_kernel_does_not_depend_on_threads() -> None:
    g, x = bf16(1000, 200), bf16(1000, 450, seed=1)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(kernel.weight_gradient(g, x))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@needs_kernel
def test_kernel_passes_on_what_is_not_finite() -> None:
    g, x = bf16(64, 40), bf16(64, 40, seed=1)
    g[3, 5] = float("inf")
    found = kernel.weight_gradient(g, x)
    assert not found[5].isfinite().any() and found[:5].isfinite().all() and found[6:].isfinite().all()


@needs_kernel
def test_kernel_of_nothing_is_zero() -> None:
    assert torch.equal(kernel.weight_gradient(bf16(0, 3), bf16(0, 5)), torch.zeros(3, 5))


@needs_kernel
def test_operation_keeps_torchs_rules() -> None:
    torch.library.opcheck(kernel.weight_gradient, (bf16(40, 20), bf16(40, 30, seed=1)))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(70,), (3, 25), (2, 3, 5)])
def test_layer_learns_what_torchs_learns(shape: tuple[int, ...], bias: bool) -> None:
    ours, theirs = Linear(48, 80, bias=bias), nn.Linear(48, 80, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x, g = torch.randn(*shape, 48), torch.randn(*shape, 80)
    for a, b in zip(learned(ours, x, g), learned(theirs, x, g), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2 * float(b.abs().max()))


@needs_kernel
def test_weight_gradient_is_not_rounded_to_bf16() -> None:
    layer = Linear(64, 64, bias=False)
    x, g = bf16(300, 64), bf16(300, 64, seed=1)
    gradient = learned(layer, x, g)[2]
    assert relative(gradient, g, x) < 2e-6
    assert not torch.equal(gradient, gradient.bfloat16().float())


@needs_kernel
def test_gradients_add_up_over_uses_and_passes() -> None:
    layer = Linear(32, 32, bias=False)
    x, g = bf16(40, 32), bf16(40, 32, seed=1)
    once = learned(layer, x, g)[2].clone()
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).backward(g)
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, 2 * once, rtol=0, atol=0)


@needs_kernel
def test_under_compile_as_in_eager() -> None:
    layer = nn.Sequential(Linear(32, 64, bias=False), nn.GELU(), Linear(64, 32))
    x, g = torch.randn(2, 20, 32), torch.randn(2, 20, 32)
    eager = learned(layer, x, g)  # type: ignore[arg-type]
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for a, b in zip(learned(compiled, x, g), eager, strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2 * float(b.abs().max()))


def test_compiled_graph_shows_the_products() -> None:
    """So that torch.compile may fuse what surrounds them and selective recomputation may keep them."""
    seen: list[str] = []

    def look(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return make_boxed_func(graph.forward)

    layer = Linear(32, 64, bias=False)
    aot = aot_autograd(fw_compiler=look)
    compiled = torch.compile(layer, backend=aot, fullgraph=True)
    learned(compiled, torch.randn(20, 32), torch.randn(20, 64))
    assert sum("mm" in name for name in seen) == (2 if kernel.ready() else 3)
    assert sum("weight_gradient" in name for name in seen) == int(kernel.ready())


@needs_kernel
def test_recomputed_layer_learns_the_same() -> None:
    layer, x, g = Linear(32, 32), torch.randn(40, 32), torch.randn(40, 32)
    plain = learned(layer, x, g)
    kept = copy.deepcopy(layer)

    class Recomputed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = kept

        def forward(self, x: Tensor) -> Tensor:
            return torch.utils.checkpoint.checkpoint(self.layer, x, use_reentrant=False)

    for a, b in zip(learned(Recomputed(), x, g), plain, strict=True):  # type: ignore[arg-type]
        assert torch.equal(a, b)


def test_is_a_linear_layer_to_everybody_else() -> None:
    layer = Linear(8, 4)
    assert isinstance(layer, nn.Linear) and list(layer.state_dict()) == ["weight", "bias"]
    twin = copy.deepcopy(layer)
    x = torch.randn(3, 8)
    assert torch.equal(twin(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_plain_where_the_kernel_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """In fp32, in fp16, for frozen weights, in inference, for other kinds of tensors."""
    monkeypatch.setattr(kernel, "ready", lambda: True)
    layer, x = Linear(8, 4), torch.randn(3, 8)

    class Other(Tensor):
        pass

    def suits(weight: Tensor, x: Tensor = x) -> bool:
        return linear._suits(x, weight)

    assert not suits(layer.weight)
    with torch.autocast("cpu", torch.float16):
        assert not suits(layer.weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert suits(layer.weight)
        assert not suits(layer.weight.detach())
        assert not suits(layer.weight.detach().bfloat16().requires_grad_())
        assert not suits(layer.weight.detach().as_subclass(Other).requires_grad_())
        assert not suits(layer.weight, x.to("meta"))
        with torch.no_grad():
            assert not suits(layer.weight)


def test_plain_where_there_is_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "ready", lambda: False)
    ours, theirs = Linear(48, 80), nn.Linear(48, 80)
    theirs.load_state_dict(ours.state_dict())
    x, g = torch.randn(20, 48), torch.randn(20, 80)
    for a, b in zip(learned(ours, x, g), learned(theirs, x, g), strict=True):
        assert torch.equal(a, b)


def test_trains_in_fp32_as_torchs_does() -> None:
    ours, theirs = Linear(8, 4), nn.Linear(8, 4)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(5, 8)
    for layer in (ours, theirs):
        layer(x).square().sum().backward()
    assert torch.equal(ours.weight.grad, theirs.weight.grad)  # type: ignore[arg-type]
