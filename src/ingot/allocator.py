"""The C library's memory allocator, told to keep what is freed.

By default glibc gives every large block back to the system and asks for it again at the next step of
training; the system then clears each page and maps it anew, which on virtual machines costs a fifth of
the step (docs/experiments.md). Kept blocks are reused as they are. Huge pages spare the processor's
address translation another few per cent.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path

# Names and values of glibc's malloc.h and Linux's mman.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_MADV_HUGEPAGE = 14

_HUGE_PAGE = 2 << 20
_GROWTH = 64 << 20  # bytes that the heap grows by at once
_LARGEST = 2**31 - 1


@functools.cache
def keep_freed_memory(expected: int = 1 << 30) -> bool:
    """Makes this process keep freed memory for its next use, from now on.

    Args:
        expected: bytes of the heap to ask huge pages for; nothing is taken before it is used.

    Returns:
        Whether it could be done: only where the C library is glibc.
    """
    library = _glibc()
    if library is None:
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _LARGEST), (_TOP_PAD, _GROWTH))
    done = all(library.mallopt(name, value) == 1 for name, value in settings)
    _ask_for_huge_pages(library, expected)
    return done


def share_heaps(heaps: int = 2) -> bool:
    """Makes threads that start from now on share a few heaps, where each would have one of its own.

    A heap keeps what its largest moment took. In a server, where any of many threads may read the next
    large request, memory would grow until every one of them has had such a moment.

    Args:
        heaps: at most.

    Returns:
        Whether it could be done: only where the C library is glibc.
    """
    library = _glibc()
    return library is not None and bool(library.mallopt(_ARENA_MAX, heaps) == 1)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    known = hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt")
    return library if known else None


def _ask_for_huge_pages(library: ctypes.CDLL, expected: int) -> None:
    """Grows the heap once, untouched, and marks it; the system then maps it in huge pages when it is used."""
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.restype, library.free.argtypes = None, [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = library.malloc(expected)
    if not block:
        return
    for start, end in _heap():
        start, end = -(-start // _HUGE_PAGE) * _HUGE_PAGE, end // _HUGE_PAGE * _HUGE_PAGE
        if end > start:
            library.madvise(start, end - start, _MADV_HUGEPAGE)  # a refusal costs nothing
    library.free(block)


def _heap() -> list[tuple[int, int]]:
    """Where this process's heap lies."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    ranges = [line.split()[0].split("-") for line in lines if line.endswith("[heap]")]
    return [(int(start, 16), int(end, 16)) for start, end in ranges]
