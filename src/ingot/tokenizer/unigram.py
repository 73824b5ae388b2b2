"""Unigram: every piece has a probability; a text becomes the pieces whose product is largest.

Kudo 2018 (arXiv 1804.10959); the same model as in SentencePiece and T5. Training starts from many candidates
and alternates: estimate how often each is used (EM over all segmentations), and drop those that the text
misses least. Encoding is a shortest path (Viterbi); because the model gives probabilities, a text can also be
cut at random in proportion to them (subword regularisation), which makes a trained model robust.

Ties: among segmentations of equal probability, up to some place in the text, the one whose last piece is the
longest wins, as in SentencePiece and `tokenizers`. Sums are made in 64-bit floating point, from left to
right; SentencePiece makes them in 32 bits, so where two segmentations differ by less than that, it may choose
the other.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import digamma

from ingot.errors import ArtifactError, ConfigError, DataError
from ingot.progress import Task
from ingot.tokenizer import seeds
from ingot.tokenizer.lattice import Reals

if TYPE_CHECKING:
    from numpy.random import Generator

Edge = tuple[int, int, float]  # where a piece ends, its id, its score

LONGEST_PIECE = 16
SEEDS = 1_000_000
COVERAGE = 0.9995
"""SentencePiece's defaults."""

UNKNOWN_PENALTY = 10.0
"""How much worse than the worst piece an unknown character is, as in SentencePiece."""

_ROUNDS = 2  # of EM before each pruning
_SHRINK = 0.75  # of the candidates stay at each pruning
_SPARE = 1.1  # times the vocabulary are left for the final choice
_FEWEST = 0.5  # uses below which a candidate is dropped (a character: is counted so)
_UNKNOWN = -1  # the id of an edge over an unknown character


def train(
    pieces: Mapping[str, int],
    vocabulary: int,
    task: Task | None = None,
    *,
    candidates: int = SEEDS,
    longest: int = LONGEST_PIECE,
    coverage: float = COVERAGE,
) -> list[tuple[str, float]]:
    """Learns pieces and their log-probabilities from counted words.

    No piece crosses the words' borders. Kudo 2018, section 3.2: candidates by frequency times length; EM
    with the posterior mean under a sparse prior (digamma) as SentencePiece does; dropping by loss, where a
    piece's loss is how much log-likelihood goes when its places are left to the other segmentations.

    Args:
        pieces: word -> how often it occurs, with whatever marks its blanks.
        vocabulary: pieces to learn; few words may give fewer. Control tokens come on top.
        task: is told of each pruning, as a share of 1.
        candidates: to begin with at most.
        longest: characters that a piece may have at most.
        coverage: share of the text's characters that must be pieces; the others will be unknown.

    Returns:
        Text and log-probability of every piece, likeliest first; all characters covered are among them.

    Raises:
        ConfigError: the characters alone are more than the vocabulary.

    Example:
        >>> [text for text, _ in train({"hug": 10, "pug": 5, "hugs": 5}, vocabulary=6)]
        ['hug', 'g', 'u', 'p', 's', 'h']
    """
    task = task or Task()
    found = seeds.find(pieces, candidates, longest, coverage)
    texts = np.array(found.texts, dtype=object)
    fixed = np.arange(len(texts)) < found.characters  # characters are never dropped
    if found.characters > vocabulary:
        what = f"{vocabulary} pieces are fewer than the {found.characters} characters of the text"
        raise ConfigError(what, where="tokenizer.vocabulary", fix="ask for more, or lower the coverage")
    scores: Reals = np.log(found.frequencies / max(1, found.frequencies.sum()))
    lattices = found.lattices
    wanted = int(vocabulary * _SPARE)
    begun = max(len(texts), 1)
    while True:
        for _ in range(_ROUNDS):
            counts = lattices.expect(scores).counts
            kept = fixed | (counts >= _FEWEST)
            if not kept.all():
                lattices.keep(kept)
                texts, fixed, counts = texts[kept], fixed[kept], counts[kept]
            counts = np.maximum(counts, _FEWEST)
            scores = digamma(counts) - digamma(counts.sum())
        if len(texts) <= wanted:
            break
        losses = lattices.expect(scores).losses
        kept = _best(np.where(fixed, np.inf, losses), max(wanted, int(len(texts) * _SHRINK)))
        lattices.keep(kept)
        texts, fixed, scores = texts[kept], fixed[kept], scores[kept]
        task.at(math.log(begun / len(texts)) / max(math.log(begun / wanted), 1e-9) if begun > wanted else 1.0)
    kept = _best(np.where(fixed, np.inf, scores), vocabulary)
    order = np.argsort(-scores[kept], kind="stable")
    task.at(1.0)
    return [(str(texts[kept][index]), float(scores[kept][index])) for index in order]


