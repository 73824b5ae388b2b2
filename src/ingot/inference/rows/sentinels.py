"""Marks of what was cut out of a text, `<extra_id_0>` and so on: control tokens that people write and read.

```
source   "a small <extra_id_0>, a little dog"       answer   "<extra_id_0> dog"
```

Other control tokens in a text stay text, as everywhere.

Source: Raffel et al. 2020 (T5), arXiv 1910.10683, section 3.1.4.
"""

from __future__ import annotations

import re

from ingot.tokenizer import Tokenizer

_MARK = re.compile(r"(<extra_id_\d+>)")


class Sentinels:
    """A tokenizer that reads marks in texts, and shows them in answers.

    Args:
        tokenizer: with marks among its control tokens, or without any.

    Example:
        >>> Sentinels(tokenizer).encode("a small <extra_id_0>")
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = tokenizer.vocab_size
        self.special = tokenizer.special
        self.byte_level = tokenizer.byte_level
        self._marks = {name: token for name, token in tokenizer.special.items() if _MARK.fullmatch(name)}
        self._shown = {token: f" {name} ".encode() for name, token in self._marks.items()}

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, marks as their tokens."""
        if not self._marks:
            return self.tokenizer.encode(text)
        ids: list[int] = []
        for part in _MARK.split(text):
            ids += [self._marks[part]] if part in self._marks else self.tokenizer.encode(part) if part else []
        return ids

    def token_bytes(self, token: int) -> bytes:
        """Returns the bytes that a token adds to a text: a mark's name, nothing for other control tokens."""
        return self._shown.get(token) or self.tokenizer.token_bytes(token)
