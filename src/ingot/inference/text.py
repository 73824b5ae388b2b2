"""From tokens to text that can be shown: whole characters only, and nothing that a stop may take back."""

from __future__ import annotations

import codecs
from typing import Protocol


class Bytes(Protocol):
    """What is needed of a tokenizer here."""

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; none for a special token."""
        ...


class Transcript:
    """The text of one answer, growing token by token.

    A byte-level token can end in the middle of a character, and a stop text can be spread over several
    tokens. What may still change is held back: the bytes of an unfinished character, and the longest
    tail that a stop text could begin with.

    Args:
        tokenizer: gives each token's bytes.
        stop: texts that end the answer.

    Example:
        >>> transcript = Transcript(tokenizer, stop=("\\n\\n",))
        >>> transcript.push(token)          # True once a stop text has appeared
        >>> transcript.take()               # what can be shown since the last call
    """

    def __init__(self, tokenizer: Bytes, stop: tuple[str, ...] = ()) -> None:
        self.text = ""
        self._tokenizer = tokenizer
        self._stop = stop
        self._overlap = max((len(text) for text in stop), default=1) - 1
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._shown = 0
        self._safe = 0
        self._begin = 0  # stop texts are looked for from here on
        self._stopped = False

    def push(self, token: int, may_stop: bool = True) -> bool:
        """Adds a token. Returns whether a stop text is complete; the text then ends before it.

        Args:
            token: its id.
            may_stop: False where the answer is too short to end: no stop text begins before its end.
        """
        return self._add(self._decode(self._tokenizer.token_bytes(token)), may_stop)

    def finish(self) -> None:
        """Says that no token follows: an unfinished character becomes U+FFFD, nothing is held back."""
        if not self._stopped:
            self._add(self._decode(b"", True))
        self._safe = len(self.text)

    def take(self) -> str:
        """Returns the text that has become certain since the last call."""
        piece = self.text[self._shown : self._safe]
        self._shown = self._safe
        return piece

    def _add(self, new: str, may_stop: bool = True) -> bool:
        if not new:
            return False
        start = max(self._begin, len(self.text) - self._overlap)
        self.text += new
        if not may_stop:
            self._begin = len(self.text)
        elif self._stop:
            found = [at for at in (self.text.find(stop, start) for stop in self._stop) if at >= 0]
            if found:
                self.text = self.text[: min(found)]
                self._safe = len(self.text)
                self._stopped = True
                return True
        self._safe = len(self.text) - self._held()
        return False

    def _held(self) -> int:
        """Length of the longest tail that some stop text begins with."""
        for length in range(min(self._overlap, len(self.text) - self._begin), 0, -1):
            tail = self.text[-length:]
            if any(stop.startswith(tail) for stop in self._stop):
                return length
        return 0
