"""The crew of processes that tests of several ranks run on."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "parallel"))

from spawn import crew

__all__ = ["crew"]
