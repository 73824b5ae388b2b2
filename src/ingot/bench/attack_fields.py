"""Values that a field must not have: wrong types, numbers out of range or no numbers at all, too many.

The ranges are those of OpenAI's published interface. A field that a server does not have at all may be
ignored, so only what every server must know is due a refusal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ingot.bench.attack_cases import CHAT, COMPLETION, Case, encoded, plain


class Field(NamedTuple):
    """What a field may be.

    Args:
        kind: `number`, `whole`, `flag`, `text`, `list` or `object`.
        low: the least it may be.
        high: the most it may be; None where servers differ.
        must: whether every server is to know it, and so to refuse what it cannot be.
    """

    kind: str
    low: float = 0
    high: float | None = None
    must: bool = False


SHARED = {
    "max_tokens": Field("whole", 1, must=True),
    "temperature": Field("number", 0, 2, must=True),
    "top_p": Field("number", 0, 1, must=True),
    "n": Field("whole", 1, must=True),
    "stream": Field("flag", must=True),
    "stop": Field("texts", must=True),
    "seed": Field("whole", -(2**63)),
    "presence_penalty": Field("number", -2, 2),
    "frequency_penalty": Field("number", -2, 2),
    "logit_bias": Field("object"),
    "stream_options": Field("object"),
    "user": Field("text"),
    "top_k": Field("whole", -1),
    "min_p": Field("number", 0, 1),
    "repetition_penalty": Field("number", 0),
}
FIELDS: dict[str, dict[str, Field]] = {
    CHAT: SHARED
    | {
        "messages": Field("list", must=True),
        "max_completion_tokens": Field("whole", 1),
        "logprobs": Field("flag"),
        "top_logprobs": Field("whole", 0, 20),
        "tools": Field("list"),
        "tool_choice": Field("text"),
        "response_format": Field("object"),
        "metadata": Field("object"),
        "parallel_tool_calls": Field("flag"),
        "chat_template_kwargs": Field("object"),
    },
    COMPLETION: SHARED
    | {
        "prompt": Field("texts", must=True),
        "max_tokens": Field("whole", 0, must=True),  # 0 asks for the prompt's own probabilities
        "logprobs": Field("whole", 0, 5),
        "best_of": Field("whole", 1),
        "echo": Field("flag"),
        "suffix": Field("text"),
    },
    "/v1/responses": {
        "input": Field("texts", must=True),
        "max_output_tokens": Field("whole", 1, must=True),
        "temperature": Field("number", 0, 2, must=True),
        "top_p": Field("number", 0, 1, must=True),
        "instructions": Field("text"),
        "stream": Field("flag", must=True),
        "tools": Field("list"),
        "text": Field("object"),
        "previous_response_id": Field("text"),
    },
    "/v1/embeddings": {
        "input": Field("texts", must=True),
        "dimensions": Field("whole", 1),
        "encoding_format": Field("text"),
    },
    "/v1/rerank": {
        "query": Field("text", must=True),
        "documents": Field("list", must=True),
        "top_n": Field("whole", 1),
    },
    "/tokenize": {"prompt": Field("text", must=True), "add_special_tokens": Field("flag")},
    "/detokenize": {"tokens": Field("list", must=True)},
}

HUGE = "1" + "0" * 400
RAW: tuple[str, ...] = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "1e-400",
    HUGE,
    "-" + HUGE,
    str(2**63),
    str(2**64),
)
RAW += (
    str(-(2**63) - 1),
    "-0",
    "-1",
    "-0.0001",
    "0",
    "2.0000001",
    "1.5",
    "1e18",
    "01",
    "+1",
    ".5",
    "0x10",
    "1_000",
)
NO_JSON = {"NaN", "Infinity", "-Infinity", "01", "+1", ".5", "0x10", "1_000"}

WRONG: dict[str, tuple[Any, ...]] = {
    "number": ("hot", "", True, [], [1], {}, {"a": 1}),
    "whole": ("many", "", [], [1], {}, {"a": 1}),
    "flag": ("maybe", "", 7, -1.5, [], [True], {}),
    "text": (1, 1.5, True, [], ["a"], {}),
    "texts": (1.5, True, {}, {"a": 1}, [{}], [None], [[["a"]]], [True], ["a", 1]),
    "list": (1, "text", True, {}, [1.5], [None], ["text"], [[]], [[[]]], [True], [-1], [2**70]),
    "object": (1, "text", True, [], [1], ["a"]),
}
"""By kind, what has another."""


def wrong(path: str, model: str) -> Iterator[Case]:
    """Yields requests with one field that is missing or has the wrong type."""
    good = plain(path, model)
    for name, field in FIELDS[path].items():
        for value in WRONG[field.kind]:
            if path == "/tokenize" and isinstance(value, list):
                continue
            yield Case(f"{name}={value!r}", path, encoded(good | {name: value}), refuse=field.must)
        stream = {"stream": True} if "stream" in FIELDS[path] else {}  # without a limit it may be long
        yield Case(f"{name}=null", path, encoded({**good, **stream, name: None}), head_only=True)
        if field.must and name in good and name not in ("max_tokens", "max_output_tokens"):
            rest = {key: value for key, value in good.items() if key != name}
            yield Case(f"no {name}", path, encoded(rest), refuse=path != COMPLETION)
    if path == CHAT:
        yield from _messages(good)


def _messages(good: dict[str, Any]) -> Iterator[Case]:
    """Yields conversations that are none."""
    user = {"role": "user", "content": "Hello"}
    wrong: tuple[Any, ...] = (
        {"role": "wizard", "content": "a"},
        {"content": "a"},
        {"role": "user", "content": 5},
        {"role": "user", "content": {"a": 1}},
        {"role": "user", "content": [5]},
        {"role": "user", "content": [{"type": "text"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]},
        {"role": "user", "content": [{"type": "text", "text": None}]},
        {"role": ["user"], "content": "a"},
        {"role": None, "content": None},
        {},
    )
    for message in wrong:
        yield Case(f"message {message!r}", CHAT, encoded(good | {"messages": [message]}), refuse=True)
    lenient: tuple[Any, ...] = (
        [{"role": "tool", "content": "a", "tool_call_id": "none"}],
        [
            user,
            {"role": "assistant", "content": None, "tool_calls": [{"id": 1, "function": {"arguments": "{"}}]},
        ],
        [user, {"role": "assistant", "content": None, "tool_calls": "text"}],
        [{"role": "assistant", "content": "a"}],
        [{"role": "system", "content": ""}],
        [user, user, user],
        [user, {"role": "system", "content": "late"}],
    )
    for messages in lenient:
        yield Case(f"messages {messages!r}", CHAT, encoded(good | {"messages": messages}))


def numbers(path: str, model: str) -> Iterator[Case]:
    """Yields requests with numbers that are out of range, no numbers, or no JSON."""
    good = encoded(plain(path, model))[:-1]
    for name, field in FIELDS[path].items():
        if field.kind not in ("number", "whole"):
            continue
        for raw in RAW:
            # Streamed, and left when it begins: a limit of 10**18 tokens may be taken for "no limit".
            stream = b',"stream":true' if path in (CHAT, COMPLETION, "/v1/responses") else b""
            body = good + stream + b',"%s":%s}' % (name.encode(), raw.encode())
            yield Case(
                f"{name}={raw[:24]}", path, body, refuse=field.must and _outside(raw, field), head_only=True
            )
    if path in (CHAT, COMPLETION):
        odd: tuple[Any, ...] = (
            {"-1": 1},
            {"99999999": 1},
            {"a": 1},
            {"1": 1e9},
            {"1": "a"},
            {"1": None},
            {"": 0},
        )
        for bias in odd:
            yield Case(f"logit_bias={bias!r}", path, encoded(plain(path, model) | {"logit_bias": bias}))
        for raw in ("NaN", "Infinity"):
            yield Case(
                f"a bias of {raw}", path, good + b',"logit_bias":{"1":%s}}' % raw.encode(), refuse=True
            )
    if path == COMPLETION:
        prompts: tuple[Any, ...] = ([-1], [10**9], [2**70], [1.5], [[1], [-1]], [None], [], [[]])
        for ids in prompts:
            yield Case(
                f"prompt={ids!r}", path, encoded(plain(path, model) | {"prompt": ids}), refuse=ids != [[]]
            )


def _outside(raw: str, field: Field) -> bool:
    if raw in NO_JSON:
        return True
    if field.kind == "whole" and not raw.lstrip("-").isdigit():
        return raw not in ("1e18", "1e-400")  # some readers take a whole float for a whole number
    value = float(raw) if len(raw) < 400 else float("-inf" if raw[0] == "-" else "inf")
    return value < field.low or (field.high is not None and value > field.high)


SCHEMAS: dict[str, Any] = {
    "a reference to itself": {"$ref": "#"},
    "definitions in a ring": {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    },
    "a reference to elsewhere": {"$ref": "http://127.0.0.1:1/schema.json"},
    "a reference to a file": {"$ref": "file:///etc/passwd"},
    "a pattern that backtracks": {"type": "string", "pattern": "^(a+)+$"},
    "a pattern that explodes": {"type": "string", "pattern": "(a?){500}a{500}"},
    "a pattern that counts": {"type": "string", "pattern": "((a{1,300}){1,300}){1,300}"},
    "a pattern that is broken": {"type": "string", "pattern": "(["},
    "a billion items": {"type": "array", "items": {"type": "integer"}, "minItems": 10**9, "maxItems": 10**9},
    "a text of a billion": {"type": "string", "minLength": 10**9},
    "an unknown type": {"type": "wizard"},
    "types that are numbers": {"type": [1, 2]},
    "impossible": {"allOf": [{"type": "string"}, {"type": "integer"}]},
    "5,000 choices": {"enum": [f"choice {number}" for number in range(5_000)]},
    "1,000 properties": {"type": "object", "properties": {f"p{number}": {} for number in range(1_000)}},
    "alternatives of alternatives": {
        "anyOf": [{"anyOf": [{"const": [a, b]} for b in range(60)]} for a in range(60)]
    },
    "no schema but a text": "text",
    "no schema but a list": [1],
    "nothing": None,
}


def schemas(path: str, model: str) -> Iterator[Case]:
    """Yields schemas, patterns and grammars that bind an answer to what is broken, endless or enormous."""
    good = plain(path, model)
    if path != CHAT:
        return
    for words, schema in SCHEMAS.items():
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
        yield Case(f"schema: {words}", path, encoded(good | {"response_format": form}))
        tool = {"type": "function", "function": {"name": "a", "parameters": schema}}
        bound = {"tools": [tool], "tool_choice": "required"}
        yield Case(f"tool: {words}", path, encoded(good | bound))
    forms: tuple[Any, ...] = ({}, {"type": "wizard"}, {"type": "json_schema"}, {"type": 5}, {"type": None})
    for form in forms:
        yield Case(f"response_format={form!r}", path, encoded(good | {"response_format": form}))
    for name, value in (
        ("guided_regex", "(["),
        ("guided_grammar", "root ::= root root"),
        ("guided_choice", []),
    ):
        yield Case(f"{name}={value!r}", path, encoded(good | {name: value}))
