"""Where the time of a training step goes: by operation, in waiting for data, and as a share of the peak.

```
a few steps to warm up -> `steps` steps with a stopwatch only -> as many under torch.profiler
```

The profiler slows what it looks at, so the speed is measured without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch.autograd import DeviceType

from ingot import device as machine
from ingot.train.peaks import utilisation

WARM_UP = 2  # steps
OPERATIONS = 15  # in the table by name
OTHERS = "all others"


class Operation(NamedTuple):
    """One kind of operation; `seconds` and `calls` are per step, children not counted."""

    name: str
    seconds: float
    share: float  # of the time of all operations
    calls: float


@dataclass(frozen=True)
class Profile:
    """What a training step costs, and on what.

    `data_share` is the share of the time spent waiting for data; `peak_memory` is in bytes;
    `model_flops` are FLOP/s that the model's own arithmetic takes and `mfu` their share of `peak_flops`,
    None where nobody knows. `operations` are those that take most, the longest first, then all others.
    """

    steps: int
    seconds_per_step: float
    tokens_per_second: float
    data_share: float
    peak_memory: int
    model_flops: float | None
    peak_flops: float | None
    mfu: float | None
    operations: list[Operation]

    def plain(self) -> dict[str, Any]:
        """Returns the profile as plain data."""
        return {**asdict(self), "operations": [one._asdict() for one in self.operations]}

    def table(self) -> str:
        """Returns the profile as text for people."""
        mfu = "n/a" if self.mfu is None else f"{100 * self.mfu:.1f} % of {_rate(self.peak_flops)}"
        rows = [
            ("speed", f"{self.tokens_per_second:,.0f} tokens/s"),
            ("step", f"{1000 * self.seconds_per_step:,.1f} ms, the mean of {self.steps}"),
            ("waiting for data", f"{100 * self.data_share:.2f} %"),
            ("peak memory", f"{self.peak_memory / 1e9:.2f} GB"),
            ("model FLOP/s", _rate(self.model_flops)),
            ("MFU", mfu),
        ]
        head = "\n".join(f"{name:<18}{value}" for name, value in rows)
        width = max([len(one.name) for one in self.operations] + [len("operation")])
        lines = [f"{'operation':<{width}}  {'ms/step':>9}  {'share':>6}  {'calls/step':>10}"]
        for one in self.operations:
            share = f"{100 * one.share:.1f} %"
            lines.append(f"{one.name:<{width}}  {1000 * one.seconds:9.2f}  {share:>6}  {one.calls:10.1f}")
        return head + "\n\n" + "\n".join(lines) + "\n"


def profile(
    steps: int,
    run_step: Callable[[], Mapping[str, Any]],
    *,
    device: str = "cpu",
    flops_per_token: float | None = None,
    peak: float | None = None,
) -> Profile:
    """Measures training steps.

    Args:
        steps: to measure, at least one, twice: with and without the profiler.
        run_step: makes one update and returns its line of the log, of which `tokens` (so far) and
            `data_seconds` (of the step) are used.
        device: where it runs.
        flops_per_token: of training, forward and backward; None where nobody knows.
        peak: FLOP/s of the device, see `peaks.peak_flops`; None where nobody knows.
    """
    for _ in range(WARM_UP):
        before = run_step()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    _wait(device)
    start, waited = time.perf_counter(), 0.0
    for _ in range(steps):
        line = run_step()
        waited += line.get("data_seconds", 0.0)
    _wait(device)
    seconds = time.perf_counter() - start
    speed = (line["tokens"] - before["tokens"]) / seconds
    on_cuda = device.startswith("cuda")
    memory = torch.cuda.max_memory_allocated(device) if on_cuda else machine.peak_memory()
    return Profile(
        steps=steps,
        seconds_per_step=seconds / steps,
        tokens_per_second=speed,
        data_share=waited / seconds,
        peak_memory=memory,
        model_flops=None if flops_per_token is None else speed * flops_per_token,
        peak_flops=peak,
        mfu=utilisation(speed, flops_per_token, peak),
        operations=operations(steps, run_step, device),
    )


def operations(steps: int, run_step: Callable[[], Any], device: str = "cpu") -> list[Operation]:
    """Returns the operations that steps spend most of their time in, the longest first.

    All others are together in the last one, so that the shares add up to 1. On CUDA the time is that of
    the kernels that an operation started, not of starting them.
    """
    on_cuda = device.startswith("cuda")
    wanted = [torch.profiler.ProfilerActivity.CPU]
    if on_cuda:
        wanted.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=wanted, acc_events=True) as recorder:
        for _ in range(steps):
            run_step()
        _wait(device)
    found = []
    for event in recorder.key_averages():
        if event.device_type != DeviceType.CPU:
            continue  # kernels by themselves: their time is in the operation that started them
        micro = event.self_device_time_total if on_cuda else event.self_cpu_time_total
        if micro > 0:
            found.append((event.key, micro / 1e6, event.count))
    total = sum(seconds for _, seconds, _ in found)
    found.sort(key=lambda one: -one[1])
    shown, others = found[:OPERATIONS], found[OPERATIONS:]
    if others:
        shown.append((OTHERS, sum(one[1] for one in others), sum(one[2] for one in others)))
    return [
        Operation(name, seconds / steps, seconds / total, calls / steps) for name, seconds, calls in shown
    ]


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _rate(flops: float | None) -> str:
    if flops is None:
        return "n/a"
    return f"{flops / 1e12:,.2f} TFLOP/s" if flops >= 1e12 else f"{flops / 1e9:,.1f} GFLOP/s"
