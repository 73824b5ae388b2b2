"""What became of a server under load: single answers, and what they come to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PERCENTILES = (50, 90, 95, 99)


@dataclass
class Sample:
    """One request; times in seconds.

    Args:
        scheduled: when it was to arrive.
        sent: when it was sent.
        status: of the answer; 0 where there was none.
        error: what went wrong beyond a status, or "".
        pieces: when each piece of text came.
        last: when all was over.
        prompt_tokens: as the server counts them; None where it does not say.
        answer_tokens: as the server counts them; None where it does not say.
        done: whether the stream came to its end.
    """

    scheduled: float
    sent: float
    status: int = 0
    error: str = ""
    pieces: list[float] = field(default_factory=list)
    last: float = 0.0
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    done: bool = False

    def event(self, data: str, now: float) -> None:
        """Takes one event of the stream.

        Args:
            data: what it says: JSON, or `[DONE]`.
            now: when it came.
        """
        if data == "[DONE]":
            self.done = True
            return
        try:
            values = json.loads(data)
        except ValueError:
            values = None
        if not isinstance(values, dict) or "error" in values:
            self.error = "error in stream"
            return
        if isinstance(usage := values.get("usage"), dict):
            self.prompt_tokens = usage.get("prompt_tokens")
            self.answer_tokens = usage.get("completion_tokens")
        if any(_says(choice) for choice in values.get("choices") or ()):
            self.pieces.append(now)

    def shift(self, began: float) -> None:
        """Counts its times from another moment on."""
        self.scheduled -= began
        self.sent -= began
        self.last -= began
        self.pieces = [at - began for at in self.pieces]

    @property
    def good(self) -> bool:
        """Whether it was answered, whole."""
        return self.status == 200 and not self.error

    @property
    def tokens(self) -> int:
        """Tokens of the answer: the server's count, else the pieces that came."""
        return len(self.pieces) if self.answer_tokens is None else self.answer_tokens

    @property
    def ttft(self) -> float | None:
        """Time to the first token, from the scheduled arrival on; None where no text came."""
        return self.pieces[0] - self.scheduled if self.pieces else None

    @property
    def whole(self) -> float:
        """Time to the end, from the scheduled arrival on."""
        return self.last - self.scheduled

    @property
    def per_token(self) -> float | None:
        """Mean time of each token after the first; None where there is none."""
        if len(self.pieces) < 2 or self.tokens < 2:
            return None
        return (self.pieces[-1] - self.pieces[0]) / (self.tokens - 1)

    def gaps(self) -> list[float]:
        """Returns the times between pieces that follow each other."""
        return [later - one for one, later in zip(self.pieces, self.pieces[1:], strict=False)]

    def meets(self, ttft: float, per_token: float) -> bool:
        """Returns whether it was answered within an objective; an answer of one token has no rate to miss."""
        first, each = self.ttft, self.per_token
        return self.good and first is not None and first <= ttft and (each is None or each <= per_token)


def _says(choice: Any) -> bool:
    if not isinstance(choice, dict):
        return False
    delta = choice.get("delta")
    said = delta if isinstance(delta, dict) else choice
    return any(said.get(name) for name in ("content", "text", "reasoning_content", "tool_calls"))


@dataclass
class Report:
    """What a load came to.

    Args:
        model: that was asked.
        path: where requests went.
        extra: fields beyond the usual ones that the server understood.
        config: what was asked for, as plain data.
        samples: every request that counts, its times from the start on.
    """

    model: str
    path: str
    extra: list[str]
    config: dict[str, Any]
    samples: list[Sample]

    def errors(self) -> dict[str, int]:
        """Returns how often each error came: statuses, and words for what has none."""
        bad = (one.error or str(one.status) for one in self.samples if not one.good)
        return dict(sorted(Counter(bad).items()))

    @property
    def availability(self) -> float:
        """The share of the requests that were answered whole; one that was refused was not."""
        return sum(one.good for one in self.samples) / len(self.samples) if self.samples else 0.0

    def objectives(self) -> dict[str, dict[str, Any]]:
        """Returns what was asked of availability and whole answers, what came, and whether it is enough."""
        found: dict[str, dict[str, Any]] = {}
        if (least := self.config.get("availability")) is not None:
            share = self.availability
            found["availability"] = {"target": least, "found": share, "met": share >= least}
        if (most := self.config.get("p95")) is not None:
            times = spread([one.whole for one in self.samples if one.good])
            late = None if times is None else times["p95"]
            found["p95"] = {"target": most, "found": late, "met": late is not None and late <= most}
        return found

    def plain(self) -> dict[str, Any]:
        """Returns the measurement as plain data; times are seconds."""
        good = [one for one in self.samples if one.good]
        span = max((one.last for one in self.samples), default=0.0)
        slo = (self.config["ttft_slo"], self.config["itl_slo"])
        met = [one for one in good if one.meets(*slo)]
        counted = [one.prompt_tokens for one in good if one.prompt_tokens is not None]

        def per_second(amount: float) -> float:
            return amount / span if span > 0 else 0.0

        return {
            "model": self.model,
            "path": self.path,
            "understood": self.extra,
            "config": self.config,
            "requests": len(self.samples),
            "answered": len(good),
            "availability": self.availability,
            "objectives": self.objectives(),
            "errors": self.errors(),
            "seconds": span,
            "requests_per_second": per_second(len(good)),
            "output_tokens": sum(one.tokens for one in good),
            "output_tokens_per_second": per_second(sum(one.tokens for one in good)),
            "tokens_counted_by": "server" if all(one.answer_tokens is not None for one in good) else "pieces",
            "prompt_tokens": sum(counted) if counted else None,
            "ttft": spread([one.ttft for one in good if one.ttft is not None]),
            "inter_token": spread([gap for one in good for gap in one.gaps()]),
            "per_token": spread([one.per_token for one in good if one.per_token is not None]),
            "end_to_end": spread([one.whole for one in good]),
            "goodput": {
                "requests_per_second": per_second(len(met)),
                "share": len(met) / len(self.samples) if self.samples else 0.0,
            },
            "sent_late": spread([one.sent - one.scheduled for one in self.samples]),
        }


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Returns mean, percentiles and maximum; None of nothing.

    Example:
        >>> spread([1.0, 3.0])["mean"]
        2.0
    """
    if not values:
        return None
    found = np.percentile(values, PERCENTILES)
    names = [f"p{number}" for number in PERCENTILES]
    return {
        "mean": float(np.mean(values)),
        **{name: float(value) for name, value in zip(names, found, strict=True)},
        "max": float(max(values)),
    }


HEADER = ["milliseconds", "mean", "p50", "p90", "p95", "p99", "max"]


def rows(values: dict[str, Any]) -> list[list[str]]:
    """Returns a table of times under `HEADER`.

    Args:
        values: a report as plain data.
    """
    names = {
        "time to first token": "ttft",
        "between pieces": "inter_token",
        "per token of an answer": "per_token",
        "whole answer": "end_to_end",
        "sent late by us": "sent_late",
    }
    table = []
    for words, key in names.items():
        found = values[key]
        cells = (
            ["-"] * len(HEADER[1:])
            if found is None
            else [f"{1000 * found[name]:,.1f}" for name in HEADER[1:]]
        )
        table.append([words, *cells])
    return table
