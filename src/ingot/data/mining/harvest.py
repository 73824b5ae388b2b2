"""All miners over a stream of documents: each conversation once, and a count of what was passed over."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingot.data.conversations import Example
from ingot.data.document import Document
from ingot.data.mining.code import mine_explanations, mine_functions, mine_python
from ingot.data.mining.dialogues import mine_dialogues
from ingot.data.mining.questions import mine_questions
from ingot.data.mining.sections import mine_sections
from ingot.data.mining.skipped import Skipped
from ingot.errors import DataError, did_you_mean

Miner = Callable[[Document], Iterator[Example | Skipped]]

MINERS: dict[str, Miner] = {
    "functions": mine_python,
    "comments": mine_functions,
    "explanations": mine_explanations,
    "questions": mine_questions,
    "sections": mine_sections,
    "dialogues": mine_dialogues,
}
"""By name: a Python function from its docstring, a function of other languages from its comment, what a
Python function does, an answer from its question, a section from its heading, turns of a dialogue."""


@dataclass
class Harvest:
    """What was found and what was passed over, filled while `harvest` is read.

    Args:
        documents: that were looked at.
        found: conversations by miner.
        skipped: what looked like one and is none, by miner and reason.
    """

    documents: int = 0
    found: Counter[str] = field(default_factory=Counter)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)


def harvest(
    documents: Iterable[Document], counts: Harvest, miners: Sequence[str] = tuple(MINERS)
) -> Iterator[Example]:
    """Finds conversations in documents, one document in memory at a time.

    Args:
        documents: of any kind; each miner looks at those that it understands.
        counts: is filled on the way.
        miners: names of those that look.

    Yields:
        Conversations in the order of the documents, each with the document and line it came from. No
        question and no answer comes twice: of two, the earlier.

    Raises:
        DataError: no such miner.
    """
    for name in miners:
        if name not in MINERS:
            raise DataError(f"no miner is called '{name}'", fix=did_you_mean(name, MINERS))
    seen: set[int] = set()
    for document in documents:
        counts.documents += 1
        for name in miners:
            for found in MINERS[name](document):
                if isinstance(found, Skipped):
                    counts.skipped[name, found.reason] += 1
                elif _is_new(found, seen):
                    counts.found[name] += 1
                    yield found
                else:
                    counts.skipped[name, "said before"] += 1


def to_row(example: Example) -> dict[str, Any]:
    """Returns a conversation as a row of the "messages" format, with what it came from."""
    row: dict[str, Any] = {"messages": example.messages, "id": example.id, "source": example.source}
    return row | ({"check": example.check} if example.check is not None else {})


def _is_new(example: Example, seen: set[int]) -> bool:
    """64 bits of each question and answer: a chance collision in a million loses one in ten million."""
    asked, said = "\0".join(m["content"] for m in example.messages[:-1]), example.messages[-1]["content"]
    keys = {_key("asked", asked), _key("said", said)}
    if keys & seen:
        return False
    seen |= keys
    return True


def _key(what: str, text: str) -> int:
    data = f"{what}\0{text}".encode("utf-8", errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())
