"""Byte-pair encoding: merge the most frequent pair of neighbouring tokens, again and again.

Gage 1994; Sennrich, Haddow and Birch 2016 (arXiv 1508.07909); on bytes as in GPT-2, or on characters as in
LLaMA, where bytes stand in for characters that the alphabet lacks. `words` holds the corpus and does the
merging; here is only which pair comes next, and when to stop.

Among pairs that are equally frequent the one with the smallest ids wins, left before right. Ids count
through the alphabet first (bytes in the order of their printable characters, characters by code point) and
then through the merges. This is the rule of the `tokenizers` library, so the merges are those of its
trainer, one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ingot.progress import Task
from ingot.tokenizer.alphabet import byte_words, character_words, choose_alphabet
from ingot.tokenizer.bytes import BYTE_ORDER
from ingot.tokenizer.words import Pair, Words

MIN_FREQUENCY = 2
"""A pair that occurs once is no pattern: training stops there, even short of the number asked."""


def train(
    pieces: Mapping[str, int],
    merges: int,
    task: Task | None = None,
    *,
    min_frequency: int = MIN_FREQUENCY,
    max_token_length: int | None = None,
) -> list[Pair]:
    """Learns merges of bytes from counted pieces.

    Args:
        pieces: text piece -> how often it occurs.
        merges: how many merges to learn at most.
        task: is told of every merge.
        min_frequency: pairs that are rarer are not merged.
        max_token_length: bytes that a token may have at most; None for any number.

    Returns:
        Pairs of token ids; merge i makes token 256 + i. Fewer than asked where no pair is left that occurs
        often enough.

    Example:
        >>> train({"aaa": 3}, merges=2)    # "a" is id 64: aa, then aa+a
        [(64, 64), (256, 64)]
    """
    words = byte_words(pieces, min_frequency)
    return learn(words, [1] * len(BYTE_ORDER), merges, task, max_token_length)


@dataclass(frozen=True)
class CharacterMerges:
    """What training on characters gives.

    Args:
        alphabet: characters by id.
        merges: pairs of ids; merge i makes token len(alphabet) + i.
    """

    alphabet: tuple[str, ...]
    merges: list[Pair]

    def tokens(self) -> list[str]:
        """The text of every token, by id."""
        texts = list(self.alphabet)
        for left, right in self.merges:
            texts.append(texts[left] + texts[right])
        return texts


def train_characters(
    pieces: Mapping[str, int],
    merges: int,
    task: Task | None = None,
    *,
    min_frequency: int = MIN_FREQUENCY,
    max_token_length: int | None = None,
    initial_alphabet: Iterable[str] = (),
    limit_alphabet: int | None = None,
) -> CharacterMerges:
    """Learns an alphabet and merges of its characters from counted pieces.

    A character outside the alphabet parts the piece that it stands in: no token reaches across it.

    Args:
        pieces: text piece -> how often it occurs.
        merges: how many merges to learn at most.
        task: is told of every merge.
        min_frequency: pairs that are rarer are not merged.
        max_token_length: characters that a token may have at most; None for any number.
        initial_alphabet: characters to have even if they do not occur.
        limit_alphabet: characters to have at most, the most frequent ones; None for all that occur.

    Example:
        >>> train_characters({"naïve": 5, "ïve": 1}, merges=2).tokens()
        ['a', 'e', 'n', 'v', 'ï', 've', 'ïve']
    """
    alphabet = choose_alphabet(pieces, initial_alphabet, limit_alphabet)
    words = character_words(pieces, alphabet, min_frequency)
    learned = learn(words, [1] * len(alphabet), merges, task, max_token_length)
    return CharacterMerges(tuple(alphabet), learned)


def learn(
    words: Words, lengths: Sequence[int], merges: int, task: Task | None, max_token_length: int | None
) -> list[Pair]:
    """Merges the best pair until there are enough merges, or no pair is left.

    Args:
        words: the corpus; is merged.
        lengths: length of every symbol of the alphabet, in the unit of `max_token_length`.
        merges: how many to learn at most.
        task: is told of every merge.
        max_token_length: what a token may have at most, or None.
    """
    task = task or Task()
    lengths = list(lengths)
    learned: list[Pair] = []
    while len(learned) < merges and (best := words.best()):
        _, pair = best
        length = lengths[pair[0]] + lengths[pair[1]]
        if max_token_length is not None and length > max_token_length:
            words.forget(pair)
            continue
        words.merge(pair, len(lengths))
        lengths.append(length)
        learned.append(pair)
        task.advance()
    return learned
