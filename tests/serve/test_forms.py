"""Answers that must have a form: JSON, schemas, choices, and calls of tools, by the official client."""

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from judged import judged, opinionated
from pydantic import BaseModel
from servers import Running

pytest.importorskip("llguidance")

CONVERSATION = [{"role": "user", "content": "Hello, how are you?"}]
ASK = {"model": "aligned@1", "messages": CONVERSATION, "max_tokens": 120, "temperature": 1, "seed": 4}


class Small(BaseModel):
    good: bool
    legs: int


def function(name: str, **properties: dict) -> dict:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    schema = {**parameters, "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": "Does it.", "parameters": schema}}


TOOLS = [
    function("feed", often={"type": "boolean"}, what={"enum": ["fish", "hay"]}),
    function("count", to={"enum": [1, 2, 3]}),
]


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with opinionated(folder, tmp_path_factory.mktemp("opinions"), context=2048) as started:
        yield started


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return judged(server.url)


@pytest.fixture(scope="module")
def terse(server: Running) -> dict[str, int]:
    """Bans spaces between the parts of JSON: a model that says anything likes them too much."""
    tokenizer = server.ingot.tokenizer
    texts = {token: tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)}
    return {str(token): -100 for token, text in texts.items() if text and not text.strip()}


def test_choices_and_patterns(client: openai.OpenAI) -> None:
    bodies = [
        ({"guided_choice": ["yes", "no"]}, ("yes", "no")),
        ({"structured_outputs": {"regex": "[ab]{3}c"}}, None),
        ({"guided_grammar": 'start: "x" | "yy"'}, ("x", "yy")),
    ]
    for body, allowed in bodies:
        choice = client.chat.completions.create(**ASK, extra_body=body).choices[0]
        assert choice.finish_reason == "stop"
        text = choice.message.content
        assert text in allowed if allowed else (len(text) == 4 and set(text[:3]) <= {"a", "b"})
    text = client.completions.create(
        model="aligned@1", prompt="def", max_tokens=9, extra_body={"guided_regex": "[0-9]{2}"}
    )
    assert text.choices[0].text.isdigit()


def test_answers_keep_to_a_schema_and_are_parsed(client: openai.OpenAI, terse: dict[str, int]) -> None:
    answer = client.chat.completions.parse(**ASK, response_format=Small, logit_bias=terse)
    assert isinstance(answer.choices[0].message.parsed, Small)
    response = client.responses.parse(
        model="aligned@1",
        input="Hello",
        text_format=Small,
        max_output_tokens=100,
        extra_body={"logit_bias": terse},
    )
    assert isinstance(response.output_parsed, Small)


def test_any_json_object(client: openai.OpenAI, terse: dict[str, int], server: Running) -> None:
    form = {"type": "json_object"}
    open_only = client.chat.completions.create(
        **ASK | {"max_tokens": 1}, response_format=form, logit_bias=terse
    )
    assert open_only.choices[0].message.content.startswith("{")
    closing = {str(server.ingot.tokenizer.encode("}")[0]): 100, **terse}
    choice = client.chat.completions.create(**ASK, response_format=form, logit_bias=closing).choices[0]
    assert choice.finish_reason == "stop"
    assert isinstance(json.loads(choice.message.content), dict)


def test_a_required_call_is_made(client: openai.OpenAI, terse: dict[str, int]) -> None:
    names = set()
    for seed in range(2):
        ask = {**ASK, "seed": seed, "tools": TOOLS, "tool_choice": "required", "logit_bias": terse}
        choice = client.chat.completions.create(**ask).choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        (call,) = choice.message.tool_calls
        arguments = json.loads(call.function.arguments)
        assert set(arguments) == ({"often", "what"} if call.function.name == "feed" else {"to"})
        names.add(call.function.name)
        parts: dict[str, str] = {"name": "", "arguments": ""}
        for chunk in client.chat.completions.create(**ask, stream=True):
            for delta in chunk.choices[0].delta.tool_calls or ():
                parts["name"] += delta.function.name or ""
                parts["arguments"] += delta.function.arguments or ""
        assert parts == {"name": call.function.name, "arguments": call.function.arguments}
    assert names <= {"feed", "count"}


def test_a_named_call_is_made_and_the_stream_helper_gathers_it(
    client: openai.OpenAI, terse: dict[str, int]
) -> None:
    named = {"type": "function", "function": {"name": "count"}}
    with client.chat.completions.stream(**ASK, tools=TOOLS, tool_choice=named, logit_bias=terse) as stream:
        final = stream.get_final_completion().choices[0]
    (call,) = final.message.tool_calls
    assert call.function.name == "count"
    assert json.loads(call.function.arguments)["to"] in (1, 2, 3)


def test_results_of_calls_go_back(client: openai.OpenAI, terse: dict[str, int]) -> None:
    ask = {**ASK, "tools": TOOLS, "tool_choice": "required", "logit_bias": terse}
    first = client.chat.completions.create(**ask).choices[0].message
    call = first.tool_calls[0]
    messages = [
        *CONVERSATION,
        first.model_dump(),
        {"role": "tool", "tool_call_id": call.id, "content": "done"},
    ]
    answer = client.chat.completions.create(
        model="aligned@1", messages=messages, tools=TOOLS, max_tokens=4, temperature=0
    )
    shorter = client.chat.completions.create(
        model="aligned@1", messages=messages, tools=TOOLS, tool_choice="none", max_tokens=4, temperature=0
    )
    assert answer.usage.prompt_tokens > shorter.usage.prompt_tokens > 20


def test_responses_call_functions_too(client: openai.OpenAI, terse: dict[str, int]) -> None:
    flat = [{"type": "function", **tool["function"], "strict": True} for tool in TOOLS]
    ask = {"model": "aligned@1", "tools": flat, "max_output_tokens": 300, "temperature": 0}
    ask["extra_body"] = {"logit_bias": terse}
    first = client.responses.create(**ask, input="Hello", tool_choice={"type": "function", "name": "feed"})
    (item,) = first.output
    assert (item.type, item.name, first.status) == ("function_call", "feed", "completed")
    assert json.loads(item.arguments)["what"] in ("fish", "hay")
    streamed = client.responses.create(
        **ask, input="Hello", tool_choice={"type": "function", "name": "feed"}, stream=True
    )
    deltas = [event.delta for event in streamed if event.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == item.arguments
    output = {"type": "function_call_output", "call_id": item.call_id, "output": "all eaten"}
    kept = client.responses.create(
        **ask | {"max_output_tokens": 3}, input=[output], previous_response_id=first.id
    )
    sent = client.responses.create(
        **ask | {"max_output_tokens": 3},
        input=[{"role": "user", "content": "Hello"}, item.model_dump(), output],
    )
    assert kept.usage.input_tokens == sent.usage.input_tokens
    assert kept.output_text == sent.output_text


def test_forms_that_cannot_be_kept_to_are_refused(client: openai.OpenAI) -> None:
    remote = {"$ref": "https://example.org/schema.json"}
    for schema in (remote, {"type": "nonsense"}, {"type": "string", "pattern": "("}):
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        with pytest.raises(openai.BadRequestError, match="response_format"):
            client.chat.completions.create(**ASK, response_format=form)
