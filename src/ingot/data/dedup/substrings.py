"""Long repeated substrings: a passage that stands in two documents stays in the first (Lee et al. 2022).

    earlier text   |.block.|.block.|.block.|.block.|        one hash for each block of length / 2
    this text      a window of that size slides over every character, and meets a block

Whatever is `length` characters long holds a whole block of its earlier copy, so no copy escapes; each meeting
is then compared character by character with the earlier text, so no hash collision cuts anything. What is
left of a corpus holds no piece of `length` characters twice, but for what stands on the far side of a cut, or
where more than `CANDIDATES` earlier passages share the block.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from pydantic import Field

from ingot.config import Config
from ingot.data.dedup.cut import Span, cut
from ingot.data.dedup.rolling import PIECE, Hashes, Places, windows
from ingot.data.dedup.runs import Runs
from ingot.data.document import Document, Dropped
from ingot.data.permutation import mix

REASON = "repeated passage"
CANDIDATES = 8
"""Earlier passages, at most, that one block is compared with: the first ones."""

_BLOCK_BITS = 28  # of a place: the block's number; the rest is the text's
_REMEMBERED = 2**24  # characters of earlier texts that are kept at hand
_EDGE = 32  # characters that a cut gives up at most, to fall between words; less of short ones


class SubstringsConfig(Config):
    """Which repeated passages go.

    Args:
        length: characters from which on a passage is cut; about 50 tokens are 200 to 250 characters.
    """

    length: int = Field(default=400, ge=16)

    def build(self, text_of: Callable[[int], str]) -> Substrings:
        """Returns the memory of what has been seen, empty."""
        return Substrings(self, text_of)


class Substrings:
    """Remembers one hash per half `length` of each text, in order: of two passages, the earlier stays.

    With its place a hash takes 18 bytes: 9 % of the text at a length of 400 characters.

    Args:
        config: which passages go.
        text_of: returns an earlier text by its number, just as it was given.
    """

    def __init__(self, config: SubstringsConfig, text_of: Callable[[int], str]) -> None:
        self.config = config
        self._block = (config.length + 1) // 2
        self._text_of = text_of
        self._places = Runs()
        self._remembered: OrderedDict[int, str] = OrderedDict()
        self._size = 0

    def drop(self, index: int, document: Document) -> tuple[Document, list[Dropped]]:
        """Takes out of a document what stood in an earlier one or further up, and remembers the rest.

        Args:
            index: its number, for `text_of`; numbers ascend.
            document: any.

        Returns:
            The document, its text shorter or even empty, and one entry for each passage that went.
        """
        spans = self.repeated(index, document.text)
        return cut(document, spans, REASON, self.config.length)

    def repeated(self, index: int, text: str) -> list[Span]:
        """Finds the repeated passages of a text, in order and apart, and remembers the rest of it."""
        block = self._block
        if len(text) < block:
            return []
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        step = max(1, PIECE // block) * block  # pieces begin where blocks do
        here = Runs()  # of this text's own blocks, as far as they are passed
        own: list[Hashes] = []
        spans: list[Span] = []
        for start in range(0, len(codes) - block + 1, step):
            hashes = mix(windows(codes[start : start + step + block - 1], block))
            blocks = np.arange(start, start + len(hashes), block)
            own.append(hashes[::block])
            here.add(own[-1], blocks.astype(np.uint64))
            self._scan(index, text, start, hashes, here, spans)
        kept = _kept(sum(map(len, own)), block, spans)
        places = np.uint64(index << _BLOCK_BITS) + kept.astype(np.uint64)
        self._places.add(np.concatenate(own)[kept], places)
        return spans

    def _scan(self, index: int, text: str, start: int, hashes: Hashes, here: Runs, spans: list[Span]) -> None:
        """Adds the repeats that one piece of the text shows."""
        met, places = self._places.find(hashes, CANDIDATES)
        again, blocks = here.find(hashes, CANDIDATES)
        past = again + start >= blocks.astype(np.int64) + self._block
        again, blocks = again[past], blocks[past]
        at = np.concatenate((met, again)) + start
        other = np.concatenate((places >> np.uint64(_BLOCK_BITS), np.full(len(again), index, np.uint64)))
        number = places & np.uint64(2**_BLOCK_BITS - 1)
        begin = np.concatenate((number * np.uint64(self._block), blocks))
        order = np.argsort(at, kind="stable")
        at, other, begin = at[order], other[order], begin[order]
        turn = 0
        while turn < len(at):
            if spans and at[turn] < spans[-1].end:
                turn = int(np.searchsorted(at, spans[-1].end))  # the cut holds all that is met before
                continue
            earlier = int(other[turn])
            source = text if earlier == index else self._earlier(earlier)
            span = self._match(text, int(at[turn]), source, int(begin[turn]))
            turn += 1
            if span is None:
                continue
            if spans and span.start <= spans[-1].end:
                span = Span(spans.pop().start, span.end)
            spans.append(self._between_words(text, span))

    def _match(self, text: str, at: int, source: str, begin: int) -> Span | None:
        """The longest common passage around two places, if it is long enough."""
        most = len(text) - at
        after = _common(
            lambda n: text[at : at + n] == source[begin : begin + n], min(most, len(source) - begin)
        )
        before = _common(lambda n: text[at - n : at] == source[begin - n : begin], min(at, begin))
        if before + after < self.config.length:
            return None
        return Span(at - before, at + after)

    def _earlier(self, index: int) -> str:
        text = self._remembered.get(index)
        if text is None:
            text = self._remembered[index] = self._text_of(index)
            self._size += len(text)
            while self._size > _REMEMBERED and len(self._remembered) > 1:
                self._size -= len(self._remembered.popitem(last=False)[1])
        self._remembered.move_to_end(index)
        return text

    def _between_words(self, text: str, span: Span) -> Span:
        """The span without the broken words at its ends, where blanks are near."""
        start, end = span.start, span.end
        edge = min(_EDGE, self.config.length // 8)
        if start > 0 and not text[start - 1].isspace():
            near = range(start, min(start + edge, end))
            start = next((place for place in near if text[place - 1].isspace()), start)
        if end < len(text) and not text[end].isspace():
            near = range(end, max(end - edge, start), -1)
            end = next((place for place in near if text[place - 1].isspace()), end)
        return Span(start, end) if start < end else span


def _common(equal: Callable[[int], bool], most: int) -> int:
    """The largest n up to `most` where two texts are equal over n characters: by doubling, then halving."""
    low, step = 0, 64
    while low < most and equal(min(low + step, most)):
        low = min(low + step, most)
        step *= 2
    high = min(low + step, most)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if equal(middle) else (low, middle - 1)
    return low


def _kept(count: int, block: int, spans: list[Span]) -> Places:
    """The numbers of the blocks that are not all cut away."""
    kept = np.ones(count, dtype=bool)
    for span in spans:
        kept[-(-span.start // block) : span.end // block] = False
    return np.flatnonzero(kept)
