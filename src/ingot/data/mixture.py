"""Mixtures: which source each row of a batch comes from, and which of its samples, by the step alone.

```
share of source k at step t        w_k(t), piecewise linear, all shares together 1
wanted of it before step t         C_k(t) = batch * integral of w_k from 0 to t
its j-th sample falls due          when C_k reaches j + u_k          (u_k in [0, 1), drawn by the seed)
rows of the run                    all sources' samples in the order in which they fall due
```

So after any number of rows a source has given what its shares ask for, but for a sample or two for each
source: proportions are exact by construction, not on average as with independent draws. How many samples
each source gave before a row is computed from its number, so nothing is remembered and nothing replayed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from ingot.config import Config
from ingot.data.course import course
from ingot.data.permutation import permute
from ingot.data.stream import WHOLE, Part, Samples, Span, salted_key
from ingot.data.tokens import Tokens
from ingot.errors import DataError

OTHERS = "others"
"""Name of the source of all documents that no other name fits."""


class Knot(Config):
    """The weights that hold at one step of a curriculum.

    Args:
        step: counted from 0.
        weights: by source; those of other sources are 0.
    """

    step: int = Field(ge=0)
    weights: dict[str, float]

    @field_validator("weights")
    @classmethod
    def _weigh(cls, weights: dict[str, float]) -> dict[str, float]:
        return _checked(weights)


class MixtureConfig(Config):
    """How the sources of a corpus are mixed in training.

    A name is a source of the documents, or a folder that their sources are in; `others` are all documents
    that no name fits.

    Args:
        weights: by source; null is its size in tokens, so that all null is the corpus as it is, and 0 leaves
            a source out. Shares are proportional to them.
        temperature: flattens the weights: a share is proportional to weight ^ (1 / temperature). 1 leaves
            them, 5 is usual for languages, and infinity makes all equal.
        epochs: by source, how often its text may be seen at most; the others then take its share.
        curriculum: weights at some steps, linear between them and constant outside; they take the place of
            `weights`, which then only name the sources.
    """

    weights: dict[str, float | None] = Field(min_length=1)
    temperature: float = Field(default=1.0, gt=0)
    epochs: dict[str, float] = Field(default_factory=dict)
    curriculum: tuple[Knot, ...] = ()

    @field_validator("weights")
    @classmethod
    def _weigh(cls, weights: dict[str, float | None]) -> dict[str, float | None]:
        _checked({name: 1.0 if weight is None else weight for name, weight in weights.items()})
        return weights

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        named = [("epochs", self.epochs), *(("curriculum", knot.weights) for knot in self.curriculum)]
        for key, names in named:
            for name in names:
                if name not in self.weights:
                    raise ValueError(f"{key} names '{name}', which is not among the weights")
        if any(most <= 0 for most in self.epochs.values()):
            raise ValueError("a source may be seen more than 0 times; leave it out by weight 0")
        steps = [knot.step for knot in self.curriculum]
        if steps != sorted(set(steps)):
            raise ValueError(f"the steps of a curriculum must ascend, not {steps}")
        return self

    def shares(self, sizes: Mapping[str, int]) -> tuple[list[int], NDArray[np.float64]]:
        """Returns the steps of the knots, and the share of each source at each of them, [knots, sources].

        Args:
            sizes: tokens by source.
        """
        plain = {name: sizes[name] if weight is None else weight for name, weight in self.weights.items()}
        rows = [knot.weights for knot in self.curriculum] or [plain]
        weights = np.array([[float(row.get(name, 0.0)) for name in self.weights] for row in rows])
        flat = np.where(weights > 0, (weights / weights.max()) ** (1 / self.temperature), 0.0)
        flat = flat.round(12)  # powers differ in their last bits from machine to machine
        return [knot.step for knot in self.curriculum] or [0], flat / flat.sum(1, keepdims=True)


def _checked(weights: dict[str, float]) -> dict[str, float]:
    if not all(0 <= weight < float("inf") for weight in weights.values()) or not any(weights.values()):
        raise ValueError("weights are 0 or more, and not all of them 0")
    return weights


def groups(tokens: Tokens, names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Returns the documents of each source, by their places on disk.

    Args:
        tokens: with the origins of their documents.
        names: of the sources: a document belongs to the longest name that is its source, or a folder that
            its source is in; else to `others`.

    Raises:
        DataError: the origins are not known, a name fits no document, or documents fit no name.
    """
    if tokens.origins is None:
        fix = "run the tokenizer stage again"
        raise DataError("these shards do not say where documents come from", where="mixture", fix=fix)
    longest = sorted((name for name in names if name != OTHERS), key=len, reverse=True)
    number = {name: index for index, name in enumerate(names)}
    known: dict[str, int] = {}
    found = np.empty(len(tokens.origins), np.int32)
    at = 0
    for some in tokens.origins.column("source"):
        for source in some:
            if source not in known:
                fits = (
                    name for name in longest if source == name or source.startswith(name.rstrip("/") + "/")
                )
                known[source] = number.get(next(fits, OTHERS), -1)
            found[at] = known[source]
            at += 1
    if (found < 0).any():
        left = int(np.flatnonzero(found < 0)[0])
        what = f"{int((found < 0).sum()):,} documents fit no name, such as {tokens.origins[left].source}"
        raise DataError(what, where="mixture.weights", fix=f"give '{OTHERS}' a weight (0 leaves them out)")
    by_name = {name: np.flatnonzero(found == index) for name, index in number.items()}
    for name, documents in by_name.items():
        if len(documents) == 0 and name != OTHERS:
            what = f"no document's source is '{name}' or in a folder of this name"
            raise DataError(what, where="mixture.weights", fix="`ingot data inspect` lists the sources")
    return by_name


