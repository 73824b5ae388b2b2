"""Parity-aware training: each merge goes to the language that is compressed worst.

Foroutan et al. 2025 (arXiv 2508.04796). Byte-pair encoding takes the pair that is most frequent in all text,
and so serves the languages with most text: the others pay with more tokens for the same content. Here each
merge is the most frequent pair of one language, the one whose text takes the most tokens at that point, and
is then made everywhere.

How well a language fares is measured on development text: tokens per unit, where the unit is one that means
the same in all languages. Sentences of a parallel text are best; without one, characters have to do.

Two variants of the paper are at hand. The hybrid learns its first merges in the usual way, from all text.
A window keeps a language that merges no longer help from taking them all: a language that has had more than
twice its even share of the last merges is passed over.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from ingot.errors import DataError
from ingot.progress import Task
from ingot.tokenizer.alphabet import byte_words
from ingot.tokenizer.bpe import MIN_FREQUENCY
from ingot.tokenizer.bpe import train as plain
from ingot.tokenizer.bytes import BYTE_ORDER
from ingot.tokenizer.words import Pair, Words

_SHARE = 2  # times its even share that a language may have of the window


@dataclass(frozen=True)
class Language:
    """What is known of a language.

    Args:
        pieces: text piece -> how often it occurs in the training text.
        development: the same for the text that is judged by; the training text if None.
        units: of the development text: its sentences if it is parallel, else its characters. The number of
            its characters if None.
    """

    pieces: Mapping[str, int]
    development: Mapping[str, int] | None = None
    units: float | None = None


@dataclass(frozen=True)
class FairMerges:
    """What parity-aware training gives.

    Args:
        merges: pairs of ids; merge i makes token 256 + i.
        chosen: the language whose pair each merge is; "" for those learned from all text.
        cost: language -> tokens per unit of its development text in the end.
    """

    merges: list[Pair]
    chosen: list[str]
    cost: dict[str, float]


def train(
    languages: Mapping[str, Language],
    merges: int,
    task: Task | None = None,
    *,
    min_frequency: int = MIN_FREQUENCY,
    from_all: int = 0,
    window: int | None = None,
) -> FairMerges:
    """Learns merges of bytes that treat languages alike.

    Args:
        languages: name -> its counted pieces.
        merges: how many to learn at most.
        task: is told of every merge.
        min_frequency: pairs that are rarer in their language are not merged.
        from_all: merges to learn from all text first, in the usual way (the hybrid variant).
        window: merges that are looked back on; None for no limit to how often a language may be chosen.

    Raises:
        DataError: no language, or one without text to judge by.

    Example:
        >>> fair = train({"a": Language({"aaaa": 9}), "b": Language({"bbb": 3})}, merges=2)
        >>> fair.chosen
        ['a', 'b']
    """
    task = task or Task()
    corpora = {name: byte_words(language.pieces, min_frequency) for name, language in languages.items()}
    judged = {name: _Judged.of(name, language) for name, language in languages.items()}
    if not judged:
        raise DataError("there is no language", where="parity-aware training", fix="give two or more")
    learned: list[Pair] = []
    chosen: list[str] = []
    recent: deque[str] = deque(maxlen=window)
    allowed = None if window is None else _SHARE * window / len(languages)

    def merge(pair: Pair, language: str) -> None:
        for words in (*corpora.values(), *(language.words for language in judged.values())):
            words.merge(pair, len(BYTE_ORDER) + len(learned))
        learned.append(pair)
        chosen.append(language)
        task.advance()

    for pair in _from_all(languages, min(from_all, merges), min_frequency):
        merge(pair, "")
    while len(learned) < merges:
        worst_first = sorted(judged, key=lambda name: (-judged[name].cost, name))
        if allowed is not None:  # the others come first
            worst_first.sort(key=lambda name: recent.count(name) >= allowed)
        found = next(((name, best[1]) for name in worst_first if (best := corpora[name].best())), None)
        if found is None:
            break
        name, pair = found
        merge(pair, name)
        recent.append(name)
    return FairMerges(learned, chosen, {name: language.cost for name, language in judged.items()})


def _from_all(languages: Mapping[str, Language], merges: int, min_frequency: int) -> list[Pair]:
    """The merges of the usual training, on the text of all languages."""
    if not merges:
        return []
    pieces: Counter[str] = Counter()
    for language in languages.values():
        pieces.update(language.pieces)
    return plain(pieces, merges, min_frequency=min_frequency)


@dataclass
class _Judged:
    """The development text of a language under merging.

    Args:
        words: its pieces.
        single: tokens that are pieces of one byte, which never change.
        units: that its tokens are divided by.
    """

    words: Words
    single: int
    units: float

    @classmethod
    def of(cls, name: str, language: Language) -> _Judged:
        """Prepares the text.

        Raises:
            DataError: there is none.
        """
        pieces = language.pieces if language.development is None else language.development
        units = language.units or sum(len(piece) * count for piece, count in pieces.items())
        if not units:
            what = f"there is no text to judge '{name}' by"
            raise DataError(what, where="parity-aware training", fix="give it some text, or leave it out")
        single = sum(count for piece, count in pieces.items() if len(piece) == 1 and piece.isascii())
        return cls(byte_words(pieces, least=sys.maxsize), single, units)

    @property
    def cost(self) -> float:
        """Tokens per unit."""
        return (self.words.size + self.single) / self.units
