"""GELU in bf16 against float64, for every number that bf16 has."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ingot.nn import activations
from ingot.nn.activations import gelu

needs_kernel = pytest.mark.skipif(not activations.ready(), reason="no AMX here, or no compiler")
ROUNDING = 2**-8  # what it may cost in bf16, relative


def every_number() -> Tensor:
    x = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
    return x[x.isfinite()]


def both_ways(function, x: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    x = x.clone().requires_grad_()
    y = function(x)
    y.backward(given.to(y.dtype))
    assert x.grad is not None
    return y.detach(), x.grad


@needs_kernel
def test_every_number_is_the_exact_one_rounded() -> None:
    x = every_number()
    found = both_ways(gelu, x, torch.ones_like(x))
    exact = both_ways(functional.gelu, x.double(), torch.ones_like(x))
    for a, b in zip(found, exact, strict=True):
        assert a.dtype == torch.bfloat16 and a.isfinite().all()
        assert ((a - b).abs() <= 1.01 * ROUNDING * b.abs() + 1e-7).all()
        counts = b.abs() > 1e-5
        assert float((a != b.bfloat16())[counts].double().mean()) < 1e-3


@needs_kernel
@pytest.mark.parametrize("shape", [(1,), (31,), (33,), (3, 5, 7), (0,), (2, 64)])
def test_shapes(shape: tuple[int, ...]) -> None:
    x, given = torch.randn(shape).bfloat16(), torch.randn(shape).bfloat16()
    y, to_x = both_ways(gelu, x, given)
    exact, exact_to_x = both_ways(functional.gelu, x.double(), given)
    torch.testing.assert_close(y.double(), exact, rtol=5e-3, atol=1e-6)
    torch.testing.assert_close(to_x.double(), exact_to_x, rtol=5e-3, atol=1e-6)


@needs_kernel
def test_numbers_that_do_not_lie_in_order() -> None:
    x, given = torch.randn(40, 30).bfloat16(), torch.randn(40, 30).bfloat16()
    plain, apart = both_ways(gelu, x, given), both_ways(gelu, x.T, given.T)
    assert torch.equal(plain[0].T, apart[0]) and torch.equal(plain[1].T, apart[1])


@needs_kernel
def test_what_is_not_a_number_stays_so() -> None:
    x = torch.tensor([float("nan"), float("inf"), 1.0]).bfloat16()
    y, to_x = both_ways(gelu, x, torch.ones_like(x))
    assert y[0].isnan() and to_x[0].isnan() and y[1] == float("inf") and y[2].isfinite()


@needs_kernel
def test_operations_keep_torchs_rules() -> None:
    torch.library.opcheck(activations._gelu, (torch.randn(5, 9).bfloat16().requires_grad_(),))


@needs_kernel
def test_does_not_depend_on_threads() -> None:
    x, before, found = torch.randn(1001).bfloat16(), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(gelu(x))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@needs_kernel
def test_under_compile_as_in_eager() -> None:
    x, given = torch.randn(3, 40).bfloat16(), torch.randn(3, 40).bfloat16()
    compiled = torch.compile(gelu, backend="aot_eager", fullgraph=True)
    for a, b in zip(both_ways(compiled, x, given), both_ways(gelu, x, given), strict=True):
        assert torch.equal(a, b)


def test_torchs_own_in_fp32_and_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 40)
    assert torch.equal(gelu(x), nn.GELU()(x))
    monkeypatch.setattr(activations, "ready", lambda: False)
    assert torch.equal(gelu(x.bfloat16()), functional.gelu(x.bfloat16()))
