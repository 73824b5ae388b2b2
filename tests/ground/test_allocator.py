"""Freed memory is kept: a second round of large tensors causes no page faults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS = """
import resource, torch
from ingot.allocator import keep_freed_memory
kept = {keep}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(8 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(kept, faults())
"""


def _faults(keep: str) -> tuple[bool, int]:
    done = subprocess.run(
        [sys.executable, "-c", ROUNDS.format(keep=keep)], capture_output=True, text=True, check=True
    )
    kept, count = done.stdout.split()
    return kept == "True", int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_kept_memory_is_not_faulted_in_again() -> None:
    kept, count = _faults("keep_freed_memory()")
    if not kept:
        pytest.skip("this C library is not glibc")
    assert count < 100
    assert count < _faults("False")[1]


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    from ingot.allocator import keep_freed_memory

    assert keep_freed_memory.__wrapped__() is False


HEAPS = """
import threading
from ingot.allocator import share_heaps
known = {shared}
def large():
    b"x" * (1 << 16)
    barrier.wait()
barrier = threading.Barrier(12)
threads = [threading.Thread(target=large) for _ in range(12)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
import ctypes
libc = ctypes.CDLL(None)
libc.fopen.restype, libc.fopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_char_p]
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
out = libc.fopen(b"{path}", b"w")
libc.malloc_info(0, out)
libc.fclose(out)
print(known, open("{path}").read().count("<heap nr"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_threads_share_few_heaps(tmp_path: Path) -> None:
    def heaps(shared: str) -> tuple[bool, int]:
        program = HEAPS.format(shared=shared, path=tmp_path / "heaps.xml")
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        known, count = done.stdout.split()
        return known == "True", int(count)

    known, count = heaps("share_heaps()")
    if not known:
        pytest.skip("this C library is not glibc")
    assert count <= 2 < heaps("False")[1]
