"""Kernels are compiled on the machine that runs them, once, and are simply absent where that cannot be.

```
source + flags + threads' library  --hash-->  ~/.cache/ingot/kernels/attention-1f0c....so
                                                there: load it        (no compiler needed any more)
                                                not there: compile it (two seconds), then load it
no AMX, no compiler, a failed build:            None, and PyTorch's own operations do the work
```

Threads come from the very OpenMP library that torch has loaded: a second copy would bring a second set of
threads, which wait actively for work on the cores that the first set computes on.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from ingot import device

Answer = TypeVar("Answer", bound=Callable[[], bool])

SETS = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16", "amx_tile", "amx_bf16")
"""What the kernels need of the processor, as Linux spells it."""

FLAGS = (
    *("-O3", "-std=c++17", "-fPIC", "-fopenmp", "-mfma", "-mamx-tile", "-mamx-bf16"),
    *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512bf16"),
)
SECONDS = 120  # after which a compiler is given up

_ARCH_PRCTL, _REQUEST_STATE, _TILE_DATA = 158, 0x1023, 18  # numbers of Linux on x86-64


def constant(function: Answer) -> Answer:
    """Marks a function whose answer never changes, so that compiled graphs hold the answer.

    It sets what `torch.compiler.assume_constant_result` sets, which first imports the whole compiler: a
    second of every start.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@functools.cache
def load(name: str) -> ctypes.CDLL | None:
    """Loads a kernel, compiling it where this has not been done yet.

    Args:
        name: of a source file beside this one, without `.cpp`.

    Returns:
        The library, or None where it cannot be had; never an error.
    """
    threads = openmp()
    if threads is None or not device.instruction_sets().issuperset(SETS) or not tiles_allowed():
        return None
    try:
        library = folder() / f"{name}-{_fingerprint(name, threads)}.so"
        if not library.exists():
            _build(name, threads, library)
        return ctypes.CDLL(str(library))
    except (OSError, RuntimeError, subprocess.SubprocessError):  # RuntimeError: this user has no home
        return None


def openmp() -> Path | None:
    """The OpenMP library that torch has loaded; Linux only."""
    try:
        mapped = {line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    except OSError:
        return None
    found = sorted(path for path in mapped if re.search(r"/lib(gomp|iomp5|omp)[-.][^/]*$", path))
    home = str(Path(torch.__file__).parent)  # or beside it: torch.libs
    return Path(next((path for path in found if path.startswith(home)), *found[:1])) if found else None


def tiles_allowed() -> bool:
    """Asks Linux for the tile registers, which a process may not use before.

    Only to be called where the processor has some: elsewhere the number means another question.

    Returns:
        Whether this process may use them from now on, in all its threads.
    """
    return ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_STATE, _TILE_DATA) == 0


def folder() -> Path:
    """Returns where compiled kernels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ingot" / "kernels"


def _fingerprint(name: str, threads: Path) -> str:
    """Of all that decides whether a library that was built before will do."""
    here = Path(__file__).parent
    sources = [here / f"{name}.cpp", *sorted(here.glob("*.h"))]
    known = hashlib.sha256("\n".join((*FLAGS, str(threads), *platform.libc_ver())).encode())
    for source in sources:
        known.update(source.read_bytes())
    return known.hexdigest()[:16]


def _build(name: str, threads: Path, library: Path) -> None:
    """Compiles aside and renames, so that a kill or another process at the same work does no harm.

    Raises:
        OSError, subprocess.SubprocessError: there is no compiler, or it fails.
    """
    compiler = device.compiler()
    if compiler is None:
        raise FileNotFoundError("no C++ compiler")
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=f".{library.name}.tmp-") as aside:
        compiled, linked = Path(aside, "kernel.o"), Path(aside, "kernel.so")
        source = Path(__file__).with_name(f"{name}.cpp")
        # In two steps: told of OpenMP, the linker would take the system's library of that kind.
        for command in (
            [compiler, *FLAGS, "-c", str(source), "-o", str(compiled)],
            [compiler, "-shared", str(compiled), str(threads), "-o", str(linked)],
        ):
            subprocess.run(command, capture_output=True, timeout=SECONDS, check=True)
        os.replace(linked, library)
