"""The compiled step: built on the machine that runs it, once, in the background where somebody waits.

```
sources + flags + processor  --hash-->  ~/.cache/ingot/kernels/step-1f0c....so
                                          there: loaded at once
                                          not there: a thread compiles it (some seconds), others go on
no compiler, a failed build:              None, and PyTorch computes
```
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from ingot import device
from ingot.nn.kernels import build as kernels

FLAGS = ("-O3", "-std=c++20", "-fPIC", "-Wno-psabi")
NATIVE = {"x86_64": "-march=native", "aarch64": "-mcpu=native", "arm64": "-mcpu=native"}
WITHOUT_TILES = ("-mno-amx-tile", "-mno-amx-bf16", "-mno-amx-int8")
SECONDS = 300  # after which a compiler is given up

_lock = threading.Lock()
_asked = False
_building: threading.Thread | None = None
_library: ctypes.CDLL | None = None


def load(wait: float | None = None) -> ctypes.CDLL | None:
    """Loads the compiled step, compiling it where this has not been done yet.

    Args:
        wait: seconds that compiling may take before this returns without; it goes on behind, and a later
            call finds what it made. None waits for the end of it.

    Returns:
        The library, or None where it is not there yet or cannot be had; never an error.
    """
    global _asked, _building
    with _lock:
        if not _asked:
            _asked = True
            if not _take():
                _building = threading.Thread(target=_make, name="compiling the step", daemon=True)
                _building.start()
    if _building is not None:
        _building.join(wait)
    return _library


def pending() -> bool:
    """Whether the step is being compiled now: who asks later may get it."""
    return _building is not None and _building.is_alive()


def _take() -> bool:
    """Loads the library where it was built before; says whether it was."""
    global _library
    try:
        library = _place(kernels.openmp())
        _library = ctypes.CDLL(str(library)) if library.exists() else None
    except (OSError, RuntimeError):  # RuntimeError: this user has no home
        return False
    return _library is not None


def _make() -> None:
    """Compiles the library and loads it; leaves None where that fails."""
    threads = kernels.openmp()
    try:
        _build(Path(__file__).with_name("step.cpp"), _flags(threads), threads, _place(threads))
    except (OSError, RuntimeError, subprocess.SubprocessError):
        return
    _take()


def _place(threads: Path | None) -> Path:
    return kernels.folder() / f"step-{_fingerprint(threads)}.so"


def _flags(threads: Path | None) -> list[str]:
    """The compiler's flags, without tiles where Linux refuses this process the registers."""
    native = NATIVE.get(platform.machine())
    refused = "amx_tile" in device.instruction_sets() and not kernels.tiles_allowed()
    return [
        *FLAGS, *([native] if native else []), *(WITHOUT_TILES if refused else ()),
        *(["-fopenmp"] if threads else []),
    ]  # fmt: skip


def _fingerprint(threads: Path | None) -> str:
    """Of all that decides whether a library that was built before will do."""
    here = Path(__file__).parent
    machine = [device.cpu_model(), *sorted(device.instruction_sets()), *platform.libc_ver(), sys.platform]
    known = hashlib.sha256("\n".join((*_flags(threads), str(threads), *machine)).encode())
    for source in (here / "step.cpp", *sorted(here.glob("*.h"))):
        known.update(source.read_bytes())
    return known.hexdigest()[:16]


def _build(source: Path, flags: list[str], threads: Path | None, library: Path) -> None:
    """Compiles aside and renames, so that a kill or another process at the same work does no harm.

    Raises:
        OSError, subprocess.SubprocessError: there is no compiler, or it fails.
    """
    compiler = device.compiler()
    if compiler is None:
        raise FileNotFoundError("no C++ compiler")
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=f".{library.name}.tmp-") as aside:
        compiled, linked = Path(aside, "step.o"), Path(aside, "step.so")
        # In two steps: told of OpenMP, the linker would take the system's library of that kind.
        for command in (
            [compiler, *flags, "-c", str(source), "-o", str(compiled)],
            [compiler, "-shared", str(compiled), *([str(threads)] if threads else []), "-o", str(linked)],
        ):
            subprocess.run(command, capture_output=True, timeout=SECONDS, check=True)
        os.replace(linked, library)
