"""Fitting conversations: what is kept, what is cut, and that the rest is always said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingot.errors import RequestError
from ingot.inference.conversation import fit


def said(role: str, size: int) -> dict[str, str]:
    return {"role": role, "content": "x" * size}


def size(messages: list[dict[str, str]]) -> int:
    return sum(len(message["content"]) + 2 for message in messages)


def test_what_fits_stays() -> None:
    messages = [said("system", 3), said("user", 3), said("assistant", 3), said("user", 3)]
    assert fit(messages, size, 100) == (messages, [])


def test_the_oldest_turn_goes_first_and_whole() -> None:
    messages = [
        said("system", 5),
        said("user", 10),
        said("assistant", 10),
        said("user", 11),
        said("assistant", 11),
        said("user", 12),
    ]
    kept, cut = fit(messages, size, size(messages) - 1)
    assert kept == [messages[0], *messages[3:]]
    assert cut == messages[1:3]


def test_system_and_last_question_stay_to_the_end() -> None:
    messages = [said("system", 5), said("user", 50), said("assistant", 50), said("user", 5)]
    assert fit(messages, size, 14) == ([messages[0], messages[3]], messages[1:3])


def test_a_last_message_that_is_too_long_is_refused_with_both_numbers() -> None:
    with pytest.raises(RequestError, match=r"52 tokens.*40"):
        fit([said("user", 3), said("assistant", 3), said("user", 50)], size, 40)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(2, 200))
def test_nothing_is_lost_or_reordered(sizes: list[int], room: int) -> None:
    turns = [said("user" if i % 2 == 0 else "assistant", n) for i, n in enumerate(sizes)]
    messages = [said("system", 1), *turns]
    try:
        kept, cut = fit(messages, size, room)
    except RequestError:
        last = max(i for i, message in enumerate(messages) if message["role"] == "user")
        assert size([messages[0], *messages[last:]]) > room
        return
    assert [kept[0], *cut, *kept[1:]] == messages
    assert size(kept) <= room
