"""Budgets: minutes, hours and dollars mean the same time, and what cannot be known is refused."""

from __future__ import annotations

from typing import Any

import pytest

from ingot.errors import ConfigError
from ingot.train.budget import DEVICES, SHARE_OF_PEAK, budget


def test_minutes_hours_and_dollars_buy_the_same() -> None:
    assert budget(minutes=90).seconds == budget(hours=1.5).seconds == 5400
    paid = budget(dollars=12, device="h200", gpus=4, price=2)
    assert paid.seconds == pytest.approx(5400) and paid.cost(5400) == pytest.approx(12)
    assert paid.plain()["price"] == "given"
    assert "assumed" in budget(device="h200").plain()["price"]
    assert budget().seconds is None and budget(hours=1).cost(3600) is None
    assert budget(hours=1, price=0.5).cost(7200) == 1.0  # this machine has a price too, if one is given


def test_a_named_device_gives_a_share_of_its_dense_peak() -> None:
    assert budget(device="H200").flops_per_second() == pytest.approx(SHARE_OF_PEAK * 989e12)
    eight = budget(device="h200", gpus=8).flops_per_second()
    assert eight is not None and 7 < eight / (SHARE_OF_PEAK * 989e12) < 8
    assert budget(device="cuda:1").flops_per_second() is None
    assert all(1e13 < device.peak < 3e15 and device.memory > 2e10 for device in DEVICES.values())


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"minutes": 3, "hours": 1}, "--minutes 3 and --hours 1"),
        ({"minutes": 0}, "0 is not above zero"),
        ({"hours": float("inf")}, "inf is not above zero"),
        ({"dollars": 5}, "unknown time"),
        ({"dollars": 5, "device": "h2000"}, "did you mean 'h200'"),
        ({"gpus": 8}, "is this machine"),
        ({"device": "a100", "gpus": 0}, "0 is not above zero"),
        ({"device": "a100", "price": -1}, "-1 is not above zero"),
    ],
)
def test_what_cannot_be_known_is_refused_with_the_values(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        budget(**asked)