def _best(values: Reals, number: int) -> np.ndarray:
    """Marks the largest values; among equals the first."""
    kept = np.zeros(len(values), bool)
    kept[np.argsort(-values, kind="stable")[:number]] = True
    return kept


class Unigram:
    """Pieces with log-probabilities, which encode text.

    Args:
        pieces: text and log-probability by id.
        unknown_id: the id for characters that are no piece; None refuses them.
        byte_fallback: an unknown character becomes the pieces `<0x00>` to `<0xFF>` of its bytes.
        hidden: ids that no text becomes: control tokens, bytes. The unknown one always is.
        given: ids of pieces that someone asked for, whatever their score (SentencePiece's user-defined): each
            counts as much as its bytes would if each were the likeliest piece.

    Raises:
        ArtifactError: an id that there is not, or bytes missing for the fallback.

    Example:
        >>> Unigram([("<unk>", 0.0), ("a", -2.0), ("b", -2.0), ("ab", -3.0)]).encode("aab")
        [1, 3]
    """

    def __init__(
        self,
        pieces: Sequence[tuple[str, float]],
        unknown_id: int | None = 0,
        *,
        byte_fallback: bool = False,
        hidden: Collection[int] = (),
        given: Collection[int] = (),
    ) -> None:
        self.pieces = list(pieces)
        self.unknown_id = unknown_id
        asked = {*hidden, *given, *(() if unknown_id is None else (unknown_id,))}
        if wrong := [token for token in asked if not 0 <= token < len(self.pieces)]:
            what = f"there is no piece {wrong[0]}"
            raise ArtifactError(what, where="unigram model", fix=f"ids go up to {len(self.pieces) - 1}")
        self._bytes = self._byte_ids() if byte_fallback else None
        out = {*hidden, *(() if unknown_id is None else (unknown_id,)), *(self._bytes or ())}
        scores = [score for token, (_, score) in enumerate(self.pieces) if token not in out]
        best = max(scores, default=0.0)
        self._unknown_score = min(scores, default=0.0) - UNKNOWN_PENALTY
        self._known: dict[str, tuple[int, float]] = {}
        for token, (text, score) in enumerate(self.pieces):
            if token not in out and text:
                size = len(text.encode("utf-8", errors="surrogatepass"))
                self._known.setdefault(text, (token, size * best - 0.1 if token in given else score))
        self._reach: dict[str, int] = {}  # characters of the longest piece, by its first
        for text in self._known:
            self._reach[text[0]] = max(len(text), self._reach.get(text[0], 0))

    def _byte_ids(self) -> list[int]:
        ids = {text: token for token, (text, _) in enumerate(self.pieces)}
        try:
            return [ids[f"<0x{byte:02X}>"] for byte in range(256)]
        except KeyError as missing:
            what = f"there is no piece {missing}, so bytes cannot stand in for unknown characters"
            raise ArtifactError(what, where="unigram model", fix="make the tokenizer again") from None

    def encode(self, text: str) -> list[int]:
        """Returns the ids of the likeliest segmentation.

        Unknown characters in a row become one unknown id, or each the ids of its bytes.

        Raises:
            DataError: an unknown character, where there is no id for it.
        """
        size = len(text)
        best = [0.0] * (size + 1)
        back: list[tuple[int, int] | None] = [None] * (size + 1)  # the last edge: its start and piece
        for start in range(size):
            so_far = best[start]
            for end, token, score in self._edges(text, start):
                if back[end] is None or so_far + score > best[end]:
                    best[end] = so_far + score
                    back[end] = (start, token)
        path: list[tuple[int, int]] = []
        end = size
        while end > 0:
            edge = back[end]
            assert edge is not None  # an edge over one character always is there
            path.append(edge)
            end = edge[0]
        return self._ids(text, path[::-1])

    def nbest(self, text: str, number: int) -> list[tuple[list[int], float]]:
        """Returns the likeliest segmentations, best first, with their log-probabilities.

        Args:
            text: what to encode.
            number: how many; there may be fewer.

        Raises:
            DataError: an unknown character, where there is no id for it.
        """
        size = len(text)
        ways: list[list[tuple[float, int, int, int]]] = [
            [] for _ in range(size + 1)
        ]  # score, start, rank, id
        ways[0] = [(0.0, -1, 0, _UNKNOWN)]
        for start in range(size):
            ways[start] = heapq.nlargest(number, ways[start], key=lambda way: way[0])
            for end, token, score in self._edges(text, start):
                ways[end] += [(way[0] + score, start, rank, token) for rank, way in enumerate(ways[start])]
        found = []
        for way in heapq.nlargest(number, ways[size], key=lambda way: way[0]):
            path, (score, start, rank, token) = [], way
            while start >= 0:
                path.append((start, token))
                _, start, rank, token = ways[start][rank]
            found.append((self._ids(text, path[::-1]), score))
        return found

    def sample(self, text: str, random: Generator, alpha: float = 1.0) -> list[int]:
        """Returns the ids of a segmentation drawn at random.

        Subword regularisation (Kudo 2018, section 3.1): each with probability in proportion to P^alpha. All
        segmentations take part: forward filtering, backward sampling.

        Args:
            text: what to encode.
            random: the source of chance; the same state gives the same segmentation.
            alpha: 1 draws from the model's distribution, 0 from all segmentations alike; larger is closer to
                `encode`.

        Raises:
            DataError: an unknown character, where there is no id for it.
        """
        size = len(text)
        into: list[list[tuple[int, int, float]]] = [[] for _ in range(size + 1)]  # start, id, log of the ways
        for start in range(size):
            ways = _log_sum([way for _, _, way in into[start]]) if start else 0.0  # of all ways here
            for end, token, score in self._edges(text, start):
                into[end].append((start, token, ways + alpha * score))
        path = []
        end = size
        while end > 0:
            logs = [way for _, _, way in into[end]]
            total = _log_sum(logs)
            chances = itertools.accumulate(math.exp(way - total) for way in logs)
            drawn = bisect.bisect(list(chances), random.random())
            start, token, _ = into[end][min(drawn, len(logs) - 1)]
            path.append((start, token))
            end = start
        return self._ids(text, path[::-1])

    def _edges(self, text: str, start: int) -> list[Edge]:
        """The pieces that stand at a place; an unknown one if the character is none by itself."""
        known = self._known
        furthest = min(len(text), start + self._reach.get(text[start], 1))
        edges = [
            (end, *found)
            for end in range(start + 1, furthest + 1)
            if (found := known.get(text[start:end])) is not None
        ]
        if not edges or edges[0][0] != start + 1:
            edges.append((start + 1, _UNKNOWN, self._unknown_score))
        return edges

    def _ids(self, text: str, path: Sequence[tuple[int, int]]) -> list[int]:
        """The ids of a path of (start, piece)."""
        ids: list[int] = []
        unknown_before = False
        for start, token in path:
            if token != _UNKNOWN:
                ids.append(token)
            elif self._bytes is not None:
                ids += [self._bytes[byte] for byte in text[start].encode("utf-8", errors="replace")]
            elif self.unknown_id is None:
                what = f"the character {text[start]!r} is no piece"
                raise DataError(what, where="unigram model", fix="give the model an unknown token, or bytes")
            elif not unknown_before:
                ids.append(self.unknown_id)
            unknown_before = token == _UNKNOWN
        return ids


def _log_sum(logs: Sequence[float]) -> float:
    """The logarithm of a sum, from logarithms."""
    most = max(logs)
    return most + math.log(sum(math.exp(log - most) for log in logs))