class Source(NamedTuple):
    """One source of a mixture.

    Args:
        name: of it.
        samples: its rows.
        epochs: how often it may be seen at most, or None.
    """

    name: str
    samples: Samples
    epochs: float | None = None


class MixedStream:
    """Batches of rows from several sources.

    Args:
        sources: what is mixed; their rows must have the same shapes.
        steps: of the knots, ascending.
        shares: [knots, sources], each row sums to 1: linear between knots, constant outside.
        batch_size: rows of a step.
        seed: of the order in a batch, and of when each source begins.

    Its methods raise a `DataError` for steps at which all sources that have a share are used up.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        steps: Sequence[int],
        shares: NDArray[np.float64],
        batch_size: int,
        seed: int,
    ) -> None:
        self.sources, self.batch_size, self.seed = list(sources), batch_size, seed
        most = [float("inf") if s.epochs is None else int(s.epochs * s.samples.per_epoch) for s in sources]
        self._most = np.array(most, dtype=np.float64)
        self._course = course(steps, shares * batch_size, self._most)
        self._begin: dict[int, NDArray[np.float64]] = {}
        self._known: dict[tuple[int, int], NDArray[np.int64]] = {}
        parts = [f"mixed {batch_size} {seed} {list(steps)} {shares.tolist()} {self._most.tolist()}"]
        parts += [f"{source.name} {source.samples.fingerprint}" for source in sources]
        self.fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> dict[str, Tensor]:
        """Returns the rows of a step, those of the sources mixed.

        Returns:
            What the sources give; sample_ids [b] int64 are `id * sources + source`.
        """
        chosen, samples = self._rows(step, salt)
        chosen, samples = chosen[part.rank :: part.ranks], samples[part.rank :: part.ranks]
        places, rows = [], []
        for number in np.unique(chosen).tolist():
            places.append(np.flatnonzero(chosen == number))
            rows.append(self.sources[number].samples.take(samples[places[-1]], salt))
            rows[-1]["sample_ids"] = rows[-1]["sample_ids"] * len(self.sources) + number
        if not rows:
            rows, places = [self.sources[0].samples.take(samples, salt)], [samples]
        order = torch.from_numpy(np.argsort(np.concatenate(places), kind="stable"))
        return {name: torch.cat([row[name] for row in rows])[order] for name in rows[0]}

    def sample_ids(self, step: int, salt: int = 0) -> Tensor:
        """Returns the ids of the whole batch of a step, [b] int64."""
        chosen, samples = self._rows(step, salt)
        ids = np.empty_like(samples)
        for number in np.unique(chosen).tolist():
            here = chosen == number
            ids[here] = self.sources[number].samples.ids(samples[here], salt) * len(self.sources) + number
        return torch.from_numpy(ids)

    def documents_of(self, sample_id: int, salt: int = 0) -> list[int]:
        """Returns the documents of a sample, by their places on disk."""
        return [span.document for span in self.spans_of(sample_id, salt)]

    def spans_of(self, sample_id: int, salt: int = 0) -> list[Span]:
        """Returns which tokens of which documents a sample holds; see `Samples`."""
        inner, number = divmod(sample_id, len(self.sources))
        return self.sources[number].samples.spans_of(inner, salt)

    def counts(self, rows: int, salt: int = 0) -> NDArray[np.int64]:
        """Returns how many of the first rows of a run each source gives, [sources]; they sum to `rows`.

        Raises:
            DataError: all sources are used up before.
        """
        known = self._known.get((rows, salt))
        if known is None:
            known = self._count(rows, salt)
            self._known = dict([*list(self._known.items())[-3:], ((rows, salt), known)])
        return known

    def _count(self, rows: int, salt: int) -> NDArray[np.int64]:
        """The samples that fall due first: the last moment before there are enough, then by source."""
        begin = self._begin.setdefault(salt, self._phases(salt))

        def due(moment: float) -> NDArray[np.int64]:
            wanted = np.floor(self._course.wanted(moment) + begin)
            return np.minimum(wanted, self._most).astype(np.int64)

        if rows == 0:
            return np.zeros(len(self.sources), np.int64)
        few = len(self.sources) + 1
        early, late = max(0.0, (rows - few) / self.batch_size), (rows + few) / self.batch_size
        while due(early).sum() >= rows:
            early = max(0.0, early - few)
        while due(late).sum() < rows:
            if late > self._course.end:
                what = f"the sources that have a share are used up after {int(due(late).sum()):,} rows"
                raise DataError(what, where="mixture.epochs", fix="allow more epochs, or train fewer steps")
            late += few + late / 8
        while True:
            middle = early + (late - early) / 2
            if not early < middle < late:
                return _cut(due(early), due(late), rows)
            early, late = (early, middle) if due(middle).sum() >= rows else (middle, late)

    def _phases(self, salt: int) -> NDArray[np.float64]:
        keys = [salted_key(salt, self.seed, number, 2) for number in range(len(self.sources))]
        return np.array([(one >> 11) * 2.0**-53 for one in keys])

    def _rows(self, step: int, salt: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Source and sample of each row of a step."""
        first, size = step * self.batch_size, self.batch_size
        before, after = self.counts(first, salt), self.counts(first + size, salt)
        chosen = np.repeat(np.arange(len(before)), after - before)
        samples = np.concatenate([np.arange(a, b) for a, b in zip(before, after, strict=True)])
        order = permute(np.arange(size), size, salted_key(salt, self.seed, step, 3))
        return chosen[order], samples[order]


