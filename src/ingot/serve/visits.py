"""Visits: what is known of one HTTP request while it lasts, and the line about it in the access log.

A line holds no prompt, no answer, no key and no query string: names, counts, sizes and times.
"""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingot.serve.job import Piece
from ingot.serve.keys import Holder
from ingot.serve.protocol import ApiError

log = logging.getLogger("ingot.access")

LONGEST = 100
"""Characters of what a client sent that a log line or a refusal repeats."""


@dataclass(eq=False)
class Visit:
    """One HTTP request on its way through the server.

    Args:
        number: its request id.
        method: of HTTP.
        path: without the query string.
        client: the address that it came from.
    """

    number: str
    method: str
    path: str
    client: str
    holder: Holder | None = None  # None until the key is checked
    keyed: bool = False  # whether the holder has a key
    model: str | None = None
    prompt_tokens: int = 0
    new_tokens: int = 0
    status: int = 0
    sent: int = 0  # bytes of the answer's body
    began: float = field(default_factory=time.perf_counter)

    def caller(self, user: str | None) -> str | None:
        """Returns who asks, for choices that should stay the same; None where nobody can tell.

        Args:
            user: what the request itself says.
        """
        if self.holder is None or not (self.keyed or user):
            return None
        return f"{self.holder.name if self.keyed else ''}/{user or ''}"

    def read(self, tokens: int) -> None:
        """Counts prompt tokens."""
        self.prompt_tokens += tokens
        if self.holder is not None:
            self.holder.use(tokens)

    def hear(self, piece: Piece | ApiError) -> None:
        """Counts the tokens of a piece."""
        if isinstance(piece, Piece) and piece.tokens:
            self.new_tokens += len(piece.tokens)
            if self.holder is not None:
                self.holder.use(len(piece.tokens))

    def line(self) -> dict[str, Any]:
        """Returns what the access log says about it."""
        said = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "id": self.number,
            "client": self.client,
            "key": self.holder.name if self.holder is not None and self.keyed else None,
            "method": self.method[:LONGEST],
            "path": self.path[:LONGEST],
            "status": self.status,
            "seconds": round(time.perf_counter() - self.began, 4),
            "bytes": self.sent,
            "model": self.model,
            "prompt_tokens": self.prompt_tokens or None,
            "new_tokens": self.new_tokens or None,
        }
        return {key: value for key, value in said.items() if value is not None}

    def write(self) -> None:
        """Writes the line."""
        if log.isEnabledFor(logging.INFO):
            log.info(json.dumps(self.line(), ensure_ascii=True, separators=(",", ":")))


def request_number(sent: str) -> str:
    """Returns a request's id: the one that the client sent where it is a plain short word, else a new one."""
    return sent if re.fullmatch(r"[\w.-]{1,128}", sent, re.ASCII) else uuid.uuid4().hex


def log_to(path: Path | None) -> None:
    """Sends the access log to the end of a file, or to standard error, one JSON object a line."""
    handler = logging.StreamHandler() if path is None else logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def traced(error: BaseException) -> str:
    """Returns what an error is and where it was raised, without its message, which may quote a prompt."""
    places = "".join(traceback.format_tb(error.__traceback__)[-8:])
    return f"{type(error).__name__} at\n{places}"
