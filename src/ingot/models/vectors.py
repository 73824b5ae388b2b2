"""Word vectors, whatever made them: nearest words, analogies, files.

```
king - man + woman  ->  nearest of the unit vectors, these three words aside   (Mikolov et al. 2013)
```

Files: `vectors.safetensors` with `words.json`, and word2vec's text format, which others read:

```
2 3
king 0.1 0.2 0.3
queen 0.1 0.1 0.4
```
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingot.atomic import write_atomic
from ingot.errors import ArtifactError, DataError

Matrix = NDArray[np.float32]

FILES = ("words.json", "vectors.safetensors")
"""What saved vectors are made of."""


class Vectors:
    """One vector per word.

    Args:
        words: all different.
        matrix: [n, d] float32, a row per word.

    Raises:
        DataError: words and rows do not fit, words repeat, or a number is not finite.

    Example:
        >>> found = Vectors(["up", "high", "low"], np.array([[1, 0], [0.9, 0.1], [0, 1]], dtype=np.float32))
        >>> found.nearest("up", 1)[0][0]
        'high'
    """

    def __init__(self, words: Sequence[str], matrix: Matrix) -> None:
        self.words = list(words)
        self.matrix = np.ascontiguousarray(matrix, dtype=np.float32)
        self.index = {word: row for row, word in enumerate(self.words)}
        where = "word vectors"
        if self.matrix.ndim != 2 or len(self.matrix) != len(self.words):
            raise DataError(f"{len(self.words)} words for an array {self.matrix.shape}", where=where)
        if len(self.index) != len(self.words):
            twice = next(word for row, word in enumerate(self.words) if self.index[word] != row)
            raise DataError(f"the word {twice!r} stands there twice", where=where)
        if not np.isfinite(self.matrix).all():
            row = int(np.flatnonzero(~np.isfinite(self.matrix).all(1))[0])
            raise DataError(f"the vector of {self.words[row]!r} is not finite", where=where)
        self._units = _unit(self.matrix)

    def __contains__(self, word: str) -> bool:
        return word in self.index

    def __getitem__(self, word: str) -> Matrix:
        """Returns the vector of a word, [d].

        Raises:
            DataError: a word that has none.
        """
        row: Matrix = self.matrix[self._row(word)]
        return row

    def similarity(self, one: str, other: str) -> float:
        """Returns the cosine of the angle between the vectors of two words."""
        return float(self._units[self._row(one)] @ self._units[self._row(other)])

    def nearest(self, word: str | Matrix, count: int = 10) -> list[tuple[str, float]]:
        """Returns the words of the largest cosine, best first, and that cosine.

        Args:
            word: which is itself left out; or any vector [d].
            count: how many.
        """
        if isinstance(word, str):
            return self._best(self._units[self._row(word)], [word], count)
        return self._best(_unit(np.asarray(word, dtype=np.float32)[None])[0], [], count)

    def analogy(self, a: str, b: str, c: str, count: int = 1) -> list[tuple[str, float]]:
        """Returns what is to `c` as `b` is to `a`, best first.

        Args:
            a: as in "man is to king as woman is to ...".
            b: "king".
            c: "woman"; none of the three is an answer.
            count: how many answers.

        Source: Mikolov, Yih and Zweig 2013, "Linguistic regularities in continuous space word
        representations", section 4.
        """
        first, second, third = (self._units[self._row(word)] for word in (a, b, c))
        return self._best(_unit((second - first + third)[None])[0], [a, b, c], count)

    def solved(self, questions: Iterable[tuple[str, str, str, str]]) -> float:
        """Returns the share of analogies `(a, b, c, answer)` whose best answer is the right one."""
        right = [self.analogy(a, b, c)[0][0] == answer for a, b, c, answer in questions]
        return sum(right) / len(right)

    def save(self, folder: Path) -> None:
        """Writes `words.json` and `vectors.safetensors` into a folder."""
        from safetensors.numpy import save

        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / FILES[1], save({"vectors": self.matrix}))
        write_atomic(folder / FILES[0], json.dumps(self.words, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Vectors:
        """Reads what `save` wrote.

        Raises:
            ArtifactError: files are missing, damaged or do not fit one another.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            words = json.loads((folder / FILES[0]).read_text(encoding="utf-8"))
            return cls(words, load((folder / FILES[1]).read_bytes())["vectors"])
        except (OSError, SafetensorError, ValueError, TypeError, KeyError, DataError) as error:
            raise ArtifactError(f"not readable word vectors ({error})", where=folder) from None

    def write_text(self, path: Path) -> None:
        """Writes word2vec's text format, every number so that it comes back exactly.

        Raises:
            DataError: a word with white space in it, which the format cannot hold.
        """
        for word in self.words:
            if not word or any(letter.isspace() for letter in word):
                raise DataError(f"the word {word!r} cannot be written in word2vec's text format", where=path)
        rows = (
            " ".join((word, *(np.format_float_positional(x) for x in row)))
            for word, row in zip(self.words, self.matrix, strict=True)
        )
        write_atomic(path, "\n".join((f"{len(self.words)} {self.matrix.shape[1]}", *rows)) + "\n")

    @classmethod
    def read_text(cls, path: Path) -> Vectors:
        """Reads word2vec's text format.

        Raises:
            DataError: the file is missing, or a line is not what the first one promises.
        """
        words: list[str] = []
        try:
            with path.open(encoding="utf-8", newline="\n") as file:
                n, d = (int(number) for number in file.readline().split())
                matrix: Matrix | None = None
                for number, line in enumerate(file, 2):
                    word, *numbers = line.rstrip().split(" ")
                    if len(numbers) != d or len(words) == n:
                        what = (
                            f"line {number} has {len(numbers)} numbers, the first promises {n} words of {d}"
                        )
                        raise DataError(what, where=path, fix="mend the file")
                    if matrix is None:
                        matrix = np.empty((n, d), dtype=np.float32)
                    matrix[len(words)] = [float(x) for x in numbers]
                    words.append(word)
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", where=path, fix="check the path") from None
        except (ValueError, MemoryError) as error:
            raise DataError(f"not word2vec's text format ({error})", where=path) from None
        if matrix is None or len(words) != n:
            raise DataError(
                f"{len(words)} words, the first line promises {n}", where=path, fix="mend the file"
            )
        return cls(words, matrix)

    def _row(self, word: str) -> int:
        row = self.index.get(word)
        if row is None:
            fix = "use a word of the vocabulary, or fastText, which makes vectors for any word"
            raise DataError(f"no vector for {word!r}", where="word vectors", fix=fix)
        return row

    def _best(self, unit: Matrix, without: Sequence[str], count: int) -> list[tuple[str, float]]:
        scores = self._units @ unit
        scores[[self.index[word] for word in without]] = -np.inf
        count = min(count, len(self.words) - len(set(without)))
        found = np.argpartition(-scores, max(count - 1, 0))[:count]
        found = found[np.argsort(-scores[found], kind="stable")]
        return [(self.words[row], float(scores[row])) for row in found]


def _unit(matrix: Matrix) -> Matrix:
    """Rows of length one; zeros stay zeros."""
    largest = np.abs(matrix).max(-1, keepdims=True)  # divided out: squares of large numbers overflow
    scaled = matrix / np.where(largest == 0, 1, largest)
    units: Matrix = scaled / np.maximum(np.linalg.norm(scaled, axis=-1, keepdims=True), 1)
    return units
