"""Near-duplicates: texts that share most of their shingles with an earlier one that stays.

MinHash signatures (Broder 1997) make similar texts likely to agree in a band, and locality-sensitive hashing
(Indyk and Motwani 1998) compares only those that do. A shared band is just a hint: each pair is checked by
its true Jaccard similarity, so that no text is lost to a hash collision.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingot.data.dedup.buckets import Buckets, forget
from ingot.data.dedup.exact import Duplicate
from ingot.data.dedup.minhash import MinHash, permutations, rows_per_band, smallest
from ingot.data.dedup.rolling import Hashes
from ingot.data.dedup.shingles import WordHashes, jaccard, shingles
from ingot.errors import ConfigError
from ingot.progress import Task

PERMUTATIONS = 128
MISSED = 1e-3
"""The chance, at most, that a pair right at the threshold shares no band and so goes unseen."""

_DOUBT = 5  # standard deviations that a signature's estimate is given before a pair is left unread
_CACHED = 2**26  # bytes of shingles that are kept at hand
_FORGET = 64  # texts after which mapped pages are let go: the system maps 16 for each that is touched


def near_duplicates(
    texts: Sequence[str], threshold: float, seed: int = 0, task: Task | None = None
) -> list[Duplicate]:
    """Finds texts whose similarity to an earlier text that stays is at least the threshold, in memory.

    The bands are chosen by the threshold, so that no more than `MISSED` of pairs right at it go unseen.

    Args:
        texts: in order of preference: of two, the earlier stays.
        threshold: Jaccard similarity of their word 5-grams, signs included, above 0.
        seed: of the hash functions.
        task: is told of every text.

    Returns:
        One entry per text to drop, with the most similar text that stays among those compared.
    """
    task = task or Task()
    multipliers, shifts = permutations(PERMUTATIONS, seed)
    rows = rows_per_band(threshold, PERMUTATIONS, MISSED)
    word_hashes = WordHashes()
    kept: dict[int, Hashes] = {}
    bands: list[defaultdict[bytes, list[int]]] = [defaultdict(list) for _ in range(PERMUTATIONS // rows)]
    found: list[Duplicate] = []
    for index, text in enumerate(texts):
        grams = shingles(text, word_hashes)
        task.advance()
        if len(grams) == 0:
            continue
        signature = smallest(grams, np.zeros(1, dtype=np.int64), multipliers, shifts)[0]
        keys = [signature[i * rows : (i + 1) * rows].tobytes() for i in range(len(bands))]
        candidates = {one for band, key in zip(bands, keys, strict=True) for one in band.get(key, ())}
        scored = [(jaccard(grams, kept[one]), -one) for one in candidates]
        similarity, original = max(scored, default=(0.0, 0))
        if similarity >= threshold:
            found.append(Duplicate(index, -original, similarity))
            continue
        kept[index] = grams
        for band, key in zip(bands, keys, strict=True):
            band[key].append(index)
    return found


def near_duplicates_of(
    signatures: NDArray[np.unsignedinteger],
    text_of: Callable[[int], str],
    threshold: float,
    bands: int | None = 14,
    task: Task | None = None,
    *,
    shingles_of: Callable[[str], Hashes] | None = None,
    folder: Path | None = None,
) -> list[Duplicate]:
    """Finds near-duplicates in a corpus larger than memory, by signatures that were made before.

    Texts are judged in order. One is compared with the texts before it that stay and share a band: of each
    bucket, the first `buckets.REPRESENTATIVES`. Pairs whose signatures speak plainly against the threshold
    (by five standard deviations) are not read; the others are, and only the true similarity decides.

    Args:
        signatures: [n, size], an array or a memmap, as `MinHash.signatures` makes them.
        text_of: returns a text by its row; it is asked in no order, of some of them, rarely twice.
        threshold: Jaccard similarity from which on a text is dropped, above 0.
        bands: that the signatures are cut into; 14 is FineWeb's, which sees 92 % of pairs at 0.8 and all but
            1 % at 0.85. None takes as many as it needs to miss at most `MISSED` of pairs at the threshold.
        task: is told of every text twice: once grouped, and once judged.
        shingles_of: the sorted set of hashed grams of a text, as the `shingles` of the `MinHash` that made
            the signatures; None is that of `MinHash()`. Others than the signatures' would miss pairs.
        folder: for working files, up to 17 bytes for each text and band; None is the system's.

    Returns:
        One entry per text to drop, with the most similar text that stays among those compared.

    Raises:
        ConfigError: a threshold or a number of bands that cannot be used.
    """
    size = signatures.shape[1]
    where = "near duplicates"
    if not 0 < threshold <= 1:
        raise ConfigError(f"the threshold is {threshold}", where=where, fix="use one above 0, up to 1")
    if bands is not None and not 1 <= bands <= size:
        raise ConfigError(f"{bands} bands of {size} numbers", where=where, fix=f"use 1 to {size} bands")
    rows = rows_per_band(threshold, size, MISSED) if bands is None else size // bands
    task = task or Task()
    buckets = Buckets(signatures, size // rows if bands is None else bands, rows, folder, task)
    grams = _Shingles(text_of, shingles_of or MinHash().shingles)
    # An estimate from `size` numbers has this deviation at the threshold; a thousandth is for rounding.
    doubtful = threshold - _DOUBT * (threshold * (1 - threshold) / size) ** 0.5 - 1e-3
    found: list[Duplicate] = []
    judged = 0
    for turn, (index, its_bands, places) in enumerate(buckets.texts()):
        if turn % _FORGET == 0:
            forget(signatures)
            buckets.forget()
        task.advance(index - judged)
        judged = index
        candidates = buckets.representatives(its_bands, places)
        if candidates:
            alike = (signatures[candidates] == signatures[index]).mean(axis=1)
            candidates = np.array(candidates)[alike >= doubtful].tolist()
        scored = [(jaccard(grams[index], grams[one]), -one) for one in candidates]
        similarity, original = max(scored, default=(0.0, 0))
        if similarity >= threshold:
            found.append(Duplicate(index, -original, similarity))
        else:
            buckets.stays(index, its_bands, places)
    task.advance(len(signatures) - judged)
    return found


class _Shingles:
    """The shingles of texts by number; those asked for last are kept, up to `_CACHED` bytes."""

    def __init__(self, text_of: Callable[[int], str], shingles_of: Callable[[str], Hashes]) -> None:
        self._text_of, self._shingles_of = text_of, shingles_of
        self._known: OrderedDict[int, Hashes] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, index: int) -> Hashes:
        known = self._known.get(index)
        if known is None:
            known = self._known[index] = self._shingles_of(self._text_of(index))
            self._bytes += known.nbytes
            while self._bytes > _CACHED and len(self._known) > 1:
                self._bytes -= self._known.popitem(last=False)[1].nbytes
        else:
            self._known.move_to_end(index)
        return known
