"""OpenAI's published objects, field by field: what an answer must hold, may hold, and nothing else.

Written from the reference of the interface, not from the server; every answer, chunk and event that the
tests receive goes through `validate`.
"""

import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

Check = Callable[[Any], None]


class Maybe:
    """A field that may be missing."""

    def __init__(self, check: Check) -> None:
        self.check = check


def shape(**checks: Check | Maybe) -> Check:
    """An object with these fields and no others."""

    def check(value: Any) -> None:
        assert isinstance(value, dict), value
        assert set(value) <= set(checks), f"unknown: {set(value) - set(checks)}"
        for name, inner in checks.items():
            if isinstance(inner, Maybe):
                if name in value:
                    inner.check(value[name])
                continue
            assert name in value, f"no '{name}' in {value}"
            try:
                inner(value[name])
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error

    return check


def word(*words: str) -> Check:
    def check(value: Any) -> None:
        assert value in words, f"{value!r} is none of {words}"

    return check


def text(value: Any) -> None:
    assert isinstance(value, str), value


def like(pattern: str) -> Check:
    def check(value: Any) -> None:
        assert isinstance(value, str), value
        assert re.fullmatch(pattern, value), value

    return check


def whole(value: Any) -> None:
    assert type(value) is int, value
    assert value >= 0


def number(value: Any) -> None:
    assert type(value) in (int, float), value
    assert math.isfinite(value)


def logprob(value: Any) -> None:
    number(value)
    assert value <= 0


def flag(value: Any) -> None:
    assert type(value) is bool, value


def null(value: Any) -> None:
    assert value is None, value


def anything(value: Any) -> None:
    pass


def either(*checks: Check) -> Check:
    def check(value: Any) -> None:
        problems = []
        for one in checks:
            try:
                return one(value)
            except AssertionError as error:
                problems.append(str(error))
        raise AssertionError("; ".join(problems))

    return check


def each(check: Check, least: int = 0) -> Check:
    def checked(values: Any) -> None:
        assert isinstance(values, list), values
        assert len(values) >= least
        for value in values:
            check(value)

    return checked


def mapping(check: Check) -> Check:
    def checked(values: Any) -> None:
        assert isinstance(values, dict), values
        for key, value in values.items():
            text(key)
            check(value)

    return checked


def _added(value: Any) -> None:
    _usage(value)
    assert value["total_tokens"] == value["prompt_tokens"] + value["completion_tokens"]


_usage = shape(
    prompt_tokens=whole,
    completion_tokens=whole,
    total_tokens=whole,
    prompt_tokens_details=Maybe(shape(cached_tokens=whole)),
)
ERROR = shape(
    error=shape(message=text, type=text, param=either(text, null), code=either(text, null)),
)

_alternative = shape(token=text, logprob=logprob, bytes=either(each(whole), null))
_chat_logprob = shape(
    token=text, logprob=logprob, bytes=either(each(whole), null), top_logprobs=each(_alternative)
)
_chat_logprobs = either(null, shape(content=either(each(_chat_logprob), null), refusal=null))
_finish = word("stop", "length", "tool_calls", "content_filter")
_call_id = like(r"call_\w+")

_message = shape(
    role=word("assistant"),
    content=either(text, null),
    refusal=null,
    tool_calls=Maybe(
        each(
            shape(id=_call_id, type=word("function"), function=shape(name=text, arguments=text)),
            least=1,
        )
    ),
)
CHAT = shape(
    id=like(r"chatcmpl-\w+"),
    object=word("chat.completion"),
    created=whole,
    model=text,
    choices=each(
        shape(index=whole, message=_message, logprobs=_chat_logprobs, finish_reason=_finish), least=1
    ),
    usage=_added,
)
_delta = shape(
    role=Maybe(word("assistant")),
    content=Maybe(either(text, null)),
    tool_calls=Maybe(
        each(
            shape(
                index=whole,
                id=Maybe(_call_id),
                type=Maybe(word("function")),
                function=shape(name=Maybe(text), arguments=text),
            ),
            least=1,
        )
    ),
)
CHAT_CHUNK = shape(
    id=like(r"chatcmpl-\w+"),
    object=word("chat.completion.chunk"),
    created=whole,
    model=text,
    choices=each(
        shape(index=whole, delta=_delta, logprobs=_chat_logprobs, finish_reason=either(_finish, null))
    ),
    usage=Maybe(either(_added, null)),
)