def _cut(least: NDArray[np.int64], most: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Those between two counts that come first by source, so that there are `rows` in all."""
    counts, missing = least.copy(), rows - int(least.sum())
    for number, more in enumerate((most - least).tolist()):
        counts[number] += min(more, missing)
        missing -= min(more, missing)
    return counts


def mix_sources(
    config: MixtureConfig,
    tokens: Tokens,
    make: Callable[[NDArray[np.int64]], Samples],
    batch_size: int,
    seed: int,
) -> MixedStream:
    """Returns the mixture of the sources of a corpus.

    Args:
        config: weights by source.
        tokens: of all sources, with the origins of their documents.
        make: makes the samples of some documents.
        batch_size: rows of a step.
        seed: of the mixture's order.

    Raises:
        DataError: names and documents do not fit one another, or a source is too small for a row.
    """
    documents = groups(tokens, list(config.weights))
    lengths = np.diff(tokens.offsets)
    sizes = {name: int(lengths[places].sum()) for name, places in documents.items()}
    steps, shares = config.shares(sizes)
    wanted = [number for number, name in enumerate(config.weights) if shares[:, number].any()]
    names = list(config.weights)
    sources = []
    for number in wanted:
        name = names[number]
        try:
            samples = make(documents[name])
        except DataError as error:
            raise DataError(error.what, where=f"mixture source '{name}'", fix=error.fix) from None
        sources.append(Source(name, samples, config.epochs.get(name)))
    return MixedStream(sources, steps, shares[:, wanted], batch_size, seed)
