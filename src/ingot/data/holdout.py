"""Holding out: which documents are for evaluation only.

Whole files are held out, so that no file is on both sides. A keyed hash of its path puts each file at a
fixed place in a queue, and the front of the queue is held out: the same file is on the same side in every
run, whatever the seed. A corpus of one file is split by its documents, and a single text is cut once: its
last part is held out.

Only names and sizes are needed, so `sides` decides for corpora larger than memory; `hold_out` does the same
for documents that are there.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ingot.data.document import Document

LARGEST_SHARE = 0.25
"""A file that would bring the held-out bytes above this share of the corpus is passed over."""

_NEAR = 4096  # characters before the point of a cut in which a better place is looked for


@dataclasses.dataclass(frozen=True)
class Split:
    """Both sides of a corpus, and a sentence where files could not decide."""

    train: list[Document]
    heldout: list[Document]
    note: str | None = None


@dataclasses.dataclass(frozen=True)
class Sides:
    """On which side each document is.

    Args:
        heldout: [n] bool.
        note: a sentence where files could not decide.
        single: the corpus is one document, which is to be cut (`cut`): its head is trained on.
    """

    heldout: NDArray[np.bool_]
    note: str | None = None
    single: bool = False


def sides(
    sources: NDArray[np.integer],
    names: Sequence[str],
    sizes: NDArray[np.integer],
    ids: Callable[[], Iterable[str]],
    fraction: float,
) -> Sides:
    """Decides which documents are held out.

    Args:
        sources: [n], the source of each document as an index into `names`; at least one document.
        names: of the sources; ones without a document are left alone.
        sizes: [n], bytes of each document.
        ids: gives the n ids; asked only where the corpus is one source.
        fraction: of the files (documents where there is one file, bytes where there is one document) to
            hold out; at least one.

    Example:
        >>> sides(np.array([0, 1, 1]), ["a", "b"], np.array([5, 2, 2]), list, 0.1).heldout.tolist()
        [False, True, True]
    """
    used, inverse = np.unique(sources, return_inverse=True)
    if len(used) > 1:
        group_sizes = np.bincount(inverse, weights=sizes, minlength=len(used)).astype(np.int64)
        return Sides(_front([names[index] for index in used], group_sizes, fraction)[inverse])
    name = names[int(used[0])]
    if len(sources) == 1:
        return Sides(np.zeros(1, dtype=bool), single=True)
    note = f"The corpus is one file, {name}: its documents were split, not files."
    return Sides(_front(ids(), np.asarray(sizes, dtype=np.int64), fraction), note)


def hold_out(documents: Sequence[Document], fraction: float) -> Split:
    """Splits a corpus that is in memory.

    Args:
        documents: at least one.
        fraction: as in `sides`.
    """
    numbers: dict[str, int] = {}
    sources = np.array([numbers.setdefault(one.source, len(numbers)) for one in documents])
    sizes = np.array([len(one.text.encode("utf-8")) for one in documents])
    decided = sides(sources, list(numbers), sizes, lambda: (one.id for one in documents), fraction)
    if decided.single:
        head, tail, note = halves(documents[0], fraction)
        return Split([head], [tail], note)
    pairs = list(zip(documents, decided.heldout.tolist(), strict=True))
    train, heldout = ([one for one, held in pairs if held is side] for side in (False, True))
    return Split(train, heldout, decided.note)


def halves(document: Document, fraction: float) -> tuple[Document, Document, str]:
    """Cuts a single document: what is trained on, what is held out, and a sentence that says so."""
    head, tail = cut(document.text, fraction)
    size = len(tail.encode("utf-8"))
    note = f"The corpus is one text, {document.source}: its last {size:,} bytes are held out."
    return (
        dataclasses.replace(document, id=f"{document.id}#head", text=head),
        dataclasses.replace(document, id=f"{document.id}#tail", text=tail),
        note,
    )


def place(name: str, purpose: str) -> bytes:
    """Returns where a name stands in the queue for a purpose: the same on every machine."""
    return hashlib.blake2b(name.encode("utf-8"), key=purpose.encode("utf-8"), digest_size=16).digest()


def sample(documents: Sequence[Document], count: int) -> list[Document]:
    """Returns `count` documents, the same ones each time, in the order given."""
    return [documents[index] for index in sampled((one.id for one in documents), count).tolist()]


def sampled(ids: Iterable[str], count: int) -> NDArray[np.int64]:
    """Returns which documents make up a sample: the indexes of `count` ids, ascending."""
    return np.sort(_queue(ids, "sample")[:count])


def cut(text: str, fraction: float) -> tuple[str, str]:
    """Cuts off the last part, after a paragraph's end close before the point, else a line's or a word's."""
    point = round(len(text) * (1 - fraction))
    for mark in ("\n\n", "\n", " "):
        position = text.rfind(mark, max(0, point - _NEAR), point)
        if position > 0:
            return text[: position + len(mark)], text[position + len(mark) :]
    return text[:point], text[point:]


def _queue(names: Iterable[str], purpose: str) -> NDArray[np.int64]:
    """The indexes of names in the order of their places."""
    places = np.frombuffer(b"".join(place(name, purpose) for name in names), dtype=">u8").reshape(-1, 2)
    return np.lexsort((places[:, 1], places[:, 0]))


def _front(names: Iterable[str], sizes: NDArray[np.int64], fraction: float) -> NDArray[np.bool_]:
    """Which names are held out, [n] bool."""
    queue = _queue(names, "held out")
    wanted = min(max(1, round(fraction * len(queue))), len(queue) - 1)
    limit = LARGEST_SHARE * int(sizes.sum())
    held = np.zeros(len(queue), dtype=bool)
    taken = count = 0
    for index in queue.tolist():
        if count == wanted:
            break
        if taken + int(sizes[index]) <= limit:
            held[index] = True
            taken += int(sizes[index])
            count += 1
    if count == 0:
        held[queue[np.argmin(sizes[queue])]] = True
    return held
