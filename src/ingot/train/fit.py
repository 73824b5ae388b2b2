"""How many rows fit in memory at once, found before step 1 by trying.

```
try 1 row, try 2 rows -> bytes(rows) on a line -> the largest divisor below the limit -> try it too
```

A trial is a forward and a backward pass without an update: weights, gradients, buffers and random
numbers are afterwards what they were. On CUDA, running out of memory is caught. On the CPU it would end
the process, so every tensor is counted as it is made, and a trial is given up before it takes too much.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from ingot import device as machine
from ingot.errors import ResourceError
from ingot.objectives.objective import Batch, Loss

SHARE = 0.9
"""Of the free memory that training may take: what kernels use inside themselves is not counted."""

ADVICE = "use a smaller model, a shorter context, precision bf16 or recompute full"

Try = Callable[[int], int | None]
"""Runs so many rows; returns the bytes that they took at most, or None where those were too many."""


def largest_micro_batch(try_rows: Try, rows: int, limit: int) -> int:
    """Returns the most rows that fit at once: the largest divisor of `rows` that does.

    Args:
        try_rows: see `trial`.
        rows: of this process's part of the global batch.
        limit: bytes that may be taken.

    Raises:
        ResourceError: not even one row fits.

    Example:
        >>> largest_micro_batch(lambda rows: 100 + 50 * rows, rows=16, limit=600)
        8
    """
    one = try_rows(1)
    if one is None or one > limit:
        what = f"one row needs {_needs(one, limit)}, {_size(limit)} are free"
        raise ResourceError(what, where="train.micro_batch", fix=ADVICE)
    two = try_rows(2) if rows > 1 else None
    if two is None:
        return 1
    for count in range(rows, 1, -1):
        if rows % count == 0 and one + (count - 1) * (two - one) <= limit:
            taken = two if count == 2 else try_rows(count)
            if taken is not None and taken <= limit:
                return count
    return 1


def check_micro_batch(try_rows: Try, micro_batch: int, rows: int, limit: int) -> None:
    """Tries a micro-batch before step 1.

    Args:
        try_rows: see `trial`.
        micro_batch: rows that were asked for.
        rows: of this process's part of the global batch.
        limit: bytes that may be taken.

    Raises:
        ResourceError: it does not fit; the fix names the one that `--fit` would choose.
    """
    taken = try_rows(micro_batch)
    if taken is None or taken > limit:
        fits = largest_micro_batch(try_rows, rows, limit)
        raise ResourceError(
            f"a micro-batch of {micro_batch} needs {_needs(taken, limit)}, {_size(limit)} are free",
            where="train.micro_batch",
            fix=f"--fit would choose {fits}",
        )


def free_memory(device: str, reserved: int = 0) -> int:
    """Returns the bytes that a trial may take on a device.

    Args:
        device: 'cpu', 'cuda', 'cuda:1' ...
        reserved: bytes that come later, such as the optimizer's state.
    """
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return max(0, int(SHARE * (free + unused)) - reserved)
    return max(0, int(SHARE * (machine.memory() - machine.peak_memory())) - reserved)


def trial(model: nn.Module, loss: Callable[[Batch], Loss], batch: Batch, device: str, limit: int) -> Try:
    """Returns a trial of forward and backward passes.

    Args:
        model: whose gradients are computed; afterwards it is what it was.
        loss: the forward pass of a micro-batch; not compiled on the CPU, where it is looked into.
        batch: tensors whose first dimension is the row, with as many rows as may be tried: the
            largest batch of the run, where batches differ.
        device: where the model is.
        limit: bytes at which a trial is given up.

    Returns:
        A function of a number of rows. It gives the bytes that those took at most beyond what was
        taken before, gradients counted, or None where they did not fit.
    """
    measured = _on_cuda if device.startswith("cuda") else _on_cpu

    def try_rows(rows: int) -> int | None:
        def run() -> None:
            part = {name: value[:rows].to(device) for name, value in batch.items()}
            loss(part).sum.backward()

        with _unchanged(model, device):
            return measured(run, device, limit)

    return try_rows


def _on_cuda(run: Callable[[], None], device: str, limit: int) -> int | None:
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        run()
        torch.cuda.synchronize(device)
        fitted = True
    except torch.OutOfMemoryError:
        fitted = False
    torch.cuda.empty_cache()  # outside of the handler, whose error holds on to tensors
    return torch.cuda.max_memory_allocated(device) - before if fitted else None


def _on_cpu(run: Callable[[], None], device: str, limit: int) -> int | None:
    counted = CountedTensors(limit)
    try:
        with counted:
            run()
    except _TooMuch:
        return None
    return counted.peak


class _TooMuch(Exception):
    """More bytes than a trial may take."""


class CountedTensors(TorchDispatchMode):
    """While entered, counts the bytes of all tensors that operations make, as long as those live.

    Args:
        limit: bytes above which the trial is given up.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.now = 0
        self.peak = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages((args, kwargs))}  # views and updates in place
        for storage in _storages(result):
            if storage._cdata not in given and storage._cdata not in self._alive:
                self._count(storage, storage._cdata, storage.nbytes())
        return result

    def _count(self, storage: torch.UntypedStorage, key: int, size: int) -> None:
        def gone(_: Any) -> None:
            self.now -= size
            del self._alive[key]

        self._alive[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)
        if self.now > self.limit:
            raise _TooMuch


def _storages(values: Any) -> Iterator[torch.UntypedStorage]:
    return (value.untyped_storage() for value in tree_iter(values) if isinstance(value, Tensor))


@contextmanager
def _unchanged(model: nn.Module, device: str) -> Iterator[None]:
    """Puts gradients, buffers and random numbers back as they were."""
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _needs(taken: int | None, limit: int) -> str:
    return f"more than {_size(limit)}" if taken is None else _size(taken)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
