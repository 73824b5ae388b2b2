"""Conversations as tokens: by the model's own chat template where it has one, so that nobody can type
control tokens into it.

A template makes one text of control tokens and of what people said. So that the two can be told apart
afterwards, a character that occurs nowhere is put into every name of a control token in what people
said, and taken out again when the text has been cut at the control tokens.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ingot.errors import RequestError
from ingot.tokenizer.calls import told
from ingot.tokenizer.chat import TEMPLATE, encode_chat
from ingot.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from jinja2 import Template

MARKS = "".join(chr(code) for code in range(0xFDD0, 0xFDF0))
"""Code points that Unicode reserves for the inside of programs (version 16, section 23.7)."""

Message = dict[str, Any]


def encode(
    tokenizer: Tokenizer, messages: Sequence[Message], tools: Sequence[Message] = (), begun: str = ""
) -> list[int]:
    """Returns the tokens of a conversation up to the beginning of the assistant's next message.

    Args:
        tokenizer: with its template.
        messages: `role` and `content` each; `tool_calls` and the role `tool` as templates take them.
        tools: `{"type": "function", "function": ...}` each. A template that does not know tools gets them
            in the system message.
        begun: what the assistant's message begins with.

    Raises:
        RequestError: the template does not take such a conversation.
        ArtifactError: no template, and no control tokens for the ends of messages.

    Example: `encode(tokenizer, [{"role": "user", "content": "Hi"}])`.
    """
    source = tokenizer.parts.chat_template
    if source is None or source == TEMPLATE or "messages" not in source:
        ids = encode_chat(tokenizer, told(messages, tools), add_generation_prompt=True)[0]
    else:
        if "tools" not in source:
            messages, tools = told(messages, tools), ()
        ids = _templated(tokenizer, source, messages, tools)
    return ids + tokenizer.encode(begun) if begun else ids


def _templated(
    tokenizer: Tokenizer, source: str, messages: Sequence[Message], tools: Sequence[Message]
) -> list[int]:
    names = sorted(tokenizer.special, key=len, reverse=True)
    said = json.dumps([messages, tools], ensure_ascii=False)
    mark = next((mark for mark in MARKS if mark not in said), None)
    if mark is None:
        fix = "leave out its noncharacters"
        raise RequestError("the conversation cannot be told from control tokens", where="messages", fix=fix)
    control = re.compile("|".join(map(re.escape, names)) or r"(?!)")
    # A zero-width match, so that names which overlap are all found.
    inside = re.compile(f"(?=(?:{control.pattern}))(.)", re.DOTALL)

    def marked(value: Any) -> Any:
        if isinstance(value, str):
            return inside.sub(rf"\1{mark}", value)
        if isinstance(value, Mapping):
            return {marked(key): marked(one) for key, one in value.items()}
        return [marked(one) for one in value] if isinstance(value, list | tuple) else value

    roles = {f"{role}_token": name for role, name in tokenizer.parts.roles.items()}
    text = _render(source, messages=marked(messages), tools=marked(tools) or None, **roles)
    ids: list[int] = []
    place = 0
    for found in control.finditer(text):
        ids += tokenizer.encode(text[place : found.start()].replace(mark, ""))
        ids.append(tokenizer.special[found[0]])
        place = found.end()
    return ids + tokenizer.encode(text[place:].replace(mark, ""))


def _render(source: str, **values: Any) -> str:
    from jinja2 import TemplateError

    try:
        return _compiled(source).render(add_generation_prompt=True, **values)
    except RequestError:
        raise
    except (TemplateError, TypeError, ValueError, KeyError, ArithmeticError, RecursionError) as error:
        what = f"the model's chat template does not take this conversation ({str(error)[:200]})"
        raise RequestError(what, where="messages", fix="change its roles or their order") from None


@functools.lru_cache(maxsize=16)
def _compiled(source: str) -> Template:
    """A template in a sandbox, with what `transformers` gives to templates."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _today
    return environment.from_string(source)


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    """JSON without the escapes that pages need."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    fix = "change its roles or their order"
    raise RequestError(f"the model's chat template refuses: {message[:200]}", where="messages", fix=fix)


def _today(form: str) -> str:
    from datetime import datetime

    return datetime.now().strftime(form)
