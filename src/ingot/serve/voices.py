"""Voices: each words one answer as OpenAI's objects, piece by piece; whole and streamed agree by that."""

from __future__ import annotations

import codecs
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ingot.serve.tool_calls import Reader, Said
from ingot.serve.worker import Piece
from ingot.tokenizer import Tokenizer

LOWEST = -9999.0
"""Stands for the logarithm of zero, which JSON has no word for."""

Fields = dict[str, Any]


class Form(NamedTuple):
    """The names that a route gives its objects."""

    prefix: str
    whole: str
    chunk: str


CHAT = Form("chatcmpl", "chat.completion", "chat.completion.chunk")
COMPLETION = Form("cmpl", "text_completion", "text_completion")


class Voice(Protocol):
    """Words one answer."""

    def opening(self) -> list[Fields]:
        """What a stream says before the first piece."""
        ...

    def add(self, piece: Piece) -> list[Fields]:
        """Takes a piece. Returns what chunks say of it, at least one where it is the last."""
        ...

    def whole(self) -> Fields:
        """All of the answer, once the last piece is taken."""
        ...

    def finish(self, reason: str) -> str:
        """Why the answer ended, in the route's words."""
        ...


class ChatVoice:
    """Words an answer of `/v1/chat/completions`.

    Args:
        tokenizer: writes tokens beside their log-probabilities; None where nobody asked for them.
        reader: finds calls of tools; None where none were offered.
    """

    def __init__(self, tokenizer: Tokenizer | None, reader: Reader | None) -> None:
        self._tokenizer = tokenizer
        self._reader = reader
        self._content = ""
        self._calls: list[Fields] = []
        self._entries: list[Fields] = []

    def opening(self) -> list[Fields]:
        """The role, which clients expect in the first delta."""
        return [{"delta": {"role": "assistant", "content": ""}, "logprobs": None}]

    def add(self, piece: Piece) -> list[Fields]:
        """More of the message, one delta for each thing said."""
        deltas = [self._delta(said) for said in read(self._reader, piece)]
        logprobs = None
        if self._tokenizer is not None:
            entries = chat_logprobs(self._tokenizer, piece)
            self._entries += entries
            logprobs = {"content": entries, "refusal": None}
        if not deltas and (piece.finish_reason or (logprobs and piece.tokens)):
            deltas = [{}]
        bodies: list[Fields] = [{"delta": delta, "logprobs": None} for delta in deltas]
        if bodies:
            bodies[0]["logprobs"] = logprobs
        return bodies

    def whole(self) -> Fields:
        """The assistant's message."""
        message: Fields = {"role": "assistant", "content": self._content, "refusal": None}
        if self._calls:
            message["content"] = self._content or None
            message["tool_calls"] = self._calls
        logprobs = None if self._tokenizer is None else {"content": self._entries, "refusal": None}
        return {"message": message, "logprobs": logprobs}

    def finish(self, reason: str) -> str:
        """Why it ended; calls that are complete end an answer too."""
        return "tool_calls" if self._calls and reason == "stop" else reason

    def _delta(self, said: Said) -> Fields:
        if said.call is None:
            self._content += said.text
            return {"content": said.text}
        if said.name is None:
            self._calls[said.call]["function"]["arguments"] += said.arguments
            return {"tool_calls": [{"index": said.call, "function": {"arguments": said.arguments}}]}
        call = {"id": f"call_{uuid.uuid4().hex}", "type": "function"}
        function = {"name": said.name, "arguments": said.arguments}
        self._calls.append({**call, "function": dict(function)})
        return {"tool_calls": [{"index": said.call, **call, "function": function}]}


