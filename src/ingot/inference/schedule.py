"""The schedule: who runs in the next pass, with how many tokens, and who gives way when pages run out.

```
add -> waiting --admit--> running: reads its prompt in chunks, then one token a pass --leave--> (finished)
          ^                  |
          '---- preempt -----'   no page left: the lowest and youngest goes back, to be read again later
```

Tokens of answers go first, prompts share what is left of a pass's budget (Agrawal et al. 2024, Sarathi-Serve,
arXiv 2403.02310, section 4.2), so that a long prompt slows the answers of others but never stops them. What
a preempted request has said stands: it comes back with its answer so far as part of its prompt.
"""

from __future__ import annotations

import bisect
from array import array
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from ingot.inference.computing.pages import PAGE, Pages, pages_for
from ingot.inference.prefixes import Prefixes
from ingot.inference.request import Request

PATIENCE = 1000
"""A request waits for at most so many later ones per step of priority: none waits for ever."""


PromptKey = tuple[str | None, tuple[int, ...]]
"""Adapter and tokens."""


@dataclass(eq=False)
class Entry:
    """A request in the schedule.

    Args:
        request: what was asked.
        rank: lower goes first.
        tokens: of prompt and answer.
    """

    request: Request
    rank: tuple[int, int]
    tokens: list[int]
    stored: int = 0  # of the tokens, in the cache
    table: array[int] = field(default_factory=lambda: array("i"))  # its pages
    names: list[bytes] = field(default_factory=list)  # of its full pages
    named: int = 0  # pages that were given their names
    gone: int = 0  # pages given back because no window reaches them
    leader: Entry | None = None  # who reads the same prompt for it
    twins: list[Entry] = field(default_factory=list)  # for whom it reads
    guesses: list[int] = field(default_factory=list)  # of the next tokens, to be verified by the next pass
    most: int | None = None  # of its tokens in one pass
    key: PromptKey | None = None  # while it reads a prompt that others may share

    @property
    def adapter(self) -> str | None:
        """Of the request."""
        return self.request.adapter


class Piece(NamedTuple):
    """What an entry does in a pass: its next `length` tokens are computed, and its guesses after them."""

    entry: Entry
    length: int


