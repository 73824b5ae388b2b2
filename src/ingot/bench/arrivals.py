"""When requests arrive and how long they are: evenly by chance, in bursts, or as somebody wrote down.

All is drawn before the first request is sent, so that a server's slowness changes nothing about it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import NamedTuple

from pydantic import Field

from ingot.config import Config


class Arrival(NamedTuple):
    """A request to come.

    Args:
        at: seconds from the start.
        prompt_tokens: of its prompt, about.
        output_tokens: of its answer, at most.
    """

    at: float
    prompt_tokens: int
    output_tokens: int


class Bursts(Config):
    """Times of a higher rate between times of the usual one.

    Args:
        times: how many times the usual rate it is.
        every: seconds from one burst's beginning to the next one's.
        seconds: that one lasts, at the end of that time.
    """

    times: float = Field(default=5.0, ge=1)
    every: float = Field(default=60.0, gt=0)
    seconds: float = Field(default=10.0, gt=0)

    def at(self, seconds: float) -> float:
        """Returns how many times the usual rate it is at a moment.

        Example:
            >>> bursts = Bursts(times=5, every=60, seconds=10)
            >>> bursts.at(49), bursts.at(51), bursts.at(61)
            (1.0, 5.0, 1.0)
        """
        return self.times if seconds % self.every >= self.every - self.seconds else 1.0


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Returns the times of a Poisson process, in seconds from the start.

    Args:
        rate: arrivals per second on average.
        seconds: how long it lasts.
        seed: the same seed gives the same times.

    Example:
        >>> times = arrivals(100, 1, seed=0)
        >>> times == sorted(times)
        True
    """
    chance, times, now = random.Random(f"{seed} arrivals"), [], 0.0
    while (now := now + chance.expovariate(rate)) < seconds:
        times.append(now)
    return times


def varying(rate: Callable[[float], float], most: float, seconds: float, seed: int) -> list[float]:
    """Returns the times of a Poisson process whose rate changes.

    Those of a process at the highest rate stay with the chance that the rate has at their moment: thinning
    (Lewis and Shedler 1979, Naval Research Logistics 26, 403).

    Args:
        rate: arrivals per second at a moment.
        most: no rate is above it.
        seconds: how long it lasts.
        seed: the same seed gives the same times.
    """
    chance = random.Random(f"{seed} thinning")
    return [at for at in arrivals(most, seconds, seed) if chance.random() * most < rate(at)]


def lengths(
    prompt_tokens: float, output_tokens: float, spread: float, label: str
) -> Iterator[tuple[int, int]]:
    """Yields lengths of prompts and answers without end, evenly around the given ones.

    Args:
        prompt_tokens: of a prompt in the middle.
        output_tokens: of an answer in the middle.
        spread: how far they lie around these, as a share of them.
        label: the same one gives the same lengths.
    """
    chance = random.Random(label)
    for tokens in repeat((prompt_tokens, output_tokens)):
        prompt, output = (one * chance.uniform(1 - spread, 1 + spread) for one in tokens)
        yield max(1, round(prompt)), max(1, round(output))