class PlainVoice:
    """Words an answer of `/v1/completions`.

    Args:
        tokenizer: writes tokens beside their log-probabilities; None where nobody asked for them.
        echo: what the text begins with: the prompt, or nothing.
        prompt: its tokens, where `echo` holds their text.
        silent: say nothing of the answer itself: no tokens were asked for.
    """

    def __init__(
        self, tokenizer: Tokenizer | None, echo: str = "", prompt: Sequence[int] = (), silent: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self._echo = echo
        self._prompt = prompt
        self._silent = silent
        self._begun = False
        self._text = ""
        self._lists: dict[str, list[Any]] = {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [],
            "text_offset": [],
        }
        self._offset = 0
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def opening(self) -> list[Fields]:
        """Nothing: completions have no roles."""
        return []

    def add(self, piece: Piece) -> list[Fields]:
        """More of the text."""
        first, self._begun = not self._begun, True
        if self._silent:
            piece = piece._replace(text="", tokens=[], logprobs=[], alternatives=[])
        text = (self._echo if first else "") + piece.text
        self._text += text
        logprobs = None
        if self._tokenizer is not None:
            logprobs = self._parallel(self._tokenizer, piece, self._prompt if first else ())
            for name, values in logprobs.items():
                self._lists[name] += values
        if text or piece.finish_reason or (logprobs and logprobs["tokens"]):
            return [{"text": text, "logprobs": logprobs}]
        return []

    def whole(self) -> Fields:
        """The text."""
        return {"text": self._text, "logprobs": None if self._tokenizer is None else self._lists}

    def finish(self, reason: str) -> str:
        """Why it ended."""
        return "length" if self._silent else reason

    def _parallel(self, tokenizer: Tokenizer, piece: Piece, prompt: Sequence[int]) -> dict[str, list[Any]]:
        """Tokens, log-probabilities, alternatives and places in the text, as lists."""
        tokens, values, others = list(prompt), [], []
        if prompt:
            assert piece.prompt is not None
            values, others = list(piece.prompt[0]), list(piece.prompt[1])
        tokens += piece.tokens
        values += piece.logprobs
        others += piece.alternatives or [[] for _ in piece.tokens]
        return {
            "tokens": [word(tokenizer, token) for token in tokens],
            "token_logprobs": [None if value is None else max(value, LOWEST) for value in values],
            "top_logprobs": [
                None if value is None else _top(tokenizer, token, value, other)
                for token, value, other in zip(tokens, values, others, strict=True)
            ],
            "text_offset": [self._place(tokenizer.token_bytes(token)) for token in tokens],
        }

    def _place(self, data: bytes) -> int:
        """Where a token begins in the text."""
        place = self._offset
        self._offset += len(self._decode(data))
        return place


def read(reader: Reader | None, piece: Piece) -> list[Said]:
    """Returns what a piece says: to the content, or to a tool."""
    if reader is None:
        return [Said(text=piece.text)] if piece.text else []
    said = reader.feed(piece.text)
    return said + reader.finish() if piece.finish_reason else said


def chat_logprobs(tokenizer: Tokenizer, piece: Piece) -> list[Fields]:
    """Returns one entry for each token of a piece, as chats have them."""
    others = piece.alternatives or [[] for _ in piece.tokens]
    return [
        {
            **_entry(tokenizer, token, value),
            "top_logprobs": [_entry(tokenizer, other, score) for other, score in likeliest],
        }
        for token, value, likeliest in zip(piece.tokens, piece.logprobs, others, strict=True)
    ]


def word(tokenizer: Tokenizer, token: int) -> str:
    """Returns a token's text; part of a character is written as bytes, so that no two look alike."""
    data = tokenizer.token_bytes(token)
    try:
        return data.decode() if data else tokenizer.token(token)
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _entry(tokenizer: Tokenizer, token: int, value: float) -> Fields:
    data = tokenizer.token_bytes(token)
    text = data.decode(errors="replace") if data else tokenizer.token(token)
    return {"token": text, "logprob": max(value, LOWEST), "bytes": list(data)}


def _top(tokenizer: Tokenizer, token: int, value: float, others: Sequence[tuple[int, float]]) -> Fields:
    """The likeliest tokens by their text; the chosen one is among them."""
    return {word(tokenizer, other): max(score, LOWEST) for other, score in (*others, (token, value))}
