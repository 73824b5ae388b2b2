"""The ledger as people read it: how much each rule dropped, and some of it."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import Any, NamedTuple

from ingot.data.corpus import iterate_ledger, read_counts
from ingot.data.document import Dropped
from ingot.data.holdout import place

EXCERPT = 160
"""Characters of a dropped text that are shown."""


class Rule(NamedTuple):
    """What one rule dropped.

    Args:
        name: of the rule.
        documents: how many entries the ledger has of it.
        bytes: of their texts, as far as they could be read.
        threshold: what was measured against, where the rule measures.
        samples: some of them.
    """

    name: str
    documents: int
    bytes: int
    threshold: float | None
    samples: list[Dropped]

    def plain(self) -> dict[str, Any]:
        """Returns it as JSON holds it."""
        samples = [
            {
                "path": one.path,
                "detail": one.detail,
                "value": one.value,
                "threshold": one.threshold,
                "excerpt": excerpt(one.text),
            }
            for one in self.samples
        ]
        return {**self._asdict(), "samples": samples}


def rules(corpus: Path, shown: int, only: str | None = None) -> list[Rule]:
    """Returns what each rule dropped, the most first.

    Args:
        corpus: the artifact's folder.
        shown: samples of each rule: the same ones each time, from all over the corpus.
        only: the name of one rule, or the beginning of several.
    """
    counted = read_counts(corpus)["rules"]
    chosen: dict[str, list[tuple[int, int, Dropped]]] = {}
    for number, one in enumerate(iterate_ledger(corpus) if shown else ()):
        if only is not None and not one.reason.startswith(only):
            continue
        heap = chosen.setdefault(one.reason, [])
        entry = (-int.from_bytes(place(one.path, "inspect"), "big"), -number, one)
        if len(heap) < shown:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)
    return [
        Rule(
            name,
            told["documents"],
            told["bytes"],
            told["threshold"],
            [one for _, _, one in sorted(chosen.get(name, []), reverse=True)],
        )
        for name, told in counted.items()
        if only is None or name.startswith(only)
    ]


def excerpt(text: str) -> str:
    """Returns the beginning of a text in one line.

    Example:
        >>> excerpt("one\\n\\n  two")
        'one two'
    """
    line = " ".join(text[: 4 * EXCERPT].split())
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…"
