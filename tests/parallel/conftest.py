"""The crew of processes that tests of several ranks run on."""

from __future__ import annotations

from spawn import crew

__all__ = ["crew"]
