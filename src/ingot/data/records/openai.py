"""OpenAI's messages: `messages` of `{"role", "content"}`, which TRL calls conversational."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingot.data.records.format import Format
from ingot.data.records.messages import check_order, messages
from ingot.data.records.record import Chat


def _read(row: Mapping[str, Any]) -> Chat:
    found = messages(row["messages"], "messages")
    check_order(found, "messages", "chat")
    return Chat(found)


MESSAGES = Format(
    "messages",
    "messages of role and content",
    Chat,
    ("messages",),
    (),
    _read,
    lambda record: {"messages": record.messages},
)
