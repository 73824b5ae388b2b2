"""What became of the work under way: a small file in its folder that outlives a kill.

```
work/pretrain-3f2a.../status.json    {"status": "interrupted", "interruptions": 1, "step": 400, ...}
```
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingot.atomic import write_atomic
from ingot.errors import IngotError

WORK = "work"
STATUS = "status.json"
TERMINATED = 143
"""Exit code of a process that SIGTERM ended: an `IngotError` that carries it stopped in good order."""


def begin(work: Path) -> int:
    """Notes a start of the work; returns how often it was interrupted before."""
    work.mkdir(parents=True, exist_ok=True)
    went_on = any(path.name != STATUS and not path.name.startswith(".") for path in work.iterdir())
    before = _read(work).get("interruptions", 0)
    interruptions = before + 1 if went_on and isinstance(before, int) else 0
    _note(work, {"status": "running", "interruptions": interruptions})
    return interruptions


def end(work: Path, error: BaseException, interruptions: int) -> None:
    """Notes how a start ended without its artifact."""
    asked = isinstance(error, KeyboardInterrupt | SystemExit) or (
        isinstance(error, IngotError) and error.exit_code == TERMINATED
    )
    status = {"status": "interrupted" if asked else "failed", "interruptions": interruptions}
    step = getattr(error, "step", None)
    told = {"step": step, "why": str(error) if isinstance(error, IngotError) else type(error).__name__}
    with contextlib.suppress(OSError):  # a full disk must not hide the error itself
        _note(work, status | {key: value for key, value in told.items() if value is not None})


def unfinished(run: Path | str) -> dict[str, dict[str, Any]]:
    """Returns what became of the work under way in a run folder.

    Returns:
        By the name of the work folder (`pretrain-3f2a...`): `status` (running, which a killed start says
        too; interrupted; failed), `at` (time, ISO 8601), `interruptions` before that start, and where
        they are known `step` (the last one saved) and `why`.
    """
    folders = sorted(path for path in Path(run, WORK).glob("*") if path.is_dir())
    return {path.name: found for path in folders if (found := _read(path))}


def _note(work: Path, status: Mapping[str, Any]) -> None:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    write_atomic(work / STATUS, json.dumps({**status, "at": at}, indent=2) + "\n")


def _read(work: Path) -> dict[str, Any]:
    try:
        found = json.loads((work / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