_plain_logprobs = either(
    null,
    shape(
        tokens=each(text),
        token_logprobs=each(either(logprob, null)),
        top_logprobs=each(either(mapping(logprob), null)),
        text_offset=each(whole),
    ),
)
_plain_finish = word("stop", "length", "content_filter")


def _completion(finish: Check, **rest: Check | Maybe) -> Check:
    return shape(
        id=like(r"cmpl-\w+"),
        object=word("text_completion"),
        created=whole,
        model=text,
        choices=each(shape(index=whole, text=text, logprobs=_plain_logprobs, finish_reason=finish)),
        **rest,
    )


COMPLETION = _completion(_plain_finish, usage=_added)
COMPLETION_CHUNK = _completion(either(_plain_finish, null), usage=Maybe(either(_added, null)))

_counted = shape(prompt_tokens=whole, total_tokens=whole)
EMBEDDINGS = shape(
    object=word("list"),
    model=text,
    usage=_counted,
    data=each(
        shape(object=word("embedding"), index=whole, embedding=either(each(number, least=1), text)), least=1
    ),
)
RANKING = shape(
    id=text,
    model=text,
    usage=_counted,
    results=each(shape(index=whole, relevance_score=number, document=Maybe(shape(text=text)))),
)
TOKENS = shape(count=whole, max_model_len=whole, tokens=each(whole), token_strs=either(each(text), null))
TEXT = shape(prompt=text)

_status = word("in_progress", "completed", "incomplete")
_output_text = shape(
    type=word("output_text"), text=text, annotations=each(anything), logprobs=each(_chat_logprob)
)
_item = either(
    shape(
        id=like(r"msg_\w+"),
        type=word("message"),
        status=_status,
        role=word("assistant"),
        content=each(_output_text),
    ),
    shape(
        id=like(r"fc_\w+"),
        type=word("function_call"),
        status=_status,
        call_id=_call_id,
        name=text,
        arguments=text,
    ),
)
RESPONSE = shape(
    id=like(r"resp_\w+"),
    object=word("response"),
    created_at=number,
    status=word("completed", "incomplete", "in_progress", "failed"),
    background=flag,
    error=either(null, shape(code=text, message=text)),
    incomplete_details=either(null, shape(reason=word("max_output_tokens", "content_filter"))),
    instructions=either(text, null),
    max_output_tokens=either(whole, null),
    max_tool_calls=null,
    metadata=mapping(text),
    model=text,
    output=each(_item),
    parallel_tool_calls=flag,
    previous_response_id=either(like(r"resp_\w+"), null),
    reasoning=shape(effort=null, summary=null),
    service_tier=word("default"),
    store=flag,
    temperature=number,
    text=shape(
        format=either(
            shape(type=word("text", "json_object")),
            shape(
                type=word("json_schema"),
                name=text,
                schema=mapping(anything),
                strict=either(flag, null),
                description=either(text, null),
            ),
        ),
        verbosity=word("low", "medium", "high"),
    ),
    tool_choice=either(word("auto", "none", "required"), shape(type=word("function"), name=text)),
    tools=each(
        shape(
            type=word("function"),
            name=text,
            description=either(text, null),
            parameters=either(mapping(anything), null),
            strict=either(flag, null),
        )
    ),
    top_logprobs=whole,
    top_p=number,
    truncation=word("auto", "disabled"),
    usage=either(
        null,
        shape(
            input_tokens=whole,
            input_tokens_details=shape(cached_tokens=whole, cache_write_tokens=whole),
            output_tokens=whole,
            output_tokens_details=shape(reasoning_tokens=whole),
            total_tokens=whole,
        ),
    ),
    user=either(text, null),
)
_place = {"item_id": text, "output_index": whole}
_text_place = {**_place, "content_index": whole}
_EVENTS: dict[str, dict[str, Check]] = {
    "response.created": {"response": RESPONSE},
    "response.in_progress": {"response": RESPONSE},
    "response.completed": {"response": RESPONSE},
    "response.incomplete": {"response": RESPONSE},
    "response.failed": {"response": RESPONSE},
    "response.output_item.added": {"output_index": whole, "item": _item},
    "response.output_item.done": {"output_index": whole, "item": _item},
    "response.content_part.added": {**_text_place, "part": _output_text},
    "response.content_part.done": {**_text_place, "part": _output_text},
    "response.output_text.delta": {**_text_place, "delta": text, "logprobs": each(_chat_logprob)},
    "response.output_text.done": {**_text_place, "text": text, "logprobs": each(_chat_logprob)},
    "response.function_call_arguments.delta": {**_place, "delta": text},
    "response.function_call_arguments.done": {**_place, "name": text, "arguments": text},
}
_ORDER = re.compile(
    r"created in_progress "
    r"(?:item\.added (?:part\.added (?:text\.delta )*text\.done part\.done |"
    r"(?:arguments\.delta )*arguments\.done )item\.done )*"
    r"(?:completed|incomplete|failed)"
)

