"""The autoscaler: Kubernetes' arithmetic on known cases, and what it does to loads."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingot.deploy.autoscaling import BEHAVIOR, Autoscaler, Trace, simulate
from ingot.deploy.settings import Deployment

ANSWER = 10.0


def test_the_wish_is_the_total_over_the_target() -> None:
    free = {
        way: {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 10_000 if way == "scaleUp" else 100, "periodSeconds": 15}
            ],
        }
        for way in ("scaleUp", "scaleDown")
    }
    for copies, total, wanted in [
        (1, 10, 1),
        (1, 10.9, 1),
        (1, 11.5, 2),
        (4, 100, 10),
        (10, 25, 3),
        (3, 0, 1),
    ]:
        assert Autoscaler(10, 1, 50, free).decide(0, copies, total) == wanted
    assert Autoscaler(10, 2, 5, free).decide(0, 2, 1000) == 5
    assert Autoscaler(10, 2, 5, free).decide(0, 5, 0) == 2


def test_up_at_most_fourfold_or_by_four_every_fifteen_seconds() -> None:
    scaler = Autoscaler(10, 1, 100)
    assert scaler.decide(0, 1, 10_000) == 5  # four more are more than four times one
    assert scaler.decide(15, 5, 10_000) == 20
    assert scaler.decide(20, 20, 10_000) == 20  # the period's share is used up
    assert scaler.decide(30, 20, 10_000) == 80
    assert scaler.decide(45, 80, 10_000) == 100


def test_down_only_after_two_minutes_and_then_by_half() -> None:
    scaler = Autoscaler(10, 1, 100)
    copies, seen = 40, []
    scaler.decide(0, copies, 400)
    for now in range(15, 600, 15):
        copies = scaler.decide(now, copies, 10)
        seen.append((now, copies))
    assert all(copies == 40 for now, copies in seen if now < 120)
    assert next(now for now, copies in seen if copies < 40) <= 135
    before = 40
    for now, copies in seen:
        minute = [count for when, count in seen if now - 60 < when <= now]
        assert copies >= max(minute[0], copies) // 2 and copies <= before
        before = copies
    assert seen[-1][1] == 1


def test_a_short_dip_takes_nothing_away() -> None:
    scaler = Autoscaler(10, 1, 100)
    copies = 10
    for now in range(0, 900, 15):
        copies = scaler.decide(now, copies, 10 if now % 105 == 0 else 100)
        assert copies == 10


@given(
    st.lists(st.floats(0, 1e5, allow_nan=False), min_size=1, max_size=60),
    st.integers(1, 5),
    st.integers(0, 30),
    st.integers(1, 50),
)
def test_never_outside_its_bounds_nor_faster_than_its_rules(
    totals: list[float], least: int, more: int, target: int
) -> None:
    scaler = Autoscaler(target, least, least + more)
    copies = least
    for index, total in enumerate(totals):
        wanted = scaler.decide(15 * index, copies, total)
        assert least <= wanted <= least + more
        assert wanted <= max(4 * copies, copies + 4) and wanted >= copies // 2
        copies = wanted


def rate_of(deployment: Deployment, copies: float) -> float:
    """Requests a second that keep so many copies at their target."""
    return copies * deployment.target / ANSWER


@pytest.mark.parametrize("start_seconds", [5, 15, 20])
def test_ten_times_the_load_has_its_copies_within_a_minute(
    deployment: Deployment, start_seconds: int
) -> None:
    before, after = rate_of(deployment, 1.5), rate_of(deployment, 15)
    jump = 120

    def play(seconds: int) -> Trace:
        return simulate(
            deployment,
            lambda now: before if now < jump else after,
            seconds,
            answer_seconds=ANSWER,
            start_seconds=start_seconds,
        )

    trace = play(400)
    assert trace.ready[jump] == 2
    needed = math.ceil(after * ANSWER / deployment.slots)  # fewer could not answer as fast as requests come
    assert trace.ready[jump + 60] >= needed > 5 * trace.ready[jump]
    assert trace.dropped == 0
    # What is refused (and told when to come again) is refused within that minute, never after it.
    assert 0 < play(jump + 60).refused == trace.refused < 0.1 * trace.arrived


def test_going_down_drops_nothing(deployment: Deployment) -> None:
    high, low = rate_of(deployment, 15), rate_of(deployment, 1)
    trace = simulate(deployment, lambda now: high if now < 400 else low, 1400, answer_seconds=50)
    assert max(trace.copies) > 10 and trace.copies[-1] < 10
    assert trace.dropped == 0
    unfinished = trace.busy[-1]
    assert trace.arrived == trace.answered + trace.refused + trace.dropped + unfinished


def test_without_time_to_drain_requests_are_dropped(deployment: Deployment) -> None:
    """The promise is the grace period's: without it the same load loses answers."""
    hasty = deployment.model_copy(update={"drain_seconds": 1, "settle_seconds": 0})
    high, low = rate_of(deployment, 15), rate_of(deployment, 1)
    trace = simulate(hasty, lambda now: high if now < 400 else low, 1400, answer_seconds=50)
    assert trace.dropped > 0


def test_a_full_queue_refuses(deployment: Deployment) -> None:
    small = deployment.model_copy(update={"max_replicas": 2})
    trace = simulate(small, lambda now: 50.0, 120, answer_seconds=ANSWER)
    assert trace.refused > 0 and trace.dropped == 0
    assert max(trace.busy) <= 2 * (deployment.slots + 64)


def test_a_steady_load_stays_as_it_is(deployment: Deployment) -> None:
    trace = simulate(deployment, lambda now: rate_of(deployment, 6), 1800, answer_seconds=ANSWER)
    assert len(set(trace.copies[600:])) == 1


def test_the_rules_are_in_the_manifests_range() -> None:
    for rules in BEHAVIOR.values():
        assert 0 <= rules["stabilizationWindowSeconds"] <= 3600
        assert all(0 < policy["periodSeconds"] <= 1800 for policy in rules["policies"])
