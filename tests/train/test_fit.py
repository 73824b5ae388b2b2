"""Fitting: the largest divisor that fits, by trials that change nothing and never take too much."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ingot.errors import ResourceError
from ingot.objectives.objective import Batch, Loss
from ingot.train.fit import check_micro_batch, free_memory, largest_micro_batch, trial

WIDTH, LAYERS = 32, 4


def layered() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(LAYERS):
        layers += [nn.Linear(WIDTH, WIDTH, bias=False), nn.Tanh()]
    return nn.Sequential(*layers)


def loss_of(model: nn.Module):
    return lambda batch: Loss(model(batch["inputs"]).sum(), {})


def rows_of(count: int) -> Batch:
    return {"inputs": torch.ones(count, WIDTH)}


@given(
    rows=st.integers(1, 64),
    each=st.integers(1, 1000),
    fixed=st.integers(0, 5000),
    limit=st.integers(1, 20_000),
)
def test_it_is_the_largest_divisor_by_brute_force(rows: int, each: int, fixed: int, limit: int) -> None:
    tried: list[int] = []

    def try_rows(count: int) -> int | None:
        tried.append(count)
        taken = fixed + each * count
        return taken if taken <= limit else None

    fitting = [count for count in range(1, rows + 1) if rows % count == 0 and fixed + each * count <= limit]
    if fitting:
        assert largest_micro_batch(try_rows, rows, limit) == max(fitting)
        assert set(tried) <= {1, 2, max(fitting)}  # nothing that the line says is too much
    else:
        with pytest.raises(ResourceError, match="one row needs more than"):
            largest_micro_batch(try_rows, rows, limit)


def test_a_line_that_promised_too_much_is_not_believed() -> None:
    steps = {1: 10, 2: 20, 4: 40, 8: 200, 16: None}
    assert largest_micro_batch(steps.__getitem__, 16, limit=160) == 4


def test_errors_name_both_values_and_what_would_fit() -> None:
    def try_rows(count: int) -> int:
        return 1_000_000_000 * count

    check_micro_batch(try_rows, 4, rows=16, limit=5_000_000_000)
    with pytest.raises(ResourceError) as caught:
        check_micro_batch(try_rows, 8, rows=16, limit=5_000_000_000)
    assert str(caught.value) == (
        "train.micro_batch: a micro-batch of 8 needs 8.0 GB, 5.0 GB are free; --fit would choose 4"
    )
    with pytest.raises(
        ResourceError, match=r"one row needs 1\.0 GB, 400\.0 MB are free; use a smaller model"
    ):
        check_micro_batch(try_rows, 8, rows=16, limit=400_000_000)


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_bytes_are_those_of_the_closed_form(rows: int) -> None:
    """At the peak, just before the last of the backward pass: every layer's outputs and gradients."""
    model = layered()
    batch = rows_of(rows)
    taken = trial(model, loss_of(model), batch, "cpu", limit=10**9)(rows)
    outputs = 2 * LAYERS * rows * WIDTH * 4  # two per layer: before and after tanh, float32
    kept = LAYERS * rows * WIDTH * 4  # only the tanh's outputs are kept for the backward pass
    gradients = LAYERS * WIDTH * WIDTH * 4
    assert taken is not None
    assert kept <= taken <= outputs + gradients + 4 * rows * WIDTH * 4 + 64


def test_the_line_holds_for_a_model() -> None:
    model = layered()
    batch = rows_of(512)
    try_rows = trial(model, loss_of(model), batch, "cpu", limit=10**9)
    taken = {rows: try_rows(rows) for rows in (256, 384, 512)}
    assert taken[512] - taken[384] == taken[384] - taken[256]


def test_the_sum_agrees_with_torch_s_own_tracker() -> None:
    tracker = pytest.importorskip("torch.distributed._tools.mem_tracker")
    model = layered()
    batch = rows_of(128)
    taken = trial(model, loss_of(model), batch, "cpu", limit=10**9)(128)
    theirs = tracker.MemTracker()
    theirs.track_external(batch["inputs"])
    with theirs:
        model(batch["inputs"]).sum().backward()
    peak = theirs.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    there_before = sum(p.nbytes for p in model.parameters()) + batch["inputs"].nbytes
    assert taken == pytest.approx(peak - there_before, rel=0.02)


def test_a_trial_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Dropout(0.5))
    model[0].weight.grad = torch.ones(WIDTH, WIDTH)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    for limit in (10**9, 2000):  # one that succeeds and one that is given up half way
        trial(model, loss_of(model), rows_of(8), "cpu", limit)(8)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model[0].weight.grad, torch.ones(WIDTH, WIDTH))
    assert model[0].bias.grad is None


def test_a_trial_is_given_up_at_its_limit_forwards_and_backwards() -> None:
    model = layered()
    full = trial(model, loss_of(model), rows_of(64), "cpu", 10**9)(64)
    assert full is not None
    for share in (0.05, 0.5, 0.99):
        assert trial(model, loss_of(model), rows_of(64), "cpu", int(share * full))(64) is None
    assert trial(model, loss_of(model), rows_of(64), "cpu", full)(64) == full
    assert all(p.grad is None for p in model.parameters())


def test_views_and_tensors_from_before_are_not_counted() -> None:
    model = layered()
    reference = torch.zeros(1000, 1000)  # of another model, say

    def loss(batch: dict[str, Tensor]) -> Loss:
        return Loss(model(batch["inputs"]).sum() + reference.t()[0, 0], {})

    plain = trial(model, loss_of(model), rows_of(4), "cpu", 10**9)(4)
    with_view = trial(model, loss, rows_of(4), "cpu", 10**9)(4)
    assert plain is not None and with_view is not None
    assert abs(with_view - plain) <= 64


def test_free_memory_leaves_room_for_what_comes() -> None:
    free = free_memory("cpu")
    assert 0 < free < 2**50
    assert free_memory("cpu", reserved=10**6) == pytest.approx(free - 10**6, rel=0.05)
    assert free_memory("cpu", reserved=2**60) == 0


MEASURES = """
    import torch
    from ingot import device
    from ingot.objectives.objective import Loss
    from ingot.train.fit import trial
    torch.set_num_threads(1)
    model = torch.nn.Sequential(*[torch.nn.Linear(256, 256) for _ in range(12)])
    loss = lambda batch: Loss(model(batch["inputs"]).tanh().sum(), {})
    batch = {"inputs": torch.ones(8192, 256)}
    trial(model, loss, batch, "cpu", 10**10)(1)
    before = device.peak_memory()
    taken = trial(model, loss, batch, "cpu", 10**10)(8192)
    print(taken, device.peak_memory() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is exact on Linux only")
def test_the_count_is_what_the_system_sees() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURES)], capture_output=True, text=True, check=True
    )
    counted, seen = map(int, done.stdout.split())
    assert counted == pytest.approx(seen, rel=0.2)
