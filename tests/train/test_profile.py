"""Profiles: the operations that were run, and shares of a peak that belongs to the device or to none."""

from __future__ import annotations

import json
import time

import pytest
import torch

from ingot.train import peaks
from ingot.train.peaks import dense_peak, peak_flops, utilisation
from ingot.train.profile import OPERATIONS, OTHERS, profile

SIDE = 192


class Steps:
    """Steps of known work: three products of square matrices and a sleep in place of a loader."""

    def __init__(self, waits: float) -> None:
        self.waits = waits
        self.made = 0
        self.matrix = torch.randn(SIDE, SIDE)

    def __call__(self) -> dict:
        time.sleep(self.waits)
        for _ in range(3):
            torch.mm(self.matrix, self.matrix)
        self.made += 1
        return {"tokens": 100 * self.made, "data_seconds": self.waits}


def test_a_profile_of_known_work() -> None:
    steps = Steps(waits=0.02)
    flops_per_token = 3 * 2 * SIDE**3 / 100
    found = profile(5, steps, flops_per_token=flops_per_token, peak=1e15)
    assert steps.made == 2 + 5 + 5
    assert found.seconds_per_step >= 0.02
    assert found.tokens_per_second == pytest.approx(100 / found.seconds_per_step)
    assert found.data_share == pytest.approx(0.02 / found.seconds_per_step)
    assert found.model_flops == pytest.approx(3 * 2 * SIDE**3 / found.seconds_per_step)
    assert found.mfu == pytest.approx(found.model_flops / 1e15)
    product = next(one for one in found.operations if one.name == "aten::mm")
    assert product.calls == 3
    assert product.seconds > 0
    assert found.peak_memory > 10**7


def test_the_table_and_the_plain_data_say_the_same() -> None:
    found = profile(2, Steps(0.0))
    table = found.table()
    assert "model FLOP/s      n/a" in table and "MFU               n/a" in table
    assert "aten::mm" in table
    plain = json.loads(json.dumps(found.plain()))
    assert plain["operations"][0]["name"] == found.operations[0].name
    assert plain["mfu"] is None and plain["steps"] == 2
    known = profile(2, Steps(0.0), flops_per_token=1e6, peak=2e12).table()
    assert "% of 2.00 TFLOP/s" in known


def test_operations_are_sorted_and_bounded() -> None:
    layer = torch.nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)
    made = [0]

    def run_step() -> dict:
        layer(torch.randn(2, 8, 32)).sum().backward()
        made[0] += 1
        return {"tokens": made[0]}

    found = profile(2, run_step)
    *named, others = found.operations
    seconds = [one.seconds for one in named]
    assert seconds == sorted(seconds, reverse=True)
    assert len(named) == OPERATIONS and others.name == OTHERS
    assert sum(one.share for one in found.operations) == pytest.approx(1.0)
    total = sum(one.seconds for one in found.operations)
    assert all(one.share == pytest.approx(one.seconds / total) for one in found.operations)
    assert found.data_share == 0


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("AMD Instinct MI300X", 1307.4),
    ],
)
def test_dense_peaks_of_known_devices(name: str, teraflops: float) -> None:
    assert dense_peak(name) == pytest.approx(teraflops * 1e12)


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA H20",  # begins like an H200
        "NVIDIA H20-3e",
        "NVIDIA A10G",  # another chip than the A10
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "Tesla T40",
        "Tomorrow's GPU",
        "",
    ],
)
def test_an_unknown_device_has_no_peak(name: str) -> None:
    assert dense_peak(name) is None


def test_number_types_differ_and_may_be_missing() -> None:
    assert dense_peak("NVIDIA A100-SXM4-80GB", "fp32") == 19.5e12
    assert dense_peak("NVIDIA A100-SXM4-80GB", "tf32") == 156e12
    assert dense_peak("Tesla V100-SXM2-16GB", "bf16") is None
    assert dense_peak("Tesla V100-SXM2-16GB", "fp16") == 125e12


def test_the_peak_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.dtype] = []
    monkeypatch.setattr(peaks.machine, "measure_gemm", lambda dtype: asked.append(dtype) or 5e11)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    peak_flops.cache_clear()
    assert peak_flops("cpu", "bf16") == peak_flops("cpu", "bf16") == 5e11
    assert peak_flops("cpu", "fp32") == 5e11
    assert asked == [torch.bfloat16, torch.float32]  # measured once each
    assert peak_flops("cuda:0", "bf16") == 989e12
    assert peak_flops("mps", "fp32") is None
    peak_flops.cache_clear()


def test_utilisation() -> None:
    assert utilisation(1000, 5e8, 1e12) == 0.5
    assert utilisation(1000, None, 1e12) is utilisation(1000, 5e8, None) is None
