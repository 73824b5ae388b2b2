"""Ranks: the processes that train one model together, and the few things they tell one another.

```
torchrun --nproc-per-node 2 -m ingot ...        rank 0 (the lead: log, checkpoints, words)   rank 1
```

Everything a run says to itself about itself (flags, counts, names) goes over a group of its own that
works on the CPU, so that such small talk never waits for, or stalls, a GPU. Objects travel as JSON text
in tensors; nothing is pickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from ingot.errors import ConfigError, ResourceError


@dataclass(frozen=True)
class Ranks:
    """This process among its fellows; every method but `lead` and `place` has to be called by all of them.

    Args:
        rank: of this process, from 0.
        world: how many processes there are.
        local: of this process on its machine, from 0; the number of its GPU.
        group: the process group for small talk, or None for a process alone.

    Raises:
        ResourceError: (from every method that talks) another rank died, or did not answer in time.

    Example:
        >>> ALONE.sum_numbers([1.0, 2.0]), ALONE.gather("here"), ALONE.lead
        ([1.0, 2.0], ['here'], True)
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    group: Any = field(default=None, repr=False, compare=False)

    @property
    def lead(self) -> bool:
        """Whether this is the rank that writes the log and speaks."""
        return self.rank == 0

    def place(self, device: str) -> str:
        """Returns this rank's own device: 'cuda' becomes 'cuda:1' on the second rank of a machine."""
        return f"cuda:{self.local}" if device == "cuda" and self.world > 1 else device

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the sum of all ranks' tensors (same shape and dtype) as a new tensor; alone, the same."""
        if self.world == 1:
            return tensor
        result = tensor.detach().clone()
        with self._together("a sum"):
            dist.all_reduce(result, group=self.group if result.device.type == "cpu" else None)
        return result

    def sum_numbers(self, numbers: Sequence[float]) -> list[float]:
        """Returns the sums of all ranks' numbers, place by place, in float64."""
        if self.world == 1 or not numbers:
            return list(numbers)
        total: list[float] = self.sum(torch.tensor(numbers, dtype=torch.float64)).tolist()
        return total

    def any(self, flag: bool) -> bool:
        """Returns whether any rank has the flag up."""
        return self.sum_numbers([float(flag)])[0] > 0

    def barrier(self) -> None:
        """Waits until every rank is here."""
        if self.world > 1:
            with self._together("a meeting"):
                dist.monitored_barrier(self.group)  # says which rank is missing

    def share(self, item: Any = None) -> Any:
        """Returns what rank 0 gave (JSON-able); what the others give is ignored."""
        if self.world == 1:
            return item
        text = json.dumps(item).encode() if self.lead else b""
        with self._together("news from rank 0"):
            length = torch.tensor([len(text)])
            dist.broadcast(length, 0, group=self.group)
            data = _as_tensor(text) if self.lead else torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(data, 0, group=self.group)
        return json.loads(_as_bytes(data))

    def gather(self, item: Any) -> list[Any]:
        """Returns what each rank gave (JSON-able), by rank; every rank gets the list."""
        if self.world == 1:
            return [item]
        text = _as_tensor(json.dumps(item).encode())
        with self._together("news from all ranks"):
            lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
            dist.all_gather(lengths, torch.tensor([len(text)]), group=self.group)
            room = max(int(length) for length in lengths)
            texts = [torch.empty(room, dtype=torch.uint8) for _ in range(self.world)]
            dist.all_gather(texts, torch.nn.functional.pad(text, (0, room - len(text))), group=self.group)
        pairs = zip(texts, lengths, strict=True)
        return [json.loads(_as_bytes(data[: int(length)])) for data, length in pairs]

    @contextmanager
    def _together(self, what: str) -> Iterator[None]:
        """Says in words that another rank is gone; the first error stands in that rank's own output."""
        try:
            yield
        except RuntimeError as error:
            raise ResourceError(
                f"another rank died or did not answer while waiting for {what} ({_first_line(error)})",
                where=f"rank {self.rank} of {self.world}",
                fix="look for the first error in the other ranks' output, then start all of them again",
            ) from error


ALONE = Ranks()
"""One process that trains by itself; nothing has to be started for it."""

_joined: Ranks | None = None


def join(device: str, timeout_seconds: float = 300) -> Ranks:
    """Joins the ranks that torchrun started; without torchrun this process is alone.

    Joining again gives the same ranks: every stage of a pipeline may ask.

    Args:
        device: 'cpu' (gloo) or 'cuda' (nccl, one GPU per rank).
        timeout_seconds: how long a rank waits for another before it gives up.

    Raises:
        ConfigError: the device cannot be shared by ranks, or torchrun's environment is incomplete.
        ResourceError: fewer GPUs than ranks on this machine, or the others did not appear.

    Source: the environment that torchrun sets (docs.pytorch.org/docs/stable/elastic/run.html).
    """
    global _joined
    if _joined is not None:
        return _joined
    world = _number("WORLD_SIZE", 1)
    if world <= 1:
        return ALONE
    rank, local = _number("RANK"), _number("LOCAL_RANK", _number("RANK"))
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"{world} ranks cannot share '{device}'", where="device", fix="use cpu or cuda")
    wait = timedelta(seconds=timeout_seconds)
    if kind == "cuda":
        _take_gpu(local)
    try:
        own = torch.device("cuda", local) if kind == "cuda" else None
        backend = "nccl" if kind == "cuda" else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=world, timeout=wait, device_id=own)
        group = dist.new_group(backend="gloo", timeout=wait)
    except (RuntimeError, ValueError) as error:
        raise ResourceError(
            f"rank {rank} of {world} did not find the others ({_first_line(error)})",
            where="torchrun",
            fix="start every rank with torchrun, the same --nnodes and --rdzv-endpoint on each machine",
        ) from error
    _joined = Ranks(rank, world, local, group)
    return _joined


def leave() -> None:
    """Ends the common work of this process; alone, nothing."""
    global _joined
    if _joined is not None:
        _joined = None
        dist.destroy_process_group()


def _take_gpu(local: int) -> None:
    count = torch.cuda.device_count()
    if local >= count:
        what = f"rank {local} of this machine has no GPU: there are {count}"
        raise ResourceError(what, where="device", fix=f"use torchrun --nproc-per-node {max(1, count)}")
    torch.cuda.set_device(local)


def _number(name: str, otherwise: int | None = None) -> int:
    text = os.environ.get(name, "" if otherwise is None else str(otherwise))
    if not text.isdigit():
        what = f"{name} is {text!r} where a number is needed"
        raise ConfigError(what, where="environment", fix="start with torchrun, or unset WORLD_SIZE")
    return int(text)


def _as_tensor(text: bytes) -> Tensor:
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def _as_bytes(data: Tensor) -> bytes:
    return data.numpy().tobytes()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
