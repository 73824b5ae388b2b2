"""One writer per folder: a lock file that names its holder and that no kill can leave locked."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ingot.errors import BusyError

LOCK = "lock"


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Holds a run folder for this process; the system lets go of it however the process ends.

    Raises:
        BusyError: another process holds it; names that process.
    """
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what = f"process {_holder(folder)} is working in this folder"
            raise BusyError(
                what, where=folder, fix="wait for it, stop it, or choose another folder"
            ) from None
        content = json.dumps({"pid": os.getpid(), "started": datetime.now(UTC).isoformat(timespec="seconds")})
        os.ftruncate(handle, 0)
        os.pwrite(handle, content.encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _holder(folder: Path) -> str:
    """The pid in the lock file; its holder writes it just after it got the lock."""
    for _ in range(20):
        try:
            return str(json.loads((folder / LOCK).read_text())["pid"])
        except (OSError, ValueError, KeyError):
            time.sleep(0.05)
    return "(unknown)"