class Schedule:
    """Decides pass by pass.

    Args:
        pages: that requests are given.
        prefixes: names of pages.
        slots: requests that run at once.
        chunk: tokens that a pass has at most, where answers leave room for prompts.
        window: tokens that every layer sees at most, or None where one sees all.
    """

    def __init__(
        self, pages: Pages, prefixes: Prefixes, slots: int, chunk: int, window: int | None = None
    ) -> None:
        self.pages = pages
        self.prefixes = prefixes
        self.slots = slots
        self.chunk = chunk
        self.window = window
        self.waiting: list[Entry] = []  # by rank
        self.running: list[Entry] = []
        self.preemptions = 0
        self._order = 0
        self._reading: dict[PromptKey, Entry] = {}  # whose prompt others may share
        self._coming: dict[bytes, Entry] = {}  # pages that are being computed

    def add(self, request: Request) -> Entry:
        """Queues a request."""
        self._order += 1
        rank = (self._order + request.priority * PATIENCE, self._order)
        entry = Entry(request, rank, list(request.prompt))
        self._queue(entry)
        return entry

    def plan(self) -> list[Piece]:
        """Returns the pieces of the next pass, pages in hand: one token each first, then prompts by rank."""
        if self.waiting and len(self.running) < self.slots:
            self._admit()
        self._grow()
        pieces: list[Piece] = []
        reading: list[Entry] = []
        for entry in self.running:
            if entry.leader is not None:
                continue
            if len(entry.tokens) - entry.stored == 1:
                pieces.append(Piece(entry, 1))
            else:
                reading.append(entry)
        if reading:
            left = max(self.chunk - len(pieces), PAGE)
            for entry in sorted(reading, key=lambda entry: entry.rank):
                count = min(len(entry.tokens) - entry.stored, left, entry.most or left)
                pieces.append(Piece(entry, count))
                left -= count
                if not left:
                    break
        return pieces

    def computed(self, entry: Entry, count: int) -> None:
        """Notes that `count` more tokens of an entry are in the cache."""
        entry.stored += count
        if entry.stored // PAGE > entry.named:
            self._name(entry)
        if self.window is not None:
            self._drop_unseen(entry)
        if entry.key is not None and entry.stored == len(entry.tokens):
            self._read(entry)

    def fork(self, entry: Entry) -> list[Entry]:
        """Gives those who share an entry's prompt, which is read now, pages of their own; returns them."""
        twins, entry.twins = entry.twins, []
        full, rest = divmod(entry.stored, PAGE)
        own = [twin.table[0] for twin in twins]
        if rest:
            self.pages.copy(entry.table[full], own)
        for twin, last in zip(twins, own, strict=True):
            shared = entry.table[:full]
            for page in shared[entry.gone :]:
                self.pages.share(page)
            twin.table = shared + array("i", [last])
            twin.leader = None
            twin.stored, twin.gone, twin.named = entry.stored, entry.gone, entry.named
            twin.names = list(entry.names)
            self._count(twin)
        return twins

    def leave(self, entry: Entry) -> None:
        """Takes an entry out, wherever it is; its pages are free for others."""
        if entry in self.running:
            self._stop(entry)
        else:
            self.waiting.remove(entry)

    def forget(self) -> None:
        """Says that the weights changed: no page is found again, and nobody shares what was read before."""
        self.prefixes.forget()
        self._reading.clear()
        self._coming.clear()
        for entry in self.waiting:
            entry.names.clear()

    def _queue(self, entry: Entry) -> None:
        bisect.insort(self.waiting, entry, key=lambda entry: entry.rank)

    def _read(self, entry: Entry) -> None:
        """Says that nobody can join an entry any more in reading its prompt."""
        if entry.key is not None and self._reading.get(entry.key) is entry:
            del self._reading[entry.key]
        entry.key = None

    def _admit(self) -> None:
        """Lets waiting entries run, by rank, while there are slots and pages."""
        for entry in list(islice(self.waiting, 2 * self.slots)):
            if len(self.running) == self.slots:
                return
            alone = entry.request.sampling.prompt_logprobs  # every place of its prompt is computed
            key = entry.adapter, tuple(entry.tokens)
            leader = None if alone else self._reading.get(key)
            found: list[int] = []
            if leader is None and not alone:
                count = (len(entry.tokens) - 1) // PAGE  # at least one token is computed
                self.prefixes.extend(entry.names, entry.tokens, entry.adapter, count)
                found = self.prefixes.found(entry.names[:count])
                if len(found) < count and entry.names[len(found)] in self._coming:
                    continue  # somebody is computing its next page
            if not self._make_room(entry, 1 if leader else pages_for(len(entry.tokens)), found):
                return
            if leader is not None and leader not in self.running:
                continue  # it has just made room for this one, which reads for itself next time
            self.waiting.remove(entry)
            self.running.append(entry)
            if leader is not None:
                entry.leader = leader
                leader.twins.append(entry)
                entry.table.append(self.pages.take())
                continue
            self._begin(entry, found)
            if not alone:
                entry.key = key
                self._reading[key] = entry

    def _begin(self, entry: Entry, found: list[int]) -> None:
        """Gives an entry the pages of all its tokens, those already computed among them."""
        entry.table.extend(self.pages.share(page) for page in found)
        while len(entry.table) < pages_for(len(entry.tokens)):
            entry.table.append(self.pages.take())
        entry.stored = len(found) * PAGE
        entry.named = len(found)
        for name in entry.names[len(found) :]:
            self._coming[name] = entry
        self._count(entry)

    def _count(self, entry: Entry) -> None:
        """Counts what of an entry's text need not be computed, now that it begins."""
        self.prefixes.queries += len(entry.tokens)
        self.prefixes.hits += entry.stored
        if not entry.request.started:  # after a preemption it finds what it has computed itself
            entry.request.cached = entry.stored

    def _make_room(self, entry: Entry, needed: int, found: list[int]) -> bool:
        """Returns whether there are pages for an entry; preempts those of lower priority if that helps."""

        def missing() -> int:
            idle = sum(not self.pages.readers(page) for page in found)
            # Those who run will soon need a page more each: to admit would be to preempt.
            return needed - len(found) + len(self.running) - (self.pages.available - idle)

        if missing() <= 0:
            return True
        lower = [
            other
            for other in self.running
            if other.request.priority > entry.request.priority and other.rank > entry.rank
        ]
        theirs = sum(self._exclusive(other) + 1 for other in lower)
        if theirs < missing():
            return False
        for other in sorted(lower, key=lambda other: other.rank, reverse=True):
            if missing() <= 0:
                break
            if other in self.running:
                self._preempt(other)
        return missing() <= 0

    def _exclusive(self, entry: Entry) -> int:
        return sum(self.pages.readers(page) == 1 for page in entry.table[entry.gone :])

    def _grow(self) -> None:
        """Gives everybody the pages that the next tokens need, by rank; the last may lose theirs by it."""
        short = [
            entry
            for entry in self.running
            if entry.leader is None and len(entry.tokens) + len(entry.guesses) > len(entry.table) * PAGE
        ]
        if not short:
            return
        for entry in sorted(short, key=lambda entry: entry.rank):
            while entry in self.running and (
                len(entry.tokens) + len(entry.guesses) > len(entry.table) * PAGE
            ):
                if self.pages.available:
                    entry.table.append(self.pages.take())
                elif entry.guesses:
                    entry.guesses = []
                else:
                    self._preempt(max(self.running, key=lambda other: other.rank))

    def _preempt(self, entry: Entry) -> None:
        self.preemptions += 1
        self._stop(entry)
        self._queue(entry)

    def _stop(self, entry: Entry) -> None:
        """Takes an entry out of those running; who waited for what it reads starts anew."""
        self.running.remove(entry)
        if entry.leader is not None:
            entry.leader.twins.remove(entry)
            entry.leader = None
        self.pages.release(entry.table[entry.gone :])
        self._read(entry)
        for name in entry.names[entry.named :]:
            if self._coming.get(name) is entry:
                del self._coming[name]
        entry.table = array("i")
        entry.names = []
        entry.guesses = []
        entry.stored = entry.named = entry.gone = 0
        for twin in list(entry.twins):
            self._stop(twin)
            self._queue(twin)

    def _name(self, entry: Entry) -> None:
        """Names the pages that have become full."""
        full = entry.stored // PAGE
        self.prefixes.extend(entry.names, entry.tokens, entry.adapter, full)
        for i in range(entry.named, full):
            self.pages.name(entry.table[i], entry.names[i])
            if self._coming.get(entry.names[i]) is entry:
                del self._coming[entry.names[i]]
        entry.named = full

    def _drop_unseen(self, entry: Entry) -> None:
        """Gives back the pages that no token to come can see."""
        assert self.window is not None
        unseen = max(0, entry.stored - self.window + 1) // PAGE
        if unseen > entry.gone:
            self.pages.release(entry.table[entry.gone : unseen])
            for i in range(entry.gone, unseen):
                entry.table[i] = 0
            entry.gone = unseen
