"""The machine: which device and number type to use, how many threads, what it can do at best.

Everything here is measured or read from the running machine; nothing is remembered between runs.
torch is imported inside the functions that need it, so that reading this module costs nothing.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingot.errors import ConfigError, ResourceError, did_you_mean

if TYPE_CHECKING:
    import torch

FAST_BF16 = frozenset({"amx_bf16", "avx512_bf16"})
"""Instruction sets under which a bf16 matrix product is several times faster than an fp32 one."""


def cores() -> int:
    """Returns how many processors this process may use (affinity and container limits counted)."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    quota, period = [*_words("/sys/fs/cgroup/cpu.max"), "max", "max"][:2]
    if quota.isdigit() and period.isdigit():
        allowed = min(allowed, max(1, int(quota) // int(period)))
    return allowed


def threads() -> int:
    """Returns how many threads heavy work should use: OMP_NUM_THREADS, else one per physical core."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if sys.platform == "darwin":
        physical = int(_sysctl("-n", "hw.physicalcpu") or cores())
    else:
        siblings = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
        physical = len({" ".join(_words(path)) for path in siblings}) or cores()
    return max(1, min(cores(), physical))


def prepare_threads(count: int | None = None) -> int:
    """Sets torch's threads, flushes denormal numbers (products would be ten times slower), bounds its caches.

    Args:
        count: threads to use; None means `threads()`.

    Returns:
        The number of threads set. Losses repeat bit for bit only under the same number.
    """
    import torch

    count = threads() if count is None else count
    # oneDNN keeps what it prepared for every shape of a product, 1,024 of them by default. Where lengths vary
    # from batch to batch that came to 2 GB (docs/experiments.md).
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    torch.set_num_threads(count)
    torch.set_flush_denormal(True)
    return count


@functools.cache
def instruction_sets() -> frozenset[str]:
    """Returns the processor's instruction set names as the system spells them, in lower case."""
    if sys.platform == "darwin":
        intel = _sysctl("-n", "machdep.cpu.features", "machdep.cpu.leaf7_features").split()
        arm = [
            line.split(": ")[0].split(".")[-1]
            for line in _sysctl("hw.optional.arm").splitlines()
            if line.endswith(": 1")
        ]
        return frozenset(name.lower() for name in intel + arm)
    for key in ("flags", "Features"):
        found = _cpuinfo(key)
        if found:
            return frozenset(found.lower().split())
    return frozenset()


def resolve(name: str = "auto") -> str:
    """Returns the device that `name` means here: 'cpu', 'cuda' (or 'cuda:1' ...), 'mps'.

    Args:
        name: 'auto' takes CUDA where there is one, else the CPU.

    Raises:
        ConfigError: no such kind of device.
        ResourceError: this machine (or this torch) has no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not (kind == "cuda" and index.isdigit())):
        known = ["auto", "cpu", "cuda", "mps"]
        raise ConfigError(f"unknown device '{name}'", where="device", fix=did_you_mean(kind, known))
    if kind == "cuda" and not torch.cuda.is_available():
        why = (
            "this torch is built without CUDA" if torch.version.cuda is None else "no CUDA device is visible"
        )
        raise ResourceError(f"'{name}' asked for, but {why}", where="device", fix="use --device cpu")
    if index and int(index) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ResourceError(f"'{name}' asked for, but there are {count}", where="device", fix="use cuda:0")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ResourceError("'mps' asked for, but there is none here", where="device", fix="use --device cpu")
    return name


def has_fast_bf16(device: str = "cpu") -> bool:
    """Whether bf16 matrix products are faster than fp32 ones here (AMX, AVX512-BF16, CUDA with bf16)."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and bool(FAST_BF16 & instruction_sets())


def best_dtype(device: str = "cpu") -> torch.dtype:
    """Returns the number type for matrix products on `device`: bf16 where it is fast, else fp32."""
    import torch

    return torch.bfloat16 if has_fast_bf16(device) else torch.float32


@functools.cache
def compiler() -> str | None:
    """Returns the C++ compiler that torch.compile can use on the CPU, or None.

    It has to build a shared library against Python's headers (and OpenMP on Linux): a compiler
    without those headers would fail minutes later, inside training.
    """
    for name in (os.environ.get("CXX", ""), "g++", "clang++", "c++"):
        found = shutil.which(name) if name else None
        if found and _builds(found):
            return found
    return None


def _builds(path: str) -> bool:
    openmp = [] if sys.platform == "darwin" else ["-fopenmp"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "trial.cpp")
        source.write_text("#include <Python.h>\n#include <cmath>\nint main() { return 0; }\n")
        include = f"-I{sysconfig.get_path('include')}"
        target = str(Path(folder, "trial.o"))
        command = [path, "-fPIC", "-std=c++17", *openmp, include, "-c", str(source), "-o", target]
        try:
            return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False


def measure_gemm(dtype: torch.dtype, seconds: float = 0.5, device: str = "cpu") -> float:
    """Measures the rate of large square matrix products.

    Args:
        dtype: number type of both factors.
        seconds: how long to measure, after one warm-up product.
        device: where to multiply.

    Returns:
        Floating point operations per second (a multiplication and an addition count two).
    """
    import torch

    size = 8192 if device.startswith("cuda") else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 * _rate(lambda: torch.mm(a, b), seconds, device)


def measure_bandwidth(seconds: float = 0.5, device: str = "cpu") -> float:
    """Measures how fast memory is copied, far outside the caches.

    Returns:
        Bytes per second, those read and those written together.
    """
    import torch

    source = torch.ones(64 * 2**20, device=device)
    target = torch.zeros_like(source)
    return 2 * source.nbytes * _rate(lambda: target.copy_(source), seconds, device)


def _rate(work: Callable[[], Any], seconds: float, device: str) -> float:
    """Calls per second of `work`, by its fastest half so that a busy neighbour counts little."""
    import torch

    def timed() -> float:
        start = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - start

    timed()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        taken.append(timed())
    fastest = sorted(taken)[: max(1, len(taken) // 2)]
    return len(fastest) / sum(fastest)


def memory() -> int:
    """Returns the bytes of memory that this process may use (container limits counted)."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = "".join(_words("/sys/fs/cgroup/memory.max"))
    return min(total, int(limit)) if limit.isdigit() else total


def peak_memory() -> int:
    """Returns the most bytes this process has held in memory at once, so far."""
    for line in _lines("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # on Linux this counts the parent's too
    return peak if sys.platform == "darwin" else peak * 1024


def version_of(package: str) -> str | None:
    """Returns an installed package's version without importing it, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_model() -> str:
    """Returns the processor's name as it calls itself."""
    if sys.platform == "darwin":
        return _sysctl("-n", "machdep.cpu.brand_string") or platform.machine()
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def describe() -> dict[str, Any]:
    """Describes the machine and the versions that results depend on.

    Returns:
        Plain data: cpu, cores, threads, memory (bytes), instruction_sets (those that matter for
        matrix products), gpu (name or None), os, python, torch, ingot.
    """
    import torch

    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16")
    known = instruction_sets()
    arm = ("asimd", "asimddp", "bf16", "feat_bf16", "i8mm", "feat_i8mm", "sve")
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "threads": threads(),
        "memory": memory(),
        "instruction_sets": [name for name in (*wanted, *arm) if name in known],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ingot": version_of("ingot"),
    }


def _lines(path: str | Path) -> list[str]:
    """The lines of a small system file; none where it does not exist."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _words(path: str | Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _cpuinfo(key: str) -> str:
    """The first value of `key` in Linux's description of its processors."""
    for line in _lines("/proc/cpuinfo"):
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _sysctl(*arguments: str) -> str:
    """What macOS answers about itself."""
    try:
        done = subprocess.run(["sysctl", *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
