"""What `/v1/responses` is asked, and the chat that it means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from ingot.serve.asks import IGNORED, Count, Penalty, Share, StreamOptions, Text
from ingot.serve.chats import NAME, ChatAsk
from ingot.serve.protocol import Shape

Id = Annotated[str, Field(max_length=256)]
Status = Literal["in_progress", "completed", "incomplete"]


class Part(Shape):
    """A part of a message; only text is understood."""

    ignored: ClassVar[frozenset[str]] = frozenset({"annotations", "logprobs"})

    type: Literal["input_text", "output_text", "text"]
    text: Text


class Refused(Shape):
    """A part of an answer in which the model refused, sent back."""

    type: Literal["refusal"]
    refusal: Text


class Said(Shape):
    """A message, of the client or sent back to the server."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Annotated[list[Part | Refused], Field(max_length=1024, fail_fast=True)]
    id: Id | None = None
    status: Status | None = None
    phase: str | None = None


class Call(Shape):
    """A call that the model made, sent back."""

    type: Literal["function_call"]
    call_id: Id
    name: Annotated[str, Field(pattern=NAME)]
    arguments: Text
    id: Id | None = None
    status: Status | None = None


class Result(Shape):
    """What a call gave."""

    type: Literal["function_call_output"]
    call_id: Id
    output: Text | Annotated[list[Part], Field(max_length=1024, fail_fast=True)]
    id: Id | None = None
    status: Status | None = None


def _kind(item: object) -> str:
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)
    return kind if kind in ("function_call", "function_call_output") else "message"


Item = Annotated[
    Annotated[Said, Tag("message")]
    | Annotated[Call, Tag("function_call")]
    | Annotated[Result, Tag("function_call_output")],
    Discriminator(_kind),
]


class FlatTool(Shape):
    """A function that the model may call, without the wrapping that chats have."""

    type: Literal["function"]
    name: Annotated[str, Field(pattern=NAME)]
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FlatChoice(Shape):
    """The function that has to be called."""

    type: Literal["function"]
    name: Annotated[str, Field(pattern=NAME)]


class FlatFormat(Shape):
    """The form that the answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(max_length=64)] | None = None
    description: Text | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class Wording(Shape):
    """How the text should be; `verbosity` may only ask for the usual."""

    format: FlatFormat = FlatFormat(type="text")
    verbosity: Literal["medium"] | None = None


class ResponseAsk(Shape):
    """`POST /v1/responses`."""

    ignored: ClassVar[frozenset[str]] = (IGNORED - {"metadata", "store"}) | {"max_tool_calls"}
    neutral: ClassVar[dict[str, Sequence[Any]]] = {
        "background": (False,),
        "truncation": ("disabled",),
        "reasoning": ({}, {"effort": "none"}, {"effort": None, "summary": None}),
        "prompt": (),
        "conversation": (),
        "moderation": (),
        "context_management": ([],),
    }

    model: str | None = None
    input: str | Annotated[list[Item], Field(min_length=1, max_length=1024, fail_fast=True)]
    instructions: Text | None = None
    max_output_tokens: Count | None = None
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=-1, lt=2**31)
    min_p: Share | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    priority: int = Field(default=0, ge=-(2**31), lt=2**31)
    top_logprobs: int = Field(default=0, ge=0, le=20)
    include: list[Literal["message.output_text.logprobs"]] = Field(default=[], max_length=16)
    tools: list[FlatTool] = Field(default=[], max_length=128, fail_fast=True)
    tool_choice: Literal["none", "auto", "required"] | FlatChoice = "auto"
    parallel_tool_calls: bool = True
    text: Wording = Wording()
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    store: bool = True
    previous_response_id: Id | None = None
    metadata: dict[str, Annotated[str, Field(max_length=512)]] = Field(default={}, max_length=16)
    user: Text | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _nulls_are_absent(cls, given: object) -> object:
        """Clients send back whole items, with null in every field that was not used."""
        return _bare(given) if isinstance(given, list) else given

    def said(self) -> list[dict[str, Any]]:
        """Returns the input as a chat's messages, as clients would send them."""
        if isinstance(self.input, str):
            return [{"role": "user", "content": self.input}]
        messages: list[dict[str, Any]] = []
        for item in self.input:
            if isinstance(item, Said):
                messages.append({"role": item.role, "content": _text(item.content)})
            elif isinstance(item, Result):
                content = _text(item.output)
                messages.append({"role": "tool", "tool_call_id": item.call_id, "content": content})
            else:
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": ""})
                function = {"name": item.name, "arguments": item.arguments}
                messages[-1].setdefault("tool_calls", []).append({"id": item.call_id, "function": function})
        return messages

    def chat(self, before: list[dict[str, Any]]) -> ChatAsk:
        """Returns the chat that is meant.

        Args:
            before: the messages of the response that this one goes on from.

        Raises:
            ApiError: 400, fields that do not go together.
        """
        messages = before + self.said()
        if self.instructions is not None:
            messages = [{"role": "system", "content": self.instructions}, *messages]
        choice: Any = self.tool_choice
        if isinstance(choice, FlatChoice):
            choice = {"type": "function", "function": {"name": choice.name}}
        wanted = {
            "messages": messages,
            "max_completion_tokens": self.max_output_tokens,
            "tools": [
                {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}
                for tool in self.tools
            ],
            "tool_choice": choice,
            "response_format": self._format(),
            "logprobs": self.logprobs,
            "top_logprobs": self.top_logprobs,
            "stream": self.stream,
        }
        for name in _SAME:
            wanted[name] = getattr(self, name)
        return ChatAsk.read(wanted)

    @property
    def logprobs(self) -> bool:
        """Whether log-probabilities are wanted."""
        return bool(self.include) or self.top_logprobs > 0

    def _format(self) -> dict[str, Any] | None:
        asked = self.text.format
        if asked.type != "json_schema":
            return {"type": asked.type}
        inner = {"name": asked.name or "answer", "schema": asked.schema_ or {}}
        return {"type": "json_schema", "json_schema": inner}


_SAME = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "priority",
)
"""Fields that chats have under the same name."""


def _text(content: str | list[Part] | list[Part | Refused]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.text if isinstance(part, Part) else part.refusal for part in content)


def _bare(value: Any) -> Any:
    """Items without the fields that say nothing."""
    if isinstance(value, list):
        return [_bare(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _bare(one) if key == "content" else one
        for key, one in value.items()
        if one is not None and key not in Part.ignored
    }
