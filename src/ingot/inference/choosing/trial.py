"""Grammars on trial: each is first compiled by another process, which can be ended.

A grammar from a stranger can keep a compiler busy for hours or exhaust its stack, and a compiler that runs
in this process can be neither interrupted nor survived. So a helper process compiles it first, with little
stack, memory and time; only what it compiled is compiled here too. This file is also the program that it
runs, which imports nothing of this package and no torch: it starts in a tenth of a second.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
from typing import Any

SECONDS = 1.0
"""Of a processor, to compile one grammar."""

PATIENCE = 30.0
"""Seconds that an answer may take by the clock: a machine may be busy, and that is no grammar's fault."""

MEMORY = 2**30
"""Bytes that the helper may have."""

STACK = 512 * 1024
"""Bytes of stack: the least that any thread here has."""

LIMITS: dict[str, Any] = {
    "max_items_in_row": 2_000,
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_lexer_states": 20_000,
    "max_grammar_size": 200_000,
    "precompute_large_lexemes": False,
    "verbose_errors": False,
}
"""What `llguidance` may spend on one grammar: some 20 ms at a step, some 40 MB in all."""


class Trial:
    """Tries grammars, one at a time; any thread may ask.

    Example:
        >>> Trial().verdict(LLMatcher.grammar_from_regex("a{2}"))  # '' is: nothing is wrong with it
        ''
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def verdict(self, grammar: str) -> str:
        """Returns what is wrong with a grammar in `llguidance`'s own form; nothing if it is fine."""
        with self._lock:
            process = self._process or self._start()
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps(grammar).encode() + b"\n")
                process.stdin.flush()
                answer = self._line(process)
            except BrokenPipeError:
                answer = None
            if answer is None:
                self.close()
                return f"it is too complex: it needs more than {SECONDS:g} s or {MEMORY >> 20} MB to compile"
            return str(json.loads(answer))

    def close(self) -> None:
        """Ends the helper; the next grammar starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        # -P: the folder of this file holds modules whose names others may use.
        command = [sys.executable, "-P", __file__]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        self._process = process
        self._line(process)
        return process

    @staticmethod
    def _line(process: subprocess.Popen[bytes]) -> bytes | None:
        """The next line that the helper writes; None if it does not, or has ended."""
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        return (process.stdout.readline() or None) if ready else None


def _verdict(grammar: str) -> str:
    """Compiles a grammar for a tokenizer of single bytes, and works out what may come first."""
    from llguidance import LLMatcher, LLParserLimits

    matcher = LLMatcher(_bytes_only(), grammar, log_level=0, limits=LLParserLimits(**LIMITS))
    matcher.compute_bitmask()
    return str(matcher.get_error())


def _bytes_only() -> Any:
    from llguidance import LLTokenizer, TokenizerWrapper

    class Alphabet:
        eos_token_id = 256
        bos_token_id = None
        special_token_ids = (256,)
        tokens = (*(bytes([value]) for value in range(256)), b"<end>")

        def __call__(self, text: bytes) -> list[int]:
            return list(text)

    return LLTokenizer(TokenizerWrapper(Alphabet()), n_vocab=257, slices=[])


def _serve() -> None:
    """Answers every line, a grammar as JSON, with a line: what is wrong with it."""
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    _bytes_only()
    print("ready", flush=True)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # ends this process, within compiled code too
        print(json.dumps(_verdict(json.loads(line))), flush=True)
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    threading.stack_size(STACK)
    server = threading.Thread(target=_serve)
    server.start()
    server.join()
    os._exit(0)
