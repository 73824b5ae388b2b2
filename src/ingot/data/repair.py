"""Repair: one form for what Unicode can write in several, and text that was decoded wrongly made right again.

Mojibake ("schÃ¶n" for "schön") is text in UTF-8 that somebody read as another encoding. `ftfy` (Speer 2019)
finds what was done and undoes it; of its many repairs only those of the encoding are used, so that quotes,
ligatures and blanks stay as their author wrote them. Code is never repaired: there, each character matters.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable
from typing import Literal

from ingot.config import Config
from ingot.errors import ResourceError

# Wrong decoding leaves one of a few letters, or two neighbours beyond ASCII of which one is no letter of a
# script that fills whole texts (Greek to Hangul), or the Cyrillic form of a common sign.
_FULL = "\u0370-\u0383\u0386-\u048f\u0492-\u1fff\u3000-\ud7ff"
_SUSPECT = re.compile(
    "[^\x00-\x7f](?:(?<=[\x80-\x9f\xc2\xc3\u0152\u0153])|(?<=[\u0432\u0412])\u0402"
    f"|(?<=[^{_FULL}])[^\x00-\x7f]|(?<=[{_FULL}])[^\x00-\x7f{_FULL}])"
)
_ROUNDS = 8
_PIECE = 1 << 16


class Repair(Config):
    """How prose is made uniform.

    Args:
        normalise: Unicode's normal form: NFC keeps the meaning of each character, NFKC also folds
            ligatures, wide letters and superscripts; None leaves the text as it is.
        mojibake: undo wrong decoding; needs the package ftfy.
    """

    normalise: Literal["NFC", "NFKC"] | None = "NFC"
    mojibake: bool = True

    def apply(self, text: str) -> str:
        """Returns the text repaired; a second repair changes nothing more.

        Raises:
            ResourceError: ftfy is missing, and the text looks as if it were needed.

        Example:
            >>> Repair().apply("schÃ¶n e\\u0301")
            'schön é'
        """
        if text.isascii():
            return text
        for _ in range(_ROUNDS):
            before = text
            if self.normalise is not None and not unicodedata.is_normalized(self.normalise, text):
                text = unicodedata.normalize(self.normalise, text)
            if self.mojibake:
                text = fix_encoding(text)
            if text == before:
                break
        return text


def fix_encoding(text: str) -> str:
    """Returns a text in which wrongly decoded lines are decoded rightly; each line on its own.

    Raises:
        ResourceError: ftfy is missing.
    """
    if not _SUSPECT.search(text):
        return text
    bad, fix = _ftfy()
    parts: list[str] = []
    kept = looked = 0  # text up to here is in the parts, has been looked at
    while match := _SUSPECT.search(text, looked):
        at = match.start()
        start = max(text.rfind("\n", looked, at) + 1, looked, at - _PIECE)
        end = text.find("\n", at, at + _PIECE)
        looked = min(at + _PIECE, len(text)) if end < 0 else end
        line = text[start:looked]
        if bad(line):
            parts += [text[kept:start], fix(line)]
            kept = looked
    return "".join([*parts, text[kept:]])


def need_ftfy() -> None:
    """Makes sure, before the work begins, that ftfy is there.

    Raises:
        ResourceError: it is not.
    """
    _ftfy()


@functools.cache
def _ftfy() -> tuple[Callable[[str], bool], Callable[[str], str]]:
    try:
        import ftfy
        from ftfy.badness import is_bad
    except ImportError:
        fix = "pip install 'ingot[data]', or set repair.mojibake=false"
        raise ResourceError("the package 'ftfy' is missing", where="repair", fix=fix) from None
    config = ftfy.TextFixerConfig(explain=False)
    return is_bad, functools.partial(ftfy.fix_encoding, config=config)
