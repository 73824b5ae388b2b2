"""What a miner passed over, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Skipped:
    """Something that looked like a conversation and is none.

    Args:
        source: the document's path, with the line after a colon.
        reason: in a few words, to count by.
    """

    source: str
    reason: str
