"""The log of prompts and answers, which only those have who asked for it: one JSON object a line.

A line holds what a model read, control tokens and all, and what it wrote to it. It holds no header, and so
never the key that came in one. Nobody but the file's owner can read it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

from ingot.errors import ConfigError
from ingot.serve.job import Job, Piece
from ingot.serve.protocol import ApiError
from ingot.tokenizer import Tokenizer

log = logging.getLogger("ingot.serve")

FILE_BYTES = 2**26
"""From this size on a file is put aside as NAME.1, in place of the one before: about twice this is kept."""

WAITING = 1024
"""Jobs that may wait to be written; where a disk hangs, those beyond are left out, and that is told."""


class PromptLog:
    """A file of prompts and answers, written by a thread of its own: no answer waits for a disk.

    Args:
        path: of the file; lines are added to its end.
        limit: bytes from which on it is put aside.

    Raises:
        ConfigError: it cannot be written, or is no file.
    """

    def __init__(self, path: Path, limit: int = FILE_BYTES) -> None:
        self.path = path
        self.limit = limit
        self._file = _opened(path)
        self._thread = ThreadPoolExecutor(1, "prompts")
        self._room = threading.Semaphore(WAITING)

    def follow(self, job: Job, tokenizer: Tokenizer, number: str | None, model: str) -> None:
        """Writes a job down once it has ended, in whichever way.

        Args:
            job: with its prompts.
            tokenizer: whose ids they are.
            number: of the HTTP request; None outside of one.
            model: who answers.
        """
        texts = [""] * len(job.prompts)
        reasons: dict[int, str] = {}

        def hear(piece: Piece | ApiError) -> None:
            if isinstance(piece, ApiError):
                reasons.update({index: "error" for index in range(len(texts)) if index not in reasons})
            else:
                texts[piece.answer] += piece.text
                if piece.finish_reason is not None:
                    reasons[piece.answer] = piece.finish_reason
            if len(reasons) == len(texts):
                answers = [(texts[index], reasons[index]) for index in range(len(texts))]
                self._hand_over({"id": number, "model": model}, tokenizer, job.prompts, answers)

        job.listeners.append(hear)

    def close(self) -> None:
        """Writes what is left, and closes the file."""
        self._thread.shutdown()
        self._file.close()

    def _hand_over(self, *job: Any) -> None:
        if not self._room.acquire(blocking=False):
            log.error("a prompt was not logged: %d wait to be written", WAITING)
            return
        with contextlib.suppress(RuntimeError):  # closed: the server is gone
            self._thread.submit(self._write, *job)

    def _write(
        self,
        head: dict[str, Any],
        tokenizer: Tokenizer,
        prompts: Iterable[list[int]],
        answers: Iterable[tuple[str, str]],
    ) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            for prompt, given in _by_prompt(prompts, answers):
                line = {"time": now, **head, "prompt": tokenizer.decode(prompt), "answers": given}
                self._file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
            self._file.flush()
            if os.fstat(self._file.fileno()).st_size >= self.limit:
                self._put_aside()
        except (OSError, ConfigError) as error:
            log.error("prompts cannot be logged: %s", error)
        finally:
            self._room.release()

    def _put_aside(self) -> None:
        os.replace(self.path, self.path.with_name(f"{self.path.name}.1"))
        full, self._file = self._file, _opened(self.path)
        full.close()


def _opened(path: Path) -> TextIO:
    fix = "name a file in a folder of yours"
    try:
        number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
        file = os.fdopen(number, "a", encoding="utf-8", errors="backslashreplace")
        if not stat.S_ISREG(os.fstat(number).st_mode):
            file.close()
            raise ConfigError("this is no file", where=path, fix=fix)
        os.fchmod(number, 0o600)  # where it was there before
    except OSError as error:
        raise ConfigError(f"cannot be written ({error.strerror})", where=path, fix=fix) from None
    return file


def _by_prompt(
    prompts: Iterable[list[int]], answers: Iterable[tuple[str, str]]
) -> Iterator[tuple[list[int], list[dict[str, str]]]]:
    """Yields each prompt with all its answers: those that were asked for together share one list."""
    found: dict[int, tuple[list[int], list[dict[str, str]]]] = {}
    for prompt, (text, reason) in zip(prompts, answers, strict=True):
        given = found.setdefault(id(prompt), (prompt, []))[1]
        given.append({"text": text, "finish_reason": reason})
    yield from found.values()
