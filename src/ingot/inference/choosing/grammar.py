"""The form that an answer must have: what a client may ask for, and how large it may be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ingot.config import Config

LONGEST = 128 * 1024
"""Characters that a grammar may have; OpenAI's limit for schemas is 120,000."""

DEEPEST = 64
"""Brackets within brackets that a schema may have."""

CHOICES = 1024
"""Texts that a choice may be among."""


class Grammar(Config):
    """What an answer must look like.

    Args:
        kind: 'regex' (the whole answer matches it), 'json_schema', 'json_object' (any JSON object),
            'lark' (a context-free grammar in Lark's notation, an EBNF), or 'choice' (one of some texts).
        text: the regular expression, the schema as JSON, the grammar, or the texts as a JSON array;
            nothing for 'json_object'.

    Example:
        >>> Grammar(kind="choice", text='["yes", "no"]')
    """

    kind: Literal["regex", "json_schema", "json_object", "lark", "choice"]
    text: str = Field(default="", max_length=LONGEST)

    @model_validator(mode="after")
    def _text_is_of_its_kind(self) -> Self:
        if self.kind == "json_schema":
            _check_schema(self.text)
        elif self.kind == "choice":
            _check_choices(self.text)
        elif self.kind != "json_object" and not self.text:
            raise ValueError(f"a grammar of kind '{self.kind}' needs its text")
        return self


def _check_schema(text: str) -> None:
    schema = _read(text)
    if not isinstance(schema, dict):
        raise ValueError("a JSON Schema is an object")
    for address in _references(schema):
        if not address.startswith("#"):
            raise ValueError(f"it refers to '{address[:100]}'; only its own parts ('#/...') are read")


def _check_choices(text: str) -> None:
    choices = _read(text)
    if not isinstance(choices, list) or not choices or not all(isinstance(one, str) for one in choices):
        raise ValueError("choices are a JSON array of texts, at least one")
    if len(choices) > CHOICES:
        raise ValueError(f"{len(choices)} choices are more than {CHOICES}")


def _read(text: str) -> Any:
    """JSON of bounded depth: deeper ones could exhaust whoever walks them."""
    depth = deepest = 0
    quoted = escaped = False
    for letter in text:
        if quoted:
            quoted, escaped = escaped or letter != '"', letter == "\\" and not escaped
        elif letter == '"':
            quoted = True
        elif letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "]}":
            depth -= 1
    if deepest > DEEPEST:
        raise ValueError(f"it is nested {deepest} deep, more than {DEEPEST}")
    return json.loads(text)


def _references(schema: Any) -> Iterator[str]:
    """What `$ref` and its relatives name, anywhere in a schema."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)
