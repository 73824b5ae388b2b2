"""Counts of an engine: what `/metrics` and dashboards show."""

from __future__ import annotations

from typing import NamedTuple


class Usage(NamedTuple):
    """What an engine does and did; counts of tokens and preemptions only grow."""

    running: int
    waiting: int
    pages_used: int
    pages_idle: int
    """Pages that nobody reads, kept for those who ask for the same beginning."""
    pages_total: int
    prefix_queries: int
    """Prompt tokens that were looked up in the prefix cache."""
    prefix_hits: int
    """Prompt tokens that did not have to be computed."""
    preemptions: int
    drafted: int
    """Tokens that were guessed ahead."""
    accepted: int
    """Guesses that were right."""
