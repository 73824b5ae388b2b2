"""What a benchmark claims, and whether it is so.

A claim compares one figure of ours with a peer's (so many times better), or with a limit, or with both. A
claim about a peer that was not there is not judged: `met` is null, never true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import measure


@dataclass(frozen=True)
class Claim:
    """One comparison.

    Args:
        what: is compared, with whom.
        ours: our figure, or None where it could not be taken.
        peer: the other's, or None.
        unit: of both.
        better: which direction is better.
        times: how many times better than the peer ours must be, or None.
        limit: what ours must reach whatever the peer does, or None.

    Example:
        >>> Claim("speed", 12.0, 4.0, "tokens/s", "higher", times=2.5).met
        True
    """

    what: str
    ours: float | None
    peer: float | None
    unit: str
    better: Literal["higher", "lower"]
    times: float | None = None
    limit: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times better ours is; above 1 is better for us."""
        if self.ours is None or self.peer is None:
            return None
        above, below = (self.ours, self.peer) if self.better == "higher" else (self.peer, self.ours)
        return above / below if below else None

    @property
    def target(self) -> str:
        """The target in words."""
        words = [] if self.times is None else [f"{self.times:g} times the peer"]
        sign = ">=" if self.better == "higher" else "<="
        words += [] if self.limit is None else [f"{sign} {self.limit:g} {self.unit}"]
        return " and ".join(words) or "none"

    @property
    def met(self) -> bool | None:
        """Whether it is so; by the limit alone where there is one and no peer; else None without a peer."""
        judged = []
        if self.times is not None and self.ratio is not None:
            judged.append(self.ratio >= self.times)
        if self.limit is not None and self.ours is not None:
            judged.append(self.ours >= self.limit if self.better == "higher" else self.ours <= self.limit)
        return all(judged) if judged else None

    def plain(self) -> dict[str, Any]:
        """Returns the claim as plain data."""
        names = ("what", "ours", "peer", "unit", "better", "ratio", "target", "met")
        return {name: getattr(self, name) for name in names}


def result(
    name: str,
    claims: Sequence[Claim],
    spread: Mapping[str, Any],
    details: Mapping[str, Any],
    *,
    quick: bool,
    packages: Sequence[str] = (),
) -> dict[str, Any]:
    """Makes the JSON object that a benchmark prints.

    Args:
        name: of the benchmark.
        claims: the first is the headline; `met` is true only where every one is.
        spread: least and largest figure of each side's rounds.
        details: anything else worth keeping.
        quick: whether this is a smoke run, whose figures are not judged.
        packages: further ones whose versions matter.
    """
    first = claims[0]
    verdicts = [claim.met for claim in claims if claim.target != "none"]
    met = False if False in verdicts else None if None in verdicts or not verdicts else True
    return {
        "name": name,
        "ours": first.ours,
        "peer": first.peer,
        "unit": first.unit,
        "ratio": first.ratio,
        "target": "; ".join(f"{claim.what}: {claim.target}" for claim in claims),
        "met": None if quick else met,
        "spread": dict(spread),
        "hardware": measure.hardware(),
        "versions": measure.versions(*packages),
        "command": measure.command_line(),
        "details": {"quick": quick, "claims": [claim.plain() for claim in claims], **details},
    }
