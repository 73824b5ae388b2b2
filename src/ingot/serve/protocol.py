"""OpenAI's shapes: what requests may say, and what answers, chunks and errors look like.

Fields fall into four groups: those that are obeyed (the models below), those that change nothing here
and are accepted (`IGNORED`), those that are accepted while they ask for nothing (`NEUTRAL`), and all
others, which are refused by name: a client should never believe that a wish was heard when it was not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator

from ingot.config import Config
from ingot.errors import ConfigError, did_you_mean
from ingot.inference.sampling import Sampling

IGNORED = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "parallel_tool_calls",
    }
)
"""Fields that are accepted and change nothing."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "top_logprobs": (0,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
}
"""Fields that are not supported, with the values that ask for nothing and are therefore accepted."""

CHOICES = 16
"""Answers that one request may ask for, over all its prompts."""


class ApiError(Exception):
    """A refusal in OpenAI's shape.

    Args:
        status: of the HTTP answer.
        message: what is wrong and what to do about it.
        param: the field that is meant.
        code: a word for programs.
        headers: to send with it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Shape(Config):
    """Base of what clients send: exact types, so that `"5"` is not quietly a number."""

    model_config = ConfigDict(strict=True)


class TextPart(Shape):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: str


class Message(Shape):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] = ""
    name: str | None = None

    def plain(self) -> dict[str, Any]:
        """Returns it as the chat template wants it."""
        content = self.content
        text = content if isinstance(content, str) else "\n".join(part.text for part in content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(Shape):
    """What a stream should carry."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Ask(Shape):
    """What chats and completions have in common; absent values take the engine's defaults."""

    model: str | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=0, lt=2**31)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(default=[], max_length=4)
    n: int = Field(default=1, ge=1, le=CHOICES)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_is_enough(cls, stop: object) -> object:
        return [stop] if isinstance(stop, str) else stop

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Makes a request from a JSON object.

        Raises:
            ApiError: 400, naming the field that is unknown, unsupported or has no usable value.
        """
        known = {key: value for key, value in values.items() if value is not None and key not in IGNORED}
        for key, neutral in NEUTRAL.items():
            if key in known and key not in cls.model_fields and known.pop(key) not in neutral:
                raise ApiError(
                    400,
                    f"'{key}' is not supported here: leave it out",
                    param=key,
                    code="unsupported_parameter",
                )
        for key in known:
            if key not in cls.model_fields:
                fix = did_you_mean(key, cls.model_fields)
                raise ApiError(400, f"unknown field '{key}'; {fix}", param=key, code="unknown_parameter")
        try:
            return cls.parse(known)
        except ConfigError as error:
            param = (error.where or "").split(".")[0] or None
            raise ApiError(400, _short(str(error)), param=param, code="invalid_value") from None

    def sampling(self, room: int, choice: int) -> Sampling:
        """Returns how to sample one of the answers.

        Args:
            room: tokens that may follow the prompt.
            choice: number of the answer; each one's seed is the next.
        """
        seed = None if self.seed is None else (self.seed + choice + 2**63) % 2**64 - 2**63
        given = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        return Sampling.parse(
            {
                "max_new_tokens": min(self.budget or room, room),
                "seed": seed,
                "stop": self.stop,
                **{key: value for key, value in given.items() if value is not None},
            }
        )

    @property
    def budget(self) -> int | None:
        """New tokens asked for at most; None for as many as there is room for."""
        return self.max_tokens


class ChatAsk(Ask):
    """`POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, max_length=1024)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False

    @field_validator("messages", mode="before")
    @classmethod
    def _nulls_are_absent(cls, messages: object) -> object:
        """Clients send back whole answers as messages, with null in every field that was not used."""
        if not isinstance(messages, list):
            return messages
        return [
            {key: value for key, value in message.items() if value is not None}
            if isinstance(message, dict)
            else message
            for message in messages
        ]

    @property
    def budget(self) -> int | None:
        """New tokens asked for at most, under its new name or its old one."""
        return self.max_completion_tokens or self.max_tokens


class CompletionAsk(Ask):
    """`POST /v1/completions`."""

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: int | None = Field(default=None, ge=0, le=0)

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """The prompts, each a text or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        tokens = [part for part in self.prompt if isinstance(part, int)]
        if tokens:
            return [tokens]
        return [part for part in self.prompt if not isinstance(part, int)]

    @property
    def budget(self) -> int:
        """New tokens asked for at most; OpenAI's default for this route is 16."""
        return self.max_tokens or 16


def parse_json(body: bytes) -> dict[str, Any]:
    """Reads a request's body.

    Raises:
        ApiError: 400, it is no JSON object, or holds what JSON has no words for (NaN, half characters).
    """

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not a JSON number")

    try:
        values = json.loads(body.decode("utf-8"), parse_constant=refuse)
        json.dumps(values, ensure_ascii=False).encode("utf-8")  # half of a surrogate pair fails here
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply", code="invalid_json") from None
    except ValueError as error:
        raise ApiError(
            400, f"the body is not readable as JSON: {_short(str(error))}", code="invalid_json"
        ) from None
    if not isinstance(values, dict):
        raise ApiError(400, "the body must be a JSON object", code="invalid_json")
    return values


def _short(text: str, length: int = 300) -> str:
    """An error message without the whole of what the client sent."""
    return text if len(text) <= length else text[: length // 2] + " ... " + text[-length // 2 :]


def event(values: Mapping[str, Any] | str) -> bytes:
    """Returns one server-sent event."""
    text = (
        values if isinstance(values, str) else json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    )
    return f"data: {text}\n\n".encode()


DONE = event("[DONE]")


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Returns OpenAI's count of tokens."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
