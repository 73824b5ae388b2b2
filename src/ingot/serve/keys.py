"""Keys: who may ask, and how much each may ask for in a minute.

Keys come from a file or the environment, stay in memory as hashes, and are never logged: what logs and
metrics say is the holder's name.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from pydantic import Field

from ingot.config import Config
from ingot.errors import ConfigError
from ingot.serve.protocol import ApiError

KEY_VARIABLE = "INGOT_API_KEY"
"""Environment variable with the keys that clients must send, separated by spaces; unset asks for none."""

FILE_VARIABLE = "INGOT_API_KEY_FILE"
"""Environment variable with the path of a file of keys, as containers' secrets are handed over."""

SHORTEST = 16
"""Characters below which a key is called easy to guess."""

STRANGERS = 4096
"""Clients without a key whose use is remembered, the ones seen last."""


class Allowance(Config):
    """What one holder may use; None sets no bound.

    Args:
        requests: per minute.
        tokens: per minute, read and made together. An answer may overdraw it; the next has to wait then.
    """

    requests: int | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=0)


class Bucket:
    """A token bucket: holds a minute's allowance, refills steadily, may be overdrawn.

    Args:
        per_minute: what fits, and what flows in per minute.
        clock: seconds.

    Example:
        >>> now = [0.0]
        >>> bucket = Bucket(60, lambda: now[0])
        >>> bucket.take(61); bucket.wait()
        1.0
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = monotonic) -> None:
        self.size = float(per_minute)
        self._level = self.size
        self._clock = clock
        self._seen = clock()

    def take(self, amount: float) -> None:
        """Takes something out, below zero if need be."""
        self._fill()
        self._level -= amount

    def wait(self, amount: float = 0.0) -> float:
        """Returns the seconds until `amount` is in it, 0 where it is."""
        self._fill()
        return max(0.0, (amount - self._level) / self.size * 60)

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self.size, self._level + (now - self._seen) * self.size / 60)
        self._seen = now


@dataclass(eq=False)
class Holder:
    """Somebody who asks: the owner of a key, or an address without one.

    Args:
        name: what logs say.
        allowance: what it may use.
    """

    name: str
    allowance: Allowance
    clock: Callable[[], float] = monotonic
    _requests: Bucket | None = field(init=False)
    _tokens: Bucket | None = field(init=False)

    def __post_init__(self) -> None:
        of = self.allowance
        self._requests = None if of.requests is None else Bucket(of.requests, self.clock)
        self._tokens = None if of.tokens is None else Bucket(of.tokens, self.clock)

    def admit(self) -> None:
        """Counts one request.

        Raises:
            ApiError: 429, with the time to come back, where the minute's allowance is used up.
        """
        for bucket, amount, unit in ((self._requests, 1.0, "requests"), (self._tokens, 1.0, "tokens")):
            if bucket is not None and (seconds := bucket.wait(amount)) > 0:
                raise ApiError(
                    429,
                    f"this key may use {bucket.size:,.0f} {unit} a minute: try again in {seconds:.0f} s",
                    code="rate_limit_exceeded",
                    headers={"retry-after": str(max(1, int(seconds + 0.999)))},
                )
        if self._requests is not None:
            self._requests.take(1)

    def use(self, tokens: int) -> None:
        """Counts tokens that were read or made."""
        if self._tokens is not None:
            self._tokens.take(tokens)


class Keys:
    """The keys of a server.

    Args:
        keys: key to the name of its holder; empty lets everyone in.
        allowance: of every holder that `own` does not name.
        own: holder to an allowance of its own.
        clock: seconds.
    """

    def __init__(
        self,
        keys: Mapping[str, str] | None = None,
        allowance: Allowance | None = None,
        own: Mapping[str, Allowance] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._allowance = allowance or Allowance()
        self._clock = clock
        names = dict.fromkeys((keys or {}).values())
        holders = {name: Holder(name, (own or {}).get(name, self._allowance), clock) for name in names}
        self._holders = [(_digest(key.encode()), holders[name]) for key, name in (keys or {}).items()]
        self._strangers: OrderedDict[str, Holder] = OrderedDict()

    def __len__(self) -> int:
        return len(self._holders)

    def holder(self, sent: bytes) -> Holder | None:
        """Returns who a key belongs to, None where nobody's.

        All keys are compared, each in constant time and by its hash, so that the time taken tells
        neither how much of a guess is right nor how long the keys are.
        """
        digest, found = _digest(sent), None
        for known, holder in self._holders:
            if hmac.compare_digest(digest, known):
                found = holder
        return found

    def stranger(self, address: str) -> Holder:
        """Returns the holder that stands for an address, where no key is asked for."""
        holder = self._strangers.pop(address, None) or Holder(address, self._allowance, self._clock)
        self._strangers[address] = holder
        if len(self._strangers) > STRANGERS:
            self._strangers.popitem(last=False)
        return holder


def read_keys(
    file: Path | None = None,
    allowance: Allowance | None = None,
    given: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> tuple[Keys, list[str]]:
    """Collects the keys of a file and of the environment.

    A line of the file is `KEY` or `NAME KEY`, then `requests=N` and `tokens=N` where that holder has an
    allowance of its own; `#` begins a comment.

    Args:
        file: of keys; None takes the one that `INGOT_API_KEY_FILE` names, if it does.
        allowance: of every holder whose line names none.
        given: keys from the command line.
        environment: variables.

    Returns:
        The keys, and what their owner should be told about them.

    Raises:
        ConfigError: a file that cannot be read, or a line that cannot be understood (it is not shown).
    """
    told: list[str] = []
    keys: dict[str, str] = {}
    own: dict[str, Allowance] = {}
    path = file or (Path(environment[FILE_VARIABLE]) if environment.get(FILE_VARIABLE) else None)
    if path is not None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            mode = path.stat().st_mode
        except (OSError, UnicodeDecodeError) as error:
            what = f"the keys cannot be read ({type(error).__name__})"
            raise ConfigError(what, where=path, fix="give a text file with one key a line") from None
        if mode & (stat.S_IRGRP | stat.S_IROTH):
            told.append(f"others on this machine may read {path}: chmod 600 keeps the keys from them")
        _read_lines(lines, path, keys, own, allowance or Allowance())
        if not keys:
            fix = "write one key a line, or leave the file out to ask for none"
            raise ConfigError("holds no keys", where=path, fix=fix)
    words = [*environment.get(KEY_VARIABLE, "").split(), *given]
    for number, key in enumerate(words, start=1):
        keys.setdefault(key, "key" if len(words) == 1 else f"key{number}")
    if given:
        told.append(
            f"everyone on this machine sees keys on the command line: use {KEY_VARIABLE} or --key-file"
        )
    if short := sorted({name for key, name in keys.items() if len(key) < SHORTEST}):
        told.append(f"keys below {SHORTEST} characters can be guessed: {', '.join(short)}")
    return Keys(keys, allowance, own), told


def _read_lines(
    lines: Iterable[str], path: Path, keys: dict[str, str], own: dict[str, Allowance], base: Allowance
) -> None:
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        plain = [word for word in words if not re.fullmatch(r"(requests|tokens)=\d+", word)]
        limits = dict(word.split("=") for word in words if word not in plain)
        if len(plain) not in (1, 2):
            fix = "write KEY or NAME KEY, then requests=N tokens=N if need be"
            raise ConfigError("a line that is no key", where=f"{path}, line {number}", fix=fix)
        name = plain[0] if len(plain) == 2 else f"line{number}"
        if plain[-1] in keys:
            raise ConfigError(
                "a key that stands there twice", where=f"{path}, line {number}", fix="remove it"
            )
        keys[plain[-1]] = name
        if limits:
            own[name] = Allowance.parse({**base.plain(), **limits}, where=f"{path}, line {number}")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
