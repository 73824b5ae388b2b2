"""Kept responses: what `previous_response_id` goes on from, in bounded memory."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from ingot.serve.protocol import ApiError, short


@dataclass(frozen=True)
class Kept:
    """One response.

    Args:
        response: the object that was sent.
        messages: the conversation with its answer, as chats have them; instructions left out.
        owner: who may have it.
        size: bytes that it counts for.
    """

    response: dict[str, Any]
    messages: list[dict[str, Any]]
    owner: str
    size: int


class Shelf:
    """Keeps responses until they are too many or too large together; the oldest go first.

    Used in the event loop only.

    Args:
        most: responses.
        room: bytes of them all, as JSON.
    """

    def __init__(self, most: int = 1024, room: int = 2**26) -> None:
        self.most = most
        self.room = room
        self.taken = 0
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def keep(self, response: dict[str, Any], messages: list[dict[str, Any]], owner: str) -> None:
        """Keeps a response; one that is larger than all the room is not kept."""
        size = len(json.dumps([response, messages], ensure_ascii=False).encode("utf-8", "replace"))
        if size > self.room:
            return
        self._kept[response["id"]] = Kept(response, messages, owner, size)
        self.taken += size
        while len(self._kept) > self.most or self.taken > self.room:
            self.taken -= self._kept.popitem(last=False)[1].size

    def find(self, name: str, owner: str, param: str | None = None) -> Kept:
        """Returns a response.

        Raises:
            ApiError: 404, it is not kept (any more), or is somebody else's.
        """
        found = self._kept.get(name)
        if found is None or found.owner != owner:
            what = f"no response '{short(name)}' is kept here: send the whole conversation"
            raise ApiError(404, what, param=param, code="response_not_found")
        return found

    def drop(self, name: str, owner: str) -> None:
        """Forgets a response.

        Raises:
            ApiError: 404, it is not there.
        """
        self.taken -= self.find(name, owner).size
        del self._kept[name]
