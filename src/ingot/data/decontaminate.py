"""Decontamination: training text that holds evaluation items is found, so that scores measure and not recall.

Texts are compared as bare words: lower case, no punctuation, no accents. Digits stay, for a question with
other numbers is another one. A text is contaminated where it holds

- any 13 words in a row of an item, prompt and answer read as one text (13: Brown et al. 2020, appendix C);
- or the whole of a prompt, an answer or both together, of fewer than 13 words, if that is long enough to
  mean something: at least 8 words and 24 characters, or 40 characters.

Hashes only say where to look: the words themselves are compared, so that a collision contaminates nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingot.data.dedup.filter import Filter
from ingot.data.dedup.rolling import PIECE, Hashes, Places, Sums, windows
from ingot.data.dedup.words import Words, batches, joined, normal, words

NGRAM = 13
SHORT_WORDS, SHORT_CHARACTERS = 8, 24
"""A text shorter than an n-gram counts as a whole from so many words and so many characters on,"""
ENOUGH_CHARACTERS = 40
"""or from so many characters on."""


class Item(NamedTuple):
    """One item of an evaluation set; several right answers are several items."""

    prompt: str
    answer: str = ""


@dataclass(frozen=True)
class Overlap:
    """What a text has in common with an evaluation item.

    Args:
        set: name of the evaluation set.
        item: the item's number in it.
        ngram: the first words found, normalised.
        share: of the item's n-grams that stand in the text; 1.0 where a short one was found whole.
    """

    set: str
    item: int
    ngram: str
    share: float


class _Probe(NamedTuple):
    """A sequence of words to look for: n-grams of it, or all of it."""

    set: int
    item: int
    data: bytes  # words with one blank between


class _Batch(NamedTuple):
    """Some texts as one."""

    data: bytes
    words: Words
    first: Places  # of each text, its first word
    last: Places  # and the one after its last


class _Keys(NamedTuple):
    """What to look for with windows of one width."""

    hashes: Hashes  # [n], sorted
    probes: NDArray[np.uint32]  # [n]
    offsets: NDArray[np.uint32]  # [n], in words
    filter: Filter


class Contamination:
    """Evaluation items, ready to be looked for. It can be pickled, for worker processes.

    A hash takes 20 bytes or so, an item as many hashes as it has words. `of` makes one from evaluation sets.

    Args:
        names: of the sets.
        probes: the word sequences to look for.
        ngram: words in a row that are too many to be chance.

    Example:
        >>> known = Contamination.of({"riddles": [Item("What has keys but cannot open a single lock?")]})
        >>> known.find("He asked: WHAT HAS KEYS, but cannot open a single lock?").set
        'riddles'
    """

    def __init__(self, names: tuple[str, ...], probes: tuple[_Probe, ...], ngram: int) -> None:
        self.names, self.ngram = names, ngram
        self._probes = probes
        self._keys = _keys_by_width(probes, ngram)

    @classmethod
    def of(cls, sets: Mapping[str, Iterable[Item]], ngram: int = NGRAM) -> Contamination:
        """Prepares evaluation sets.

        Args:
            sets: items by the name of their set.
            ngram: words in a row that are too many to be chance.
        """
        probes: list[_Probe] = []
        for number, items in enumerate(sets.values()):
            for index, item in enumerate(items):
                probes += [_Probe(number, index, data) for data in _sequences(item, ngram)]
        return cls(tuple(sets), tuple(probes), ngram)

    def __len__(self) -> int:
        """How many hashes are looked for."""
        return sum(len(keys.hashes) for keys in self._keys.values())

    def find(self, text: str) -> Overlap | None:
        """Returns the first overlap of a text with an item, or None. Many short texts: see `find_all`."""
        return self.find_all([text])[0]

    def find_all(self, texts: Iterable[str]) -> list[Overlap | None]:
        """Returns the first overlap of each text with an item, or None: n-grams before short items.

        Texts are taken together, up to a size: for short ones this is several times as fast.
        """
        found: list[Overlap | None] = []
        for batch in batches(texts, numbers="kept"):
            found += self._search(_Batch(*joined(batch)))
        return found

    def _search(self, batch: _Batch) -> list[Overlap | None]:
        found: list[Overlap | None] = [None] * len(batch.first)
        for start in range(0, len(batch.words.hashes), PIECE):
            sums = Sums(batch.words.hashes[start : start + PIECE + max(self._keys, default=1) - 1])
            for width, keys in self._keys.items():
                hashes = sums.windows(width)
                possible = keys.filter.possible(hashes)
                low = np.searchsorted(keys.hashes, hashes[possible])
                high = np.searchsorted(keys.hashes, hashes[possible], side="right")
                met = high > low
                place = possible[met] + start
                text = np.searchsorted(batch.last, place, side="right")
                for match in zip(
                    text.tolist(), place.tolist(), low[met].tolist(), high[met].tolist(), strict=True
                ):
                    if found[match[0]] is None:
                        found[match[0]] = self._compare(batch, keys, *match)
        return found

    def _compare(
        self, batch: _Batch, keys: _Keys, text: int, place: int, low: int, high: int
    ) -> Overlap | None:
        """The overlap of a text's words from `place` on with one of the keys' sequences, if equal."""
        for key in range(low, high):
            probe, offset = self._probes[keys.probes[key]], int(keys.offsets[key])
            wanted = probe.data.split(b" ")
            length = min(self.ngram, len(wanted))
            if place + length > batch.last[text]:
                continue
            here = batch.data[batch.words.starts[place] : batch.words.ends[place + length - 1]].split()
            if here != wanted[offset : offset + length]:
                continue
            share = 1.0
            if len(wanted) >= self.ngram:
                its = windows(words(probe.data).hashes, self.ngram)
                mine = batch.words.hashes[batch.first[text] : batch.last[text]]
                share = float(np.isin(its, windows(mine, self.ngram)).mean())
            shown = b" ".join(here).decode("utf-8", "replace")
            return Overlap(self.names[probe.set], probe.item, shown, share)
        return None


def _sequences(item: Item, ngram: int) -> Iterator[bytes]:
    """The word sequences of an item to look for, each once."""
    parts = [normal(part, numbers="kept").split() for part in (item.prompt, item.answer)]
    whole = parts[0] + parts[1]
    if len(whole) >= ngram:
        yield b" ".join(whole)
    else:
        parts.append(whole)
    for part in dict.fromkeys(tuple(part) for part in parts):
        data = b" ".join(part)
        if len(part) < ngram and _meaningful(part, data):
            yield data


def _meaningful(part: tuple[bytes, ...], data: bytes) -> bool:
    characters = len(data.decode("utf-8", "replace"))
    return characters >= ENOUGH_CHARACTERS or (len(part) >= SHORT_WORDS and characters >= SHORT_CHARACTERS)


def _keys_by_width(probes: tuple[_Probe, ...], ngram: int) -> dict[int, _Keys]:
    """Keys by window width, the widest first; a short probe is found by its first words."""
    hashes: dict[int, list[Hashes]] = {}
    owners: dict[int, list[int]] = {}
    for number, probe in enumerate(probes):
        known = words(probe.data).hashes
        width = ngram if len(known) >= ngram else min(SHORT_WORDS, len(known))
        found = windows(known, width)
        hashes.setdefault(width, []).append(found if width == ngram else found[:1])
        owners.setdefault(width, []).append(number)
    return {width: _merge(hashes[width], owners[width], width == ngram) for width in sorted(hashes)[::-1]}


def _merge(hashes: list[Hashes], owners: list[int], whole: bool) -> _Keys:
    """All hashes of one width, sorted. Where the window is the `whole` of what is compared, the first of
    equal ones will do: another item with the same words finds nothing more."""
    counts = np.array([len(one) for one in hashes])
    offsets: Places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    probes = np.repeat(np.array(owners), counts)
    joined = np.concatenate(hashes)
    order = np.unique(joined, return_index=True)[1] if whole else np.argsort(joined, kind="stable")
    fast = Filter(len(order))
    fast.add(joined[order])
    return _Keys(joined[order], probes[order].astype(np.uint32), offsets[order].astype(np.uint32), fast)
