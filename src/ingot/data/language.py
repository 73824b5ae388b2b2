"""Language identification: which language a text is in, by a model that lies inside a package.

`py3langid` (Barbaresi 2021, after Lui and Baldwin 2012) is a naive Bayes model of byte sequences for some
hundred languages. It walks a text byte by byte in Python; here, with its tables, all places of the text are
walked to at once, and the confidences are its own to the last bit. Only a sample of a long text is looked at.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ingot.config import Config
from ingot.data.rules.objection import Objection
from ingot.errors import ConfigError, ResourceError, did_you_mean

_PARTS = 3
_CHUNK = 1 << 10  # rows of states that are looked at together, so that they stay in the caches
_NO_LETTER = b"\xff"  # in no UTF-8 and so in no feature: after it, the automaton is where a text begins


class Language(Config):
    """Which languages to keep.

    Args:
        keep: two-letter codes (ISO 639-1), such as "en"; None keeps all, and only labels documents.
        threshold: confidence that one of these must exceed, and a label too; datatrove's default.
        sample: letters of a text to look at, from its start, middle and end.
    """

    keep: tuple[str, ...] | None = None
    threshold: float = 0.65
    sample: int = Field(default=600, ge=30)

    def check(self) -> None:
        """Makes sure that the model is there and knows the languages to keep.

        Raises:
            ResourceError: py3langid is missing.
            ConfigError: it knows no such language.
        """
        known = _model().places
        for code in self.keep or ():
            if code not in known:
                raise ConfigError(
                    f"no such language: '{code}'", where="language.keep", fix=did_you_mean(code, known)
                )

    def judge(self, text: str) -> tuple[str | None, Objection | None]:
        """Identifies a text's language.

        Args:
            text: of a whole document.

        Returns:
            The language, None below the threshold; and an objection where it is none to keep.

        Example:
            >>> Language(keep=("de",)).judge("Der Hund schläft unter dem Tisch in der Küche.")
            ('de', None)
        """
        model = _model()
        confidences = model.confidences(self._sampled(text))
        place = int(confidences.argmax())
        best, confidence = model.classes[place], float(confidences[place])
        language = best if confidence > self.threshold else None
        if self.keep is None:
            return language, None
        kept = sorted(model.places[code] for code in self.keep if code in model.places)
        chosen = max(kept, key=lambda one: confidences[one], default=None)
        score = 0.0 if chosen is None else float(confidences[chosen])
        if chosen is not None and score > self.threshold:
            return model.classes[chosen], None
        detail = f"looks like '{best}' ({confidence:.2f}); {', '.join(self.keep)} at most {score:.2f}"
        return language, Objection("language", detail, score, self.threshold)

    def _sampled(self, text: str) -> str:
        if len(text) <= self.sample:
            return text
        size = max(1, self.sample // _PARTS)
        starts = [part * (len(text) - size) // (_PARTS - 1) for part in range(_PARTS)]
        return "\n".join(text[start : start + size] for start in starts)


class _Model:
    """The tables of py3langid, and its confidences.

    The features of the model are found by an automaton that knows no more of a text than the last few bytes
    (Aho and Corasick 1975): as many as its longest feature has. So the state at every place follows from
    those bytes alone, and all places take their few steps together.

    Args:
        model: a `LanguageIdentifier` of py3langid 0.4.
    """

    def __init__(self, model: Any) -> None:
        self.classes: list[str] = model.nb_classes
        # A language of two scripts has two columns, and counts at the first.
        self.places: dict[str, int] = {}
        for place, code in enumerate(self.classes):
            self.places.setdefault(code, place)
        self._again = [(self.places[code], place) for place, code in enumerate(self.classes)]
        self._again = [(first, place) for first, place in self._again if first != place]
        states = np.frombuffer(model.tk_nextmove, np.dtype(f"u{model.tk_nextmove.itemsize}"))
        rows = np.asarray(model.tk_row).astype(np.int32) << 8  # where the steps from each state are listed
        self._start = int(rows[0])
        self._rows, self._states = rows[states], states
        self._features = np.asarray(model.tk_output, dtype=np.int32)  # -1 is none
        self._memory = _depth(states.reshape(-1, 256), rows >> 8)
        self._weights = model.nb_ptc.astype(np.float32)
        self._bias = model.nb_pc

    def confidences(self, text: str) -> NDArray[np.float32]:
        """Returns the probability of each of `classes`; 0 at the second place of those that come twice."""
        data = unicodedata.normalize("NFC", text.lower() if text.isupper() else text)
        encoded = data.encode("utf-8", "surrogatepass")
        found = self.features(encoded)
        if found:
            numbers = np.fromiter(found.keys(), np.intp, len(found))
            counts = np.fromiter(found.values(), np.float32, len(found))
            scores = np.log1p(counts) @ self._weights.take(numbers, axis=0) + self._bias
            scores *= 1.0 / math.sqrt(len(encoded))
        else:
            scores = np.zeros(len(self.classes), np.float32)
        np.exp(scores - scores.max(), out=scores)
        scores /= scores.sum()
        for first, place in self._again:
            scores[first] += scores[place]
            scores[place] = 0.0
        return scores

    def features(self, data: bytes) -> Counter[int]:
        """Counts the features of a text, in the order in which they are first found."""
        before = self._memory - 1
        codes = np.frombuffer(_NO_LETTER * before + data, np.uint8).astype(np.intp)
        count = len(data)
        at = codes[:count] + self._start
        for step in range(1, before + 1):
            at = self._rows[at] + codes[step : step + count]
        found = self._features[self._states[at]]
        return Counter(found[found >= 0].tolist())


def _depth(states: NDArray[Any], rows: NDArray[np.int32]) -> int:
    """The steps from the start to the state that lies furthest: the length of the longest feature.

    Args:
        states: [rows, 256], which state follows on each byte.
        rows: [states], where these are listed for each state.
    """
    known = np.zeros(len(rows), np.bool_)
    listed = np.zeros(len(states), np.bool_)  # rows that have been looked at
    reached, depth = np.zeros(1, np.intp), -1
    known[0] = True
    while len(reached):
        depth += 1
        new = np.unique(rows[reached])
        new = new[~listed[new]]
        listed[new] = True
        following = np.zeros(len(rows), np.bool_)
        for start in range(0, len(new), _CHUNK):
            following[states[new[start : start + _CHUNK]]] = True
        reached = np.flatnonzero(following & ~known)
        known |= following
    return depth


@functools.cache
def _model() -> _Model:
    """The model, loaded once for each process."""
    fix = "pip install 'ingot[data]', or set language=null"
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise ResourceError("the package 'py3langid' is missing", where="language", fix=fix) from None
    try:
        return _Model(LanguageIdentifier.from_model_file(MODEL_FILE))
    except AttributeError as error:
        what = f"this version of the package 'py3langid' has another model ({error})"
        raise ResourceError(what, where="language", fix=fix) from None
