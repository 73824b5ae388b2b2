"""Which characters count as signs, and which of them end a sentence: the sets that the published rules use.

Sentence ends are Unicode's property `Sentence_Terminal`, as far as datatrove 0.10 has it; that version is
fixed here, since another one would make other decisions.
"""

from __future__ import annotations

import string
from collections.abc import Iterator

_ENDS = (
    "\u0021\u0021\u002e\u002e\u003f\u003f\u0589\u0589\u061d\u061f\u06d4\u06d4\u0700\u0702\u07f9\u07f9"
    "\u0837\u0837\u0839\u0839\u083d\u083e\u0964\u0965\u104a\u104b\u1362\u1362\u1367\u1368\u166e\u166e"
    "\u1735\u1736\u17d4\u17d6\u17d9\u17da\u1803\u1803\u1809\u1809\u1944\u1945\u1aa8\u1aab\u1b5a\u1b5b"
    "\u1b5e\u1b5f\u1b7d\u1b7e\u1c3b\u1c3c\u1c7e\u1c7f\u203c\u203d\u2047\u2049\u2e2e\u2e2e\u2e3c\u2e3c"
    "\u2e53\u2e54\u3002\u3002\ua4ff\ua4ff\ua60e\ua60f\ua6f3\ua6f3\ua6f7\ua6f7\ua876\ua877\ua8ce\ua8cf"
    "\ua92f\ua92f\ua9c8\ua9c9\uaa5d\uaa5f\uaaf0\uaaf1\uabeb\uabeb\ufe52\ufe52\ufe56\ufe57\uff01\uff01"
    "\uff0e\uff0e\uff1f\uff1f\uff61\uff61\U00010a56\U00010a57\U00010f55\U00010f59\U00010f86\U00010f89"
    "\U00011047\U00011048\U000110be\U000110c1\U00011141\U00011143\U000111c5\U000111c6"
    "\U000111cd\U000111cd\U000111de\U000111df\U00011238\U00011239\U0001123b\U0001123c"
    "\U000112a9\U000112a9\U0001144b\U0001144c\U000115c2\U000115c3\U000115c9\U000115d7"
    "\U00011641\U00011642\U0001173c\U0001173e\U00011944\U00011944\U00011946\U00011946"
    "\U00011a42\U00011a43\U00011a9b\U00011a9c\U00011c41\U00011c42\U00011ef7\U00011ef8"
    "\U00011f43\U00011f44\U00016a6e\U00016a6f\U00016af5\U00016af5\U00016b37\U00016b38"
    "\U00016b44\U00016b44\U00016e98\U00016e98\U0001bc9f\U0001bc9f\U0001da88\U0001da88"
)
"""First and last of each run of code points."""

_SIGNS = (
    "\u00ab\u00ab\u00b4\u00b4\u00bb\u00bb\u2013\u2014\u2019\u2019\u201c\u201e\u2026\u2026\u2236\u2236"
    "\u2501\u2501\u25ba\u25ba\u3001\u3001\u3008\u300d\u3010\u3011\uff05\uff05\uff08\uff09\uff0c\uff0c"
    "\uff11\uff11\uff1a\uff1b\uff5e\uff5e"
)


def _runs(pairs: str) -> Iterator[str]:
    for first, last in zip(pairs[::2], pairs[1::2], strict=True):
        yield from map(chr, range(ord(first), ord(last) + 1))


ENDS = frozenset(_runs(_ENDS))
"""Characters that end a sentence, in any script."""

CONTROLS = frozenset(map(chr, (*range(9), *range(11, 32), *range(127, 160))))
"""Control characters, without tab and line feed."""

SIGNS = ENDS | CONTROLS | frozenset(string.punctuation) | frozenset(_runs(_SIGNS))
"""A word made of nothing else is a symbol, not a word."""
