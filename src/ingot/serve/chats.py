"""Chats as clients send them: messages, tools, and the form that the answer must have."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ingot.errors import ConfigError
from ingot.inference.choosing.constrain import Grammar
from ingot.serve.asks import IGNORED, NEUTRAL, Ask, Count, Text
from ingot.serve.protocol import Shape, invalid, short
from ingot.serve.tool_calls import schema

NAME = r"^[a-zA-Z0-9_.-]{1,64}$"
"""What functions may be called."""


class TextPart(Shape):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: Text


class RefusalPart(Shape):
    """A part of an answer in which the model refused, sent back."""

    type: Literal["refusal"]
    refusal: Text


class Called(Shape):
    """Which function a call is for, and with what."""

    name: Annotated[str, Field(pattern=NAME)]
    arguments: Text = "{}"


class ToolCall(Shape):
    """A call that the model made, sent back by the client.

    Args:
        index: accepted, as clients send back what they gathered from a stream.
    """

    id: Annotated[str, Field(max_length=256)] = ""
    type: Literal["function"] = "function"
    function: Called
    index: int | None = None


Parts = Annotated[list[TextPart | RefusalPart], Field(max_length=1024, fail_fast=True)]


class Message(Shape):
    """One message of a conversation."""

    ignored: ClassVar[frozenset[str]] = frozenset({"annotations", "reasoning_content"})

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Parts = ""
    name: Annotated[str, Field(max_length=256)] | None = None
    refusal: Text | None = None
    tool_calls: list[ToolCall] = Field(default=[], max_length=128, fail_fast=True)
    tool_call_id: Annotated[str, Field(max_length=256)] | None = None

    @model_validator(mode="after")
    def _fields_belong_to_roles(self) -> Message:
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"a message of role '{self.role}' has no tool_calls")
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a message of role 'tool' needs the 'tool_call_id' that it answers")
        return self

    def plain(self) -> dict[str, Any]:
        """Returns it as a chat template wants it, with arguments of calls as objects where they are."""
        content = self.content
        if not isinstance(content, str):
            content = "\n".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)
        role = "system" if self.role == "developer" else self.role
        message: dict[str, Any] = {"role": role, "content": content or self.refusal or ""}
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "name": call.function.name,
                        "arguments": _object(call.function.arguments),
                    },
                }
                for call in self.tool_calls
            ]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            message["name"] = self.name
        return message


def _object(text: str) -> Any:
    """Arguments as JSON, or the text where the model did not write any."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


class Function(Shape):
    """A function that the model may call."""

    name: Annotated[str, Field(pattern=NAME)]
    description: Text | None = None
    parameters: dict[str, Any] = Field(default={})
    strict: bool | None = None


class Tool(Shape):
    """A tool; only functions are known."""

    type: Literal["function"]
    function: Function


class Named(Shape):
    """The name of a function."""

    name: Annotated[str, Field(pattern=NAME)]


class Choice(Shape):
    """The function that has to be called."""

    type: Literal["function"]
    function: Named


class Schema(Shape):
    """A JSON Schema for the answer."""

    name: Annotated[str, Field(max_length=64)] = "answer"
    description: Text | None = None
    schema_: dict[str, Any] = Field(default={}, alias="schema")
    strict: bool | None = None


class Format(Shape):
    """The form that the answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None

    @model_validator(mode="after")
    def _schema_is_there(self) -> Format:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("'json_schema' holds the schema where the type is 'json_schema', and only there")
        return self


class ChatAsk(Ask):
    """`POST /v1/chat/completions`."""

    ignored: ClassVar[frozenset[str]] = IGNORED | {"parallel_tool_calls"}
    neutral: ClassVar[dict[str, Sequence[Any]]] = NEUTRAL | {
        "modalities": (["text"],),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "reasoning_effort": ("none",),
        "verbosity": ("medium",),
        "chat_template_kwargs": ({},),
        "add_generation_prompt": (True,),
        "continue_final_message": (False,),
        "echo": (False,),
        "best_of": (1,),
        "audio": (),
        "prediction": (),
        "web_search_options": (),
    }

    messages: list[Message] = Field(min_length=1, max_length=1024, fail_fast=True)
    max_completion_tokens: Count | None = None
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)
    tools: list[Tool] = Field(default=[], max_length=128, fail_fast=True)
    tool_choice: Literal["none", "auto", "required"] | Choice | None = None
    response_format: Format | None = None

    @field_validator("messages", mode="before")
    @classmethod
    def _nulls_are_absent(cls, messages: object) -> object:
        """Clients send back whole answers as messages, with null in every field that was not used."""
        if not isinstance(messages, list):
            return messages
        return [
            {key: value for key, value in message.items() if value is not None and key not in Message.ignored}
            if isinstance(message, dict)
            else message
            for message in messages
        ]

    @field_validator("tools", mode="before")
    @classmethod
    def _null_parameters_are_none(cls, tools: object) -> object:
        """Some clients write null for a function without parameters."""
        if not isinstance(tools, list):
            return tools
        return [
            {**tool, "function": {key: value for key, value in tool["function"].items() if value is not None}}
            if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
            else tool
            for tool in tools
        ]

    @model_validator(mode="after")
    def _fields_agree(self) -> ChatAsk:
        if self.top_logprobs and not self.logprobs:
            raise invalid("top_logprobs needs 'logprobs': true", "top_logprobs")
        names = {tool.function.name for tool in self.tools}
        if isinstance(self.tool_choice, Choice) and self.tool_choice.function.name not in names:
            raise invalid(f"tool_choice: no tool is named '{self.tool_choice.function.name}'", "tool_choice")
        if self.tool_choice == "required" and not names:
            raise invalid("tool_choice: 'required' needs tools", "tool_choice")
        if self.forced and self.forms():
            raise invalid("tool_choice: a forced call has its own form, leave the other out", "tool_choice")
        return self

    @functools.cached_property
    def grammar(self) -> Grammar | None:
        """Returns the form that the answer must have: the one asked for, or that of a forced call."""
        if not self.forced:
            return self.asked_form()
        try:
            return schema([tool.function.model_dump() for tool in self.forced])
        except ConfigError as error:
            raise invalid(f"tools: {short(error.what, 300)}", "tools") from None

    @property
    def budget(self) -> int | None:
        """New tokens asked for at most, under its new name or its old one."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many likeliest tokens to report at every place."""
        return self.top_logprobs if self.logprobs else None

    @property
    def offered(self) -> list[Tool]:
        """The tools that the model is told of."""
        return [] if self.tool_choice == "none" else self.tools

    @property
    def forced(self) -> list[Tool]:
        """The tools of which one has to be called; none where the model is free."""
        if isinstance(self.tool_choice, Choice):
            wanted = self.tool_choice.function.name
            return [tool for tool in self.tools if tool.function.name == wanted]
        return self.tools if self.tool_choice == "required" else []

    def forms(self) -> list[tuple[str, dict[str, str]]]:
        """Returns the fields that say how the answer must look, with the grammar that each means."""
        forms = super().forms()
        asked = self.response_format
        if asked is not None and asked.json_schema is not None:
            text = json.dumps(asked.json_schema.schema_)
            forms.append(("response_format", {"kind": "json_schema", "text": text}))
        elif asked is not None and asked.type == "json_object":
            forms.append(("response_format", {"kind": "json_object", "text": ""}))
        return forms
