"""Conversations that outgrow the context: which messages stay, and which are cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ingot.errors import RequestError

Message = dict[str, str]


class Fitted(NamedTuple):
    """A conversation that fits, and what was cut from it, in order."""

    messages: list[Message]
    cut: list[Message]


def fit(messages: Sequence[Message], count: Callable[[list[Message]], int], room: int) -> Fitted:
    """Drops the oldest turns until the conversation fits.

    System messages at the start stay, and so does everything from the last user message on. A turn is
    a user message with what follows it until the next one, so that no answer stays without its question.

    Args:
        messages: `{"role": ..., "content": ...}` each.
        count: tokens of a conversation as the model will read it.
        room: tokens that it may have.

    Raises:
        RequestError: what has to stay is too long by itself.
    """
    messages = list(messages)
    start = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
    users = [i for i, message in enumerate(messages) if message["role"] == "user" and i > start]
    for begin in [start, *users]:
        kept = messages[:start] + messages[begin:]
        if (tokens := count(kept)) <= room:
            return Fitted(kept, messages[start:begin])
    raise RequestError(
        f"the last message has {tokens} tokens with what belongs to it, the context has room for {room}",
        where="conversation",
        fix="shorten it",
    )
