"""The object of `/v1/responses` and the events that tell how it grows.

```
response.created, response.in_progress
  response.output_item.added            a message                 or a call
    response.content_part.added
      response.output_text.delta ...                              response.function_call_arguments.delta ...
      response.output_text.done                                   response.function_call_arguments.done
    response.content_part.done
  response.output_item.done
response.completed | response.incomplete | response.failed
```
"""

from __future__ import annotations

import uuid
from typing import Any

from ingot.serve.counts import response_usage
from ingot.serve.protocol import ApiError, event
from ingot.serve.tool_calls import Reader
from ingot.serve.voices import chat_logprobs, read
from ingot.serve.worker import Piece
from ingot.tokenizer import Tokenizer

Fields = dict[str, Any]


class Speech:
    """One response, growing piece by piece.

    Args:
        response: the object with all that is known of it before the answer.
        tokenizer: writes tokens beside their log-probabilities; None where nobody asked for them.
        reader: finds calls of tools; None where none were offered.
        prompt_tokens: to count.
    """

    def __init__(
        self, response: Fields, tokenizer: Tokenizer | None, reader: Reader | None, prompt_tokens: int
    ) -> None:
        self.response = response
        self._prompt_tokens = prompt_tokens
        self._tokenizer = tokenizer
        self._reader = reader
        self._number = 0
        self._item: Fields | None = None  # the one that grows
        self._entries: list[Fields] = []  # log-probabilities that no delta has carried yet
        self._made = 0
        self._cached = 0

    @property
    def output(self) -> list[Fields]:
        """The items that are there."""
        items: list[Fields] = self.response["output"]
        return items

    def open(self) -> list[bytes]:
        """Returns the first events."""
        return [
            self._event(f"response.{kind}", response=self.response) for kind in ("created", "in_progress")
        ]

    def add(self, piece: Piece) -> list[bytes]:
        """Takes a piece of the answer. Returns the events that it makes."""
        self._made += len(piece.tokens)
        self._cached = piece.cached
        if self._tokenizer is not None:
            self._entries += chat_logprobs(self._tokenizer, piece)
        events: list[bytes] = []
        for said in read(self._reader, piece):
            if said.call is None:
                events += self._message() + self._text(said.text)
            elif said.name is not None:
                events += self._close("completed") + self._call(said.name)
            else:
                events += self._arguments(said.arguments)
        if piece.finish_reason:
            events += self._finish(piece.finish_reason)
        return events

    def fail(self, error: ApiError) -> list[bytes]:
        """Returns the events of an answer that broke off."""
        events = self._close("incomplete")
        what = {"code": "server_error", "message": error.body["error"]["message"]}
        self.response |= {"status": "failed", "error": what}
        return [*events, self._event("response.failed", response=self.response)]

    def _finish(self, reason: str) -> list[bytes]:
        events = [] if self.output else self._message()
        whole = reason == "stop"
        status = "completed" if whole else "incomplete"
        events += self._close(status)
        self.response |= {
            "status": status,
            "usage": response_usage(self._prompt_tokens, self._made, self._cached),
        }
        if not whole:
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        return [*events, self._event(f"response.{status}", response=self.response)]

    def _message(self) -> list[bytes]:
        """Begins a message, unless one is open."""
        if self._item is not None and self._item["type"] == "message":
            return []
        events = self._close("completed")
        item: Fields = {"id": _name("msg"), "type": "message", "role": "assistant", "content": []}
        events += self._begin(item)
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        item["content"].append(part)
        return [*events, self._event("response.content_part.added", **self._place(), part=part)]

    def _text(self, text: str) -> list[bytes]:
        assert self._item is not None
        entries, self._entries = self._entries, []
        part = self._item["content"][0]
        part["text"] += text
        part["logprobs"] += entries
        fields = {**self._place(), "delta": text, "logprobs": entries}
        return [self._event("response.output_text.delta", **fields)]

    def _call(self, name: str) -> list[bytes]:
        item = {"id": _name("fc"), "type": "function_call", "call_id": _name("call")}
        self._entries = []
        return self._begin({**item, "name": name, "arguments": ""})

    def _arguments(self, text: str) -> list[bytes]:
        assert self._item is not None
        self._item["arguments"] += text
        place = self._place()
        del place["content_index"]
        return [self._event("response.function_call_arguments.delta", **place, delta=text)]

    def _begin(self, item: Fields) -> list[bytes]:
        item["status"] = "in_progress"
        self._item = item
        self.output.append(item)
        number = len(self.output) - 1
        return [self._event("response.output_item.added", output_index=number, item=item)]

    def _close(self, status: str) -> list[bytes]:
        """Ends the item that is open, if one is."""
        item, place = self._item, self._place()
        if item is None:
            return []
        item["status"] = status
        if item["type"] == "message":
            part = item["content"][0]
            part["logprobs"] += self._entries
            text = {"text": part["text"], "logprobs": part["logprobs"]}
            events = [
                self._event("response.output_text.done", **place, **text),
                self._event("response.content_part.done", **place, part=part),
            ]
        else:
            del place["content_index"]
            said = {"name": item["name"], "arguments": item["arguments"]}
            events = [self._event("response.function_call_arguments.done", **place, **said)]
        self._entries, self._item = [], None
        number = len(self.output) - 1
        return [*events, self._event("response.output_item.done", output_index=number, item=item)]

    def _place(self) -> Fields:
        item = self._item or {"id": ""}
        return {"item_id": item["id"], "output_index": len(self.output) - 1, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return event({"type": kind, "sequence_number": self._number - 1, **fields}, kind)


def _name(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"
