"""Traces of load: files that say when which requests came, and such a file of a made-up day.

```
{"at": 0.813, "prompt_tokens": 57, "output_tokens": 12}      seconds from the start, and lengths
```
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from ingot.atomic import write_atomic
from ingot.bench.arrivals import Arrival, varying
from ingot.config import Config
from ingot.errors import DataError

LONGEST = 6
"""How many times the middle length a length may be."""


class TraceConfig(Config):
    """A day of requests, as long or as short as it shall be.

    Args:
        seconds: from one night to the next.
        rate: requests per second on average.
        depth: how far the rate falls at night and rises by day, as a share of the average.
        prompt_tokens: half of the prompts are shorter.
        output_tokens: half of the answers are shorter.
        sigma: of the lengths' logarithms: how much longer than those the long ones are.
        seed: the same one makes the same day.
    """

    seconds: float = Field(default=1800.0, gt=0)
    rate: float = Field(default=1.2, gt=0)
    depth: float = Field(default=0.6, ge=0, le=1)
    prompt_tokens: int = Field(default=64, ge=1)
    output_tokens: int = Field(default=16, ge=1)
    sigma: float = Field(default=0.6, ge=0, le=2)
    seed: int = 0


def make_trace(config: TraceConfig) -> list[Arrival]:
    """Returns a day of requests: few at night, many at noon, lengths with a long tail (log-normal).

    Example:
        >>> len(make_trace(TraceConfig(seconds=1000, rate=2, depth=0))) // 100
        20
    """

    def rate(at: float) -> float:
        return config.rate * (1 - config.depth * math.cos(2 * math.pi * at / config.seconds))

    chance = random.Random(f"{config.seed} lengths")

    def length(middle: int) -> int:
        drawn = middle * math.exp(chance.gauss(0, config.sigma))
        return min(max(1, round(drawn)), LONGEST * middle)

    times = varying(rate, config.rate * (1 + config.depth), config.seconds, config.seed)
    return [Arrival(at, length(config.prompt_tokens), length(config.output_tokens)) for at in times]


def write_trace(path: Path, trace: Sequence[Arrival]) -> None:
    """Writes a trace, a line for each request."""
    lines = [json.dumps({**one._asdict(), "at": round(one.at, 3)}) for one in trace]
    write_atomic(path, "\n".join([*lines, ""]))


def read_trace(path: Path, speed: float = 1.0) -> list[Arrival]:
    """Reads a trace; other fields than the three are passed over.

    Args:
        path: of the file.
        speed: how many times as fast it shall go by.

    Returns:
        The requests by time.

    Raises:
        DataError: there is no such file, it is empty, or a line of it is no request.
    """
    fix = 'write lines of {"at": 1.5, "prompt_tokens": 64, "output_tokens": 16}'
    found: list[Arrival] = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    found.append(_arrival(json.loads(line), speed))
                except (ValueError, TypeError, KeyError, RecursionError):
                    raise DataError("the line is no request", where=f"{path}:{number}", fix=fix) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the trace cannot be read ({error})", where=path, fix=fix) from None
    if not found:
        raise DataError("the trace is empty", where=path, fix=fix)
    return sorted(found)


def _arrival(values: Any, speed: float) -> Arrival:
    at, *tokens = (values[name] for name in Arrival._fields)
    sound = isinstance(at, int | float) and not isinstance(at, bool) and 0 <= at < math.inf
    if not sound or not all(type(one) is int and one >= 1 for one in tokens):
        raise ValueError
    return Arrival(at / speed, *tokens)
