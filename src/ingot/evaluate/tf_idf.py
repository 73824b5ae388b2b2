"""The classical baseline for texts: words and word pairs weighed by TF-IDF, and logistic regression.

```
tf-idf(w, text) = (1 + ln count) * (1 + ln((1 + n) / (1 + texts with w))), each text of unit length
classes: minimise  C * sum of cross-entropies + |weights|^2 / 2,  by L-BFGS
```

Source: Salton and Buckley 1988, doi 10.1016/0306-4573(88)90021-0; smoothing as in scikit-learn, with which
the results agree.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"\w+|[^\w\s]")
STRENGTHS = (1.0, 3.0, 10.0)
"""Values of C that are tried on a tenth of the training texts."""

_STEPS = 200


class TfIdf:
    """Texts as sparse rows.

    Args:
        texts: that the words and their weights are learnt from.
        pairs: whether neighbouring words count too.
    """

    def __init__(self, texts: Sequence[str], pairs: bool = True) -> None:
        self.pairs = pairs
        counted = [self._count(text) for text in texts]
        seen = Counter(word for words in counted for word in words)
        self.columns = {word: place for place, word in enumerate(sorted(seen))}
        self.weights = np.array([1 + np.log((1 + len(texts)) / (1 + seen[word])) for word in self.columns])

    def rows(self, texts: Sequence[str]) -> Any:
        """Returns a sparse matrix [n, words] in CSR form; words that were not seen are left out."""
        from scipy.sparse import csr_matrix

        values: list[float] = []
        places: list[int] = []
        ends = [0]
        for text in texts:
            found = [
                (self.columns[w], 1 + np.log(c)) for w, c in self._count(text).items() if w in self.columns
            ]
            row = np.array([value * self.weights[place] for place, value in found])
            norm = float(np.sqrt((row**2).sum())) or 1.0
            values.extend((row / norm).tolist())
            places.extend(place for place, _ in found)
            ends.append(len(values))
        return csr_matrix((values, places, ends), shape=(len(texts), len(self.columns)))

    def _count(self, text: str) -> Counter[str]:
        words = WORD.findall(text.lower())
        both = [f"{a} {b}" for a, b in pairwise(words)] if self.pairs else []
        return Counter([*words, *both])


class TextClassifier:
    """Logistic regression on TF-IDF.

    Args:
        features: of the texts.
        weights: [words + 1, classes], the last row the biases.
        names: of the classes.

    Example:
        >>> TextClassifier.train(["good film", "bad film"] * 9, ["up", "down"] * 9).classify(["good"])
        ['up']
    """

    def __init__(self, features: TfIdf, weights: NDArray[np.float64], names: Sequence[str]) -> None:
        self.features, self.weights, self.names = features, weights, list(names)

    @classmethod
    def train(
        cls, texts: Sequence[str], labels: Sequence[str], strength: float | None = None
    ) -> TextClassifier:
        """Learns from labelled texts.

        Args:
            texts: n of them.
            labels: of each.
            strength: C; None takes the one that is best on a tenth of the texts kept out.
        """
        names = sorted(set(labels))
        numbers = np.array([names.index(label) for label in labels])
        if strength is None:
            strength = _best(texts, numbers, len(names))
        features = TfIdf(texts)
        return cls(features, logistic(features.rows(texts), numbers, len(names), strength), names)

    def classify(self, texts: Sequence[str]) -> list[str]:
        """Returns the likeliest class of each text."""
        scores = self.features.rows(texts) @ self.weights[:-1] + self.weights[-1]
        return [self.names[number] for number in scores.argmax(1)]


def _best(texts: Sequence[str], numbers: NDArray[np.int64], classes: int) -> float:
    """The strength that does best on texts that were kept out."""
    order = np.random.default_rng(0).permutation(len(texts))
    kept = max(1, len(texts) // 10)
    tried, rest = order[:kept], order[kept:]
    if len(rest) < 2 or len(np.unique(numbers[rest])) < 2:
        return STRENGTHS[0]
    features = TfIdf([texts[i] for i in rest])
    learnt, asked = features.rows([texts[i] for i in rest]), features.rows([texts[i] for i in tried])

    def right(strength: float) -> int:
        weights = logistic(learnt, numbers[rest], classes, strength)
        return int(((asked @ weights[:-1] + weights[-1]).argmax(1) == numbers[tried]).sum())

    return max(STRENGTHS, key=right)


def logistic(rows: Any, labels: NDArray[np.int64], classes: int, strength: float) -> NDArray[np.float64]:
    """Fits multinomial logistic regression.

    Args:
        rows: sparse [n, f].
        labels: [n], from 0.
        classes: how many there are.
        strength: C, how much the texts count against the size of the weights; biases are free.

    Returns:
        [f + 1, classes], the last row the biases.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    n, f = rows.shape
    right = np.zeros((n, classes))
    right[np.arange(n), labels] = 1
    turned = rows.T.tocsr()

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(f + 1, classes)
        logs = log_softmax(rows @ weights[:-1] + weights[-1], axis=1)
        slope = np.exp(logs) - right
        gradient = np.vstack([strength * (turned @ slope) + weights[:-1], strength * slope.sum(0)])
        value = -strength * (logs * right).sum() + 0.5 * (weights[:-1] ** 2).sum()
        return float(value), gradient.ravel()

    found = minimize(
        loss, np.zeros((f + 1) * classes), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}
    )
    fitted: NDArray[np.float64] = found.x.reshape(f + 1, classes)
    return fitted
