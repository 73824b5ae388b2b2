"""The protocol's grammar: bodies, errors and events, and how a request's fields are judged.

Fields fall into four groups: those that are obeyed (each shape's own), those that change nothing here
and are accepted (`ignored`), those that are accepted while they ask for nothing (`neutral`), and all
others, which are refused by name: a client should never believe that a wish was heard when it was not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, ValidationError

from ingot.config import Config
from ingot.errors import did_you_mean

DEEPEST = 64
"""Brackets within brackets that a body may have."""

LONGEST_NAME = 100
"""Characters of a client's own words that a refusal repeats."""


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


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """Returns a refusal of a value: status 400."""
    return ApiError(400, message, param=param, code=code)


class Shape(Config):
    """Base of what clients send: exact types, so that `"5"` is not quietly a number.

    Attributes:
        ignored: fields that are accepted and change nothing.
        neutral: fields that are not supported, with the values that ask for nothing and are accepted.
    """

    model_config = ConfigDict(strict=True)

    ignored: ClassVar[frozenset[str]] = frozenset()
    neutral: ClassVar[Mapping[str, Sequence[Any]]] = {}

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Makes a request from a JSON object.

        Raises:
            ApiError: 400, naming the field that is unknown, unsupported or has no usable value.
        """
        known = {key: value for key, value in values.items() if value is not None and key not in cls.ignored}
        for key, neutral in cls.neutral.items():
            if key in known and known.pop(key) not in neutral:
                what = f"'{key}' is not supported here: leave it out"
                raise invalid(what, key, "unsupported_parameter")
        for key in known:
            if key not in cls.model_fields:
                raise invalid(_unknown(key, cls.model_fields), short(key), "unknown_parameter")
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            raise _refusal(error, known) from None


def _refusal(error: ValidationError, values: Mapping[str, Any]) -> ApiError:
    """Words the first of a validation's complaints; the work does not grow with what was sent."""
    first = error.errors(include_url=False, include_context=False)[0]
    path = [str(part) for part in first["loc"] if not _is_branch(part, values)]
    param = short(path[0]) if path else None
    where = short(".".join(path))
    if first["type"] == "missing":
        return invalid(f"'{where}' is missing", param, "missing_required_parameter")
    if first["type"] == "extra_forbidden":
        return invalid(f"unknown field '{where}'", param, "unknown_parameter")
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message[:1].lower() + message[1:]
    value = first["input"]
    said = short(repr(value)) if isinstance(value, int | float | str | None) else "what it holds"
    return invalid(f"{where}: {said} cannot be used: {short(message, 300)}", param)


def _is_branch(part: object, values: Mapping[str, Any]) -> bool:
    """Whether a part of a complaint's path names a kind of value (`list[str]`) instead of a field."""
    return isinstance(part, str) and part not in values and any(mark in part for mark in "[]()")


def _unknown(key: str, known: Mapping[str, Any]) -> str:
    """Names an unknown field; only names of ordinary length are compared with the known ones."""
    what = f"unknown field '{short(key)}'"
    return f"{what}; {did_you_mean(key, known)}" if len(key) <= LONGEST_NAME else what


def parse_json(body: bytes) -> dict[str, Any]:
    """Reads a request's body.

    Raises:
        ApiError: 400, it is no JSON object, is nested too deeply, or holds what JSON has no words for
            (NaN, half characters).
    """

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not a JSON number")

    try:
        values = json.loads(body.decode("utf-8"), parse_constant=refuse)
        if deeper(values, DEEPEST):
            raise RecursionError
        json.dumps(values, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except RecursionError:
        what = f"the body is nested too deeply: more than {DEEPEST} brackets within brackets"
        raise invalid(what, code="invalid_json") from None
    except ValueError as error:
        what = f"the body is not readable as JSON: {short(str(error), 300)}"
        raise invalid(what, code="invalid_json") from None
    if not isinstance(values, dict):
        raise invalid("the body must be a JSON object", code="invalid_json")
    return values


def deeper(values: object, limit: int) -> bool:
    """Returns whether JSON has more than `limit` brackets within brackets."""
    layer: list[Any] = [values]
    for _ in range(limit):
        layer = [inner for outer in layer if isinstance(outer, dict | list) for inner in _inside(outer)]
        if not layer:
            return False
    return True


def _inside(value: dict[str, Any] | list[Any]) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value
    return [one for one in inner if isinstance(one, dict | list)]


def short(text: str, length: int = LONGEST_NAME) -> str:
    """Returns a client's words, cut to a length that may be repeated to it."""
    return text if len(text) <= length else text[: length - 4] + " ..."


def event(values: Mapping[str, Any] | str, name: str | None = None) -> bytes:
    """Returns one server-sent event.

    Args:
        values: its data, JSON or a word.
        name: of the event, for the routes whose events have names.
    """
    text = (
        values if isinstance(values, str) else json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    )
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {text}\n\n".encode()


DONE = event("[DONE]")
