"""How well a tokenizer fits a text: how short the text becomes, how evenly it uses the vocabulary, and what
other languages pay for the same content."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ingot.errors import DataError

RENYI_ORDER = 2.5
"""The order at which the efficiency agrees best with translation quality (Zouhar et al. 2023, section 5)."""

_words = re.compile(r"\S+")


class Encodes(Protocol):
    """What can be measured: anything that encodes text."""

    @property
    def vocab_size(self) -> int:
        """Ids in all."""
        ...

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text."""
        ...


@dataclass(frozen=True)
class Fit:
    """What encoding a text gave.

    Args:
        bytes: of the text in UTF-8.
        tokens: ids that it became, without BOS.
        used: how many different ids.
        words: runs of characters between blanks.
        vocabulary: ids that the tokenizer has.
        frequencies: how often each id came up, most frequent first.
    """

    bytes: int
    tokens: int
    used: int
    words: int = 0
    vocabulary: int = 0
    frequencies: tuple[int, ...] = field(default=(), repr=False)

    @property
    def bytes_per_token(self) -> float:
        """Bytes that one token stands for, on average; 0 for no text."""
        return self.bytes / self.tokens if self.tokens else 0.0

    @property
    def fertility(self) -> float:
        """Tokens per word; 0 for no text. For scripts without blanks it says nothing."""
        return self.tokens / self.words if self.words else 0.0

    @property
    def usage(self) -> float:
        """The share of the vocabulary that the text uses."""
        return self.used / self.vocabulary if self.vocabulary else 0.0

    @property
    def renyi_efficiency(self) -> float:
        """`renyi_efficiency` of the frequencies, at order 2.5."""
        return renyi_efficiency(self.frequencies, self.vocabulary)


def measure(tokenizer: Encodes, texts: Iterable[str]) -> Fit:
    """Encodes texts and counts.

    Example:
        >>> fit = measure(Tokenizer([]), ["four"])
        >>> fit.bytes, fit.tokens, fit.used, fit.fertility
        (4, 4, 4, 4.0)
    """
    size = words = 0
    counts: Counter[int] = Counter()
    for text in texts:
        size += len(text.encode("utf-8", errors="surrogatepass"))
        words += sum(1 for _ in _words.finditer(text))
        counts.update(tokenizer.encode(text))
    frequencies = tuple(sorted(counts.values(), reverse=True))
    return Fit(size, counts.total(), len(counts), words, tokenizer.vocab_size, frequencies)


def renyi_efficiency(frequencies: Iterable[int], vocabulary: int, order: float = RENYI_ORDER) -> float:
    """Returns how evenly ids are used: Renyi entropy by that of a uniform use of the vocabulary.

    Zouhar et al. 2023 (arXiv 2306.16842), equation 8: H_a = log(sum p_i^a) / (1 - a), divided by log V.
    1 is even use; frequent ids that crowd the others out bring it down.

    Args:
        frequencies: how often each id occurs.
        vocabulary: how many ids there are.
        order: a > 0; at 1 it is Shannon's entropy.

    Example:
        >>> renyi_efficiency([5, 5, 5, 5], vocabulary=4)
        1.0
    """
    counts = [count for count in frequencies if count]
    if vocabulary < 2 or not counts:
        return 0.0
    total = sum(counts)
    if order == 1:
        entropy = -sum(count / total * math.log(count / total) for count in counts)
    else:
        entropy = math.log(sum((count / total) ** order for count in counts)) / (1 - order)
    return entropy / math.log(vocabulary)


@dataclass(frozen=True)
class Premiums:
    """What languages pay in tokens for the same content, by the one they are compared with.

    Args:
        base: the language compared with.
        by_language: language -> times the tokens of the base.
    """

    base: str
    by_language: Mapping[str, float]

    @property
    def median(self) -> float:
        """What half of the languages do not exceed."""
        return statistics.median(self.by_language.values())

    @property
    def p90(self) -> float:
        """What nine of ten languages do not exceed, interpolated between two."""
        ordered = sorted(self.by_language.values())
        place = 0.9 * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    @property
    def max(self) -> float:
        """What the language that pays most pays."""
        return max(self.by_language.values())

    @property
    def spread(self) -> float:
        """The most by the least."""
        return self.max / min(self.by_language.values())


def premiums(costs: Mapping[str, float], base: str | None = None) -> Premiums:
    """Compares what languages cost.

    Args:
        costs: language -> tokens per unit of content: a parallel sentence, or a character.
        base: the language to compare with; the cheapest if None.

    Raises:
        DataError: no language, an unknown base, or a cost that is not positive.

    Example:
        >>> premiums({"en": 20.0, "hi": 50.0}, base="en").max
        2.5
    """
    if not costs or min(costs.values()) <= 0:
        what = f"tokens per unit must be positive, not {dict(costs)}"
        raise DataError(what, where="premium by language", fix="give every language some text")
    if base is None:
        base = min(costs, key=lambda name: (costs[name], name))
    if base not in costs:
        fix = "name one of " + ", ".join(sorted(costs))
        raise DataError(f"there is no text of '{base}'", where="premium by language", fix=fix)
    return Premiums(base, {name: cost / costs[base] for name, cost in costs.items()})


def parallel_costs(tokenizer: Encodes, texts: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Returns the tokens per sentence of a parallel text in each language.

    Petrov et al. 2023 (arXiv 2305.15425), section 3: the premium is the ratio of these.

    Args:
        tokenizer: encodes.
        texts: language -> the same sentences in it.

    Raises:
        DataError: languages have different numbers of sentences.
    """
    numbers = {name: len(sentences) for name, sentences in texts.items()}
    if len(set(numbers.values())) > 1:
        what = f"the languages have different numbers of sentences: {numbers}"
        raise DataError(what, where="parallel text", fix="give each sentence in all languages")
    return {
        name: sum(len(tokenizer.encode(sentence)) for sentence in sentences) / max(1, len(sentences))
        for name, sentences in texts.items()
    }


def characters_costs(tokenizer: Encodes, texts: Mapping[str, Iterable[str]]) -> dict[str, float]:
    """Returns the tokens per character of each language, where there is no parallel text.

    Args:
        tokenizer: encodes.
        texts: language -> any texts in it.
    """
    costs = {}
    for name, parts in texts.items():
        characters = tokens = 0
        for text in parts:
            characters += len(text)
            tokens += len(tokenizer.encode(text))
        costs[name] = tokens / characters if characters else 0.0
    return costs
