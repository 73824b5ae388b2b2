"""Language identification: which language a text is in, by a model that lies inside a package.

`py3langid` (Barbaresi 2021, after Lui and Baldwin 2012) is a naive Bayes model of byte sequences for some
hundred languages. It walks the text byte by byte, so only a sample of a long text is shown to it.
"""

from __future__ import annotations

import functools
from typing import Any

from pydantic import Field

from ingot.config import Config
from ingot.data.rules.objection import Objection
from ingot.errors import ConfigError, ResourceError, did_you_mean

_PARTS = 3


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
        known = _model().labels
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
        ranked = _model().rank(self._sampled(text))
        best, confidence = ranked[0]
        language = best if confidence > self.threshold else None
        if self.keep is None:
            return language, None
        kept = {code: score for code, score in ranked if code in self.keep}
        chosen = max(kept, key=lambda code: kept[code], default=None)
        score = kept[chosen] if chosen else 0.0
        if chosen is not None and score > self.threshold:
            return chosen, None
        detail = f"looks like '{best}' ({confidence:.2f}); {', '.join(self.keep)} at most {score:.2f}"
        return language, Objection("language", detail, score, self.threshold)

    def _sampled(self, text: str) -> str:
        if len(text) <= self.sample:
            return text
        size = max(1, self.sample // _PARTS)
        starts = [part * (len(text) - size) // (_PARTS - 1) for part in range(_PARTS)]
        return "\n".join(text[start : start + size] for start in starts)


@functools.cache
def _model() -> Any:
    """The model, loaded once for each process."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        fix = "pip install 'ingot[data]', or set language=null"
        raise ResourceError("the package 'py3langid' is missing", where="language", fix=fix) from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