WHOLE = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETION,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/rerank": RANKING,
    "/v1/responses": RESPONSE,
    "/tokenize": TOKENS,
    "/detokenize": TEXT,
}
CHUNK = {"/v1/chat/completions": CHAT_CHUNK, "/v1/completions": COMPLETION_CHUNK}


def validate(path: str, status: int, kind: str, body: bytes) -> None:
    """Checks one HTTP answer of any of the routes above.

    Raises:
        AssertionError: naming the field.
    """
    if path not in WHOLE:
        return
    if status >= 400:
        ERROR(json.loads(body))
    elif not kind.startswith("text/event-stream"):
        WHOLE[path](json.loads(body))
    elif path == "/v1/responses":
        _responses(sse(body))
    else:
        _chunks(path, [data for _, data in sse(body)])


def sse(body: bytes) -> list[tuple[str | None, str]]:
    """Server-sent events as (name, data)."""
    events = []
    for block in body.decode().split("\n\n")[:-1]:
        lines = [line.partition(": ") for line in block.split("\n")]
        fields = {name: value for name, _, value in lines}
        assert set(fields) <= {"event", "data"}, block
        events.append((fields.get("event"), fields["data"]))
    assert body.endswith(b"\n\n")
    return events


def _chunks(path: str, data: list[str]) -> None:
    assert data[-1] == "[DONE]"
    chunks = [json.loads(one) for one in data[:-1]]
    if "error" in chunks[-1]:
        ERROR(chunks.pop())
    for chunk in chunks:
        CHUNK[path](chunk)
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) <= 1
    ends: dict[int, int] = {}
    roles: dict[int, int] = {}
    names: dict[tuple[int, int], int] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        index = choice["index"]
        assert index not in ends, "a chunk after the end"
        if choice["finish_reason"] is not None:
            ends[index] = 1
        delta = choice.get("delta", {})
        roles[index] = roles.get(index, 0) + ("role" in delta)
        for call in delta.get("tool_calls", ()):
            first = (index, call["index"]) not in names
            assert first == ("id" in call) == ("type" in call) == ("name" in call["function"])
            names[index, call["index"]] = 1
    if path == "/v1/chat/completions":
        assert set(roles.values()) <= {1}, "the role comes once"
    for index in {index for index, _ in names}:
        numbers = sorted(call for choice, call in names if choice == index)
        assert numbers == list(range(len(numbers)))


def _responses(events: Iterable[tuple[str | None, str]]) -> None:
    kinds = []
    for number, (name, data) in enumerate(events):
        value = json.loads(data)
        kind = value["type"]
        assert name == kind
        shape(type=text, sequence_number=whole, **_EVENTS[kind])(value)
        assert value["sequence_number"] == number
        kinds.append(kind.removeprefix("response."))
    shorter = {"output_item": "item", "content_part": "part", "output_text": "text"}
    line = " ".join(kinds).replace("function_call_arguments", "arguments")
    for long, brief in shorter.items():
        line = line.replace(long, brief)
    assert _ORDER.fullmatch(line), line
