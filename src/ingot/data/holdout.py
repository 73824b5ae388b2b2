"""Holding out: which documents are for evaluation only.

Whole files are held out, so that no file is on both sides. A keyed hash of its path puts each file at a
fixed place in a queue, and the front of the queue is held out: the same file is on the same side in every
run, whatever the seed. A corpus of one file is split by its documents, and a single text is cut once: its
last part is held out.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence

from ingot.data.document import Document

LARGEST_SHARE = 0.25
"""A file that would bring the held-out bytes above this share of the corpus is passed over."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Both sides of a corpus, and a sentence where files could not decide."""

    train: list[Document]
    heldout: list[Document]
    note: str | None = None


def hold_out(documents: Sequence[Document], fraction: float) -> Split:
    """Splits a corpus.

    Args:
        documents: at least one.
        fraction: of the files (documents where there is one file, bytes where there is one document) to
            hold out; at least one.
    """
    if len({document.source for document in documents}) > 1:
        return _by(documents, fraction, lambda document: document.source, None)
    name = documents[0].source
    if len(documents) > 1:
        note = f"The corpus is one file, {name}: its documents were split, not files."
        return _by(documents, fraction, lambda document: document.id, note)
    head, tail = _cut(documents[0].text, fraction)
    document = documents[0]
    note = f"The corpus is one text, {name}: its last {len(tail.encode()):,} bytes are held out."
    return Split(
        [dataclasses.replace(document, id=f"{document.id}#head", text=head)],
        [dataclasses.replace(document, id=f"{document.id}#tail", text=tail)],
        note,
    )


def place(name: str, purpose: str) -> bytes:
    """Returns where a name stands in the queue for a purpose: the same on every machine."""
    return hashlib.blake2b(name.encode("utf-8"), key=purpose.encode("utf-8"), digest_size=16).digest()


def sample(documents: Sequence[Document], count: int) -> list[Document]:
    """Returns `count` documents, the same ones each time, in the order given."""
    queue = sorted(range(len(documents)), key=lambda i: place(documents[i].id, "sample"))
    return [documents[index] for index in sorted(queue[:count])]


def _by(
    documents: Sequence[Document], fraction: float, group: Callable[[Document], str], note: str | None
) -> Split:
    sizes: defaultdict[str, int] = defaultdict(int)
    for document in documents:
        sizes[group(document)] += len(document.text.encode("utf-8"))
    queue = sorted(sizes, key=lambda name: place(name, "held out"))
    wanted = min(max(1, round(fraction * len(queue))), len(queue) - 1)
    limit = LARGEST_SHARE * sum(sizes.values())
    chosen: set[str] = set()
    taken = 0
    for name in queue:
        if len(chosen) < wanted and taken + sizes[name] <= limit:
            chosen.add(name)
            taken += sizes[name]
    if not chosen:
        chosen = {min(queue, key=lambda name: sizes[name])}
    return Split(
        [document for document in documents if group(document) not in chosen],
        [document for document in documents if group(document) in chosen],
        note,
    )


def _cut(text: str, fraction: float) -> tuple[str, str]:
    """Cuts off the last part, after a paragraph's end close before the point, else a line's or a word's."""
    point = round(len(text) * (1 - fraction))
    for mark in ("\n\n", "\n", " "):
        position = text.rfind(mark, max(0, point - 4096), point)
        if position > 0:
            return text[: position + len(mark)], text[position + len(mark) :]
    return text[:point], text[point:]
