"""A score on held-out items, beside simple baselines on the same items, with the doubt about both.

```
score = sum(right) / sum(counts)        interval: Wilson where each item is right or wrong, else bootstrap
difference to a baseline: paired, over the same items; for right or wrong also McNemar's exact test
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ingot.evaluate.statistics import Interval, ratio_interval, wilson

BLOCKS = 1000
"""Items that the bootstrap draws from; of more, neighbours are drawn together."""


@dataclass(frozen=True)
class Score:
    """A share of what was right.

    Args:
        measure: its name.
        right: [n], what each item earned, 0 to its count.
        counts: [n], what it could have earned; None is one each.
        baselines: name -> [n], what something simple earned on the same items.
        unit: what the items are, for words.
    """

    measure: str
    right: ArrayLike
    counts: ArrayLike | None = None
    baselines: Mapping[str, ArrayLike] = field(default_factory=dict)
    unit: str = "examples"

    @property
    def value(self) -> float:
        """Over all items."""
        return self._share(self.right)

    def interval(self, right: ArrayLike | None = None, seed: int = 0) -> Interval:
        """Returns the 95 % interval of the score, or of another's `right` on the same items."""
        earned = np.asarray(self.right if right is None else right, dtype=np.float64)
        if self.counts is None and set(np.unique(earned)) <= {0.0, 1.0}:
            return wilson(int(earned.sum()), len(earned))
        return ratio_interval(_blocks(earned), _blocks(self._counts), seed)

    def difference(self, baseline: str, seed: int = 0) -> Interval:
        """Returns the 95 % interval of the score minus a baseline's (paired bootstrap over items)."""
        ours, theirs = (np.asarray(one, dtype=np.float64) for one in (self.right, self.baselines[baseline]))
        return ratio_interval(_blocks(ours - theirs), _blocks(self._counts), seed)

    def plain(self, seed: int = 0) -> dict[str, Any]:
        """Returns it as `evaluation.json` holds it."""
        found: dict[str, Any] = {
            "value": self.value,
            "interval": self.interval(seed=seed),
            self.unit: len(self._counts),
            "baselines": {},
        }
        for name, right in self.baselines.items():
            between = self.difference(name, seed)
            one: dict[str, Any] = {
                "value": self._share(right),
                "interval": self.interval(right, seed),
                "difference": self.value - self._share(right),
                "difference_interval": between,
                "excludes_zero": between.excludes_zero,
            }
            if self.counts is None and set(np.unique([self.right, right])) <= {0, 1}:
                one["mcnemar_p"] = mcnemar(np.asarray(self.right), np.asarray(right))
            found["baselines"][name] = one
        return found

    def words(self, seed: int = 0) -> str:
        """Returns a sentence: the figure with its interval, the baselines, and which it is beyond.

        Example:
            >>> ours, usual = [1] * 90 + [0] * 10, [1] * 50 + [0] * 50
            >>> print(Score("accuracy", ours, baselines={"majority": usual}).words())
            accuracy 0.900 (0.826 to 0.945) on 100 held-out examples; majority 0.500 (better)
        """
        low, high = self.interval(seed=seed)
        parts = [f"{self.measure} {self.value:.3f} ({low:.3f} to {high:.3f})"]
        parts[0] += f" on {len(self._counts):,} held-out {self.unit}"
        for name, right in self.baselines.items():
            between = self.difference(name, seed)
            verdict = "better" if between.low > 0 else "worse" if between.high < 0 else "within the noise"
            parts.append(f"{name} {self._share(right):.3f} ({verdict})")
        return "; ".join(parts)

    @property
    def _counts(self) -> NDArray[np.float64]:
        if self.counts is None:
            return np.ones(len(np.asarray(self.right)))
        return np.asarray(self.counts, dtype=np.float64)

    def _share(self, right: ArrayLike) -> float:
        return float(np.asarray(right, dtype=np.float64).sum() / self._counts.sum())


def _blocks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of neighbours, `BLOCKS` at most: rows of one document stay together, and draws stay small."""
    if len(values) <= BLOCKS:
        return values
    starts = np.linspace(0, len(values), BLOCKS, endpoint=False).astype(np.int64)
    sums: NDArray[np.float64] = np.add.reduceat(values, starts)
    return sums


def mcnemar(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Returns the exact p-value that two sets of right and wrong answers are equally good.

    Only the items on which they differ count: under the null each falls to either side like a coin.

    Source: McNemar 1947, doi 10.1007/BF02295996.

    Example:
        >>> mcnemar(np.array([1, 1, 1, 0]), np.array([0, 0, 0, 0]))
        0.25
    """
    from scipy.stats import binomtest

    one, two = first.astype(bool), second.astype(bool)
    won, lost = int((one & ~two).sum()), int((two & ~one).sum())
    return 1.0 if won + lost == 0 else float(binomtest(won, won + lost).pvalue)
