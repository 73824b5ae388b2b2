"""Freed memory is kept: a second round of large tensors causes no page faults."""

from __future__ import annotations

import subprocess
import sys

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
