"""How many copies: the autoscaler's rules, its arithmetic, and a model of what they do to a load.

The arithmetic is that of Kubernetes' HorizontalPodAutoscaler (autoscaling/v2) over one external metric with
an average value per copy, which is also what KEDA asks of it: `ceil(total / target)`, no change within the
tolerance, the highest wish of the stabilization window before going down, then the policies of each
direction over their periods. With it a change of the rules can be tried on a load before a cluster is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ingot.deploy.settings import Deployment

TOLERANCE = 0.1
"""How far the metric may be off its target before anything happens (the controller's default)."""

SYNC_SECONDS = 15
"""How often the controller looks (its default)."""

BEHAVIOR: dict[str, Any] = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Percent", "value": 300, "periodSeconds": 15},
            {"type": "Pods", "value": 4, "periodSeconds": 15},
        ],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 120,
        "selectPolicy": "Max",
        "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
    },
}
"""Up fourfold every 15 seconds, down by half a minute, and only after two minutes of wanting to."""


@dataclass
class Autoscaler:
    """The controller of one deployment.

    Args:
        target: of the metric, per copy.
        least: copies at least.
        most: copies at most.
        behavior: rules, as the manifest holds them.
    """

    target: float
    least: int
    most: int
    behavior: dict[str, Any] = field(default_factory=lambda: BEHAVIOR)
    _wishes: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def decide(self, now: float, copies: int, total: float) -> int:
        """Returns how many copies there should be.

        Args:
            now: seconds; never less than at the call before.
            copies: how many there are.
            total: the metric, over all copies.
        """
        if not self._wishes:
            self._wishes.append((now, copies))  # what it finds counts as its first wish
        off = total / (self.target * copies) - 1
        wish = copies if abs(off) <= TOLERANCE else math.ceil(total / self.target)
        wish = min(max(wish, self.least), self.most)
        self._wishes.append((now, wish))
        wish = self._stable(now, copies, wish)
        if wish > copies:
            wish = min(wish, max(copies, self._limit(now, copies, "scaleUp")))
        elif wish < copies:
            wish = max(wish, min(copies, self._limit(now, copies, "scaleDown")))
        if wish != copies:
            self._changes.append((now, wish - copies))
        return wish

    def _stable(self, now: float, copies: int, wish: int) -> int:
        """The safest of the wishes of late: the lowest on the way up, the highest on the way down."""

        def window(way: str) -> list[int]:
            seconds = self.behavior[way]["stabilizationWindowSeconds"]
            return [one for when, one in self._wishes if when > now - seconds] + [wish]

        up, down = min(window("scaleUp")), max(window("scaleDown"))
        return min(max(copies, up), down)

    def _limit(self, now: float, copies: int, way: str) -> int:
        """The farthest that the policies of one direction allow."""
        sign = 1 if way == "scaleUp" else -1
        allowed = []
        for policy in self.behavior[way]["policies"]:
            recent = [
                by for when, by in self._changes if when > now - policy["periodSeconds"] and by * sign > 0
            ]
            start = copies - sum(recent)
            if policy["type"] == "Pods":
                allowed.append(start + sign * policy["value"])
            else:
                share = start * (1 + sign * policy["value"] / 100)
                allowed.append(math.ceil(share) if sign > 0 else int(share))
        farthest = self.behavior[way]["selectPolicy"] == "Max"
        return max(allowed) if farthest == (sign > 0) else min(allowed)


@dataclass(eq=False)
class _Copy:
    """One replica: from when it is ready, when each answer under way ends (seconds), and how many wait."""

    ready: float
    answering: list[float] = field(default_factory=list)
    waiting: int = 0
    ending: float = math.inf

    @property
    def busy(self) -> int:
        return len(self.answering) + self.waiting


@dataclass(frozen=True)
class Trace:
    """What became of a load.

    Args:
        copies: how many the deployment was told to have, per second.
        ready: how many of them took requests, per second.
        busy: requests under way or waiting, per second.
        arrived: requests that came.
        answered: requests that were answered to their end.
        refused: requests that found every queue full (429 with Retry-After).
        dropped: requests that a copy still had when it was killed.
    """

    copies: list[int]
    ready: list[int]
    busy: list[int]
    arrived: int
    answered: int
    refused: int
    dropped: int


def simulate(
    deployment: Deployment,
    load: Callable[[int], float],
    seconds: int,
    answer_seconds: float = 10.0,
    start_seconds: float = 10.0,
    metric_seconds: int = 5,
    queue: int = 64,
) -> Trace:
    """Plays a load against the deployment's autoscaler, second by second.

    Requests arrive evenly, go to the least busy copy, and take `answer_seconds` once they have a slot. A
    copy that is told to end takes requests for `settle_seconds` more, then answers what it has, and is
    killed after `grace_seconds`.

    Args:
        deployment: copies, slots and target.
        load: requests a second at each second.
        seconds: how long to play.
        answer_seconds: of one answer in its slot.
        start_seconds: from the order of a copy to its first request.
        metric_seconds: how old the metric is that the controller sees.
        queue: requests that may wait at one copy.

    Example:
        >>> one = Deployment(name="demo", source="/srv/demo")
        >>> simulate(one, lambda second: 1.0, 60).copies[-1]
        2
    """
    scaler = Autoscaler(deployment.target, deployment.min_replicas, deployment.max_replicas)
    running = [_Copy(ready=0.0) for _ in range(deployment.min_replicas)]
    ending: list[_Copy] = []
    told: list[int] = []
    ready: list[int] = []
    busy: list[int] = []
    due, arrived, answered, refused, dropped = 0.0, 0, 0, 0, 0
    for now in range(seconds):
        for copy in running + ending:
            left = [end for end in copy.answering if end > now]
            answered += len(copy.answering) - len(left)
            taken = min(copy.waiting, deployment.slots - len(left))
            copy.waiting -= taken
            copy.answering = left + [now + answer_seconds] * taken
        killed = [one for one in ending if now >= one.ending + deployment.grace_seconds]
        dropped += sum(one.busy for one in killed)
        ending = [one for one in ending if one not in killed]
        due += load(now)
        while due >= 1:
            due -= 1
            arrived += 1
            settling = [one for one in ending if now < one.ending + deployment.settle_seconds]
            open_to = [one for one in running + settling if one.ready <= now]
            copy = min(open_to, key=lambda one: one.busy)
            if len(copy.answering) < deployment.slots:
                copy.answering.append(now + answer_seconds)
            elif copy.waiting < queue:
                copy.waiting += 1
            else:
                refused += 1
        busy.append(sum(one.busy for one in running + ending))
        if now and now % SYNC_SECONDS == 0:
            wanted = scaler.decide(now, len(running), busy[max(0, now - metric_seconds)])
            running += [_Copy(ready=now + start_seconds) for _ in range(wanted - len(running))]
            while len(running) > wanted:
                gone = running.pop()
                gone.ending = now
                ending.append(gone)
        told.append(len(running))
        ready.append(sum(one.ready <= now for one in running))
    return Trace(told, ready, busy, arrived, answered, refused, dropped)
