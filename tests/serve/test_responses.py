"""`/v1/responses`: text in and out, streams in the published order, and conversations that are kept."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from judged import judged, opinionated
from servers import Running, running

from ingot.serve.kept import Shelf
from ingot.serve.protocol import ApiError

ASK = {"model": "aligned@1", "temperature": 0, "max_output_tokens": 9}


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with opinionated(folder, tmp_path_factory.mktemp("opinions")) as started:
        yield started


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return judged(server.url)


def test_an_answer_is_that_of_a_chat(client: openai.OpenAI) -> None:
    response = client.responses.create(**ASK, input="Hello", instructions="Be brief.")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    chat = client.chat.completions.create(model="aligned@1", messages=messages, temperature=0, max_tokens=9)
    assert response.output_text == chat.choices[0].message.content
    assert response.usage.input_tokens == chat.usage.prompt_tokens
    assert response.usage.output_tokens == chat.usage.completion_tokens
    assert response.status == ("incomplete" if chat.choices[0].finish_reason == "length" else "completed")
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.instructions == "Be brief."


def test_a_stream_grows_to_the_same(client: openai.OpenAI) -> None:
    whole = client.responses.create(**ASK, input="Hello")
    events = list(client.responses.create(**ASK, input="Hello", stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text
    last = events[-1].response
    assert last.output_text == text
    assert last.usage == whole.usage
    with client.responses.stream(
        model="aligned@1", input="Hello", temperature=0, max_output_tokens=40, instructions="x"
    ) as stream:
        gathered = list(stream)
    assert gathered[-1].type in ("response.completed", "response.incomplete")


def test_items_of_every_kind_are_understood(client: openai.OpenAI) -> None:
    items = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi.", "annotations": [], "logprobs": None}],
        },
        {"role": "user", "content": "And you?"},
    ]
    response = client.responses.create(**ASK, input=items)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "And you?"},
    ]
    chat = client.chat.completions.create(model="aligned@1", messages=messages, temperature=0, max_tokens=9)
    assert response.output_text == chat.choices[0].message.content


def test_conversations_are_kept(client: openai.OpenAI) -> None:
    first = client.responses.create(**ASK, input="Hello", instructions="Not carried over.")
    second = client.responses.create(**ASK, input="And you?", previous_response_id=first.id)
    items = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "And you?"},
    ]
    sent = client.responses.create(**ASK, input=items)
    assert second.output_text == sent.output_text
    assert second.usage.input_tokens == sent.usage.input_tokens
    again = client.responses.retrieve(first.id)
    assert again == first
    client.responses.delete(first.id)
    for use in (
        lambda: client.responses.retrieve(first.id),
        lambda: client.responses.create(**ASK, input="x", previous_response_id=first.id),
    ):
        with pytest.raises(openai.NotFoundError, match="is kept here"):
            use()
    unkept = client.responses.create(**ASK, input="Hello", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unkept.id)


def test_logprobs_come_with_the_text(client: openai.OpenAI) -> None:
    response = client.responses.create(
        **ASK, input="Hello", top_logprobs=3, include=["message.output_text.logprobs"]
    )
    entries = response.output[0].content[0].logprobs
    assert len(entries) == response.usage.output_tokens
    assert all(len(entry.top_logprobs) == 3 for entry in entries)
    events = list(client.responses.create(**ASK, input="Hello", top_logprobs=3, stream=True))
    deltas = [e for e in events if e.type == "response.output_text.delta"]
    done = next(e for e in events if e.type == "response.output_text.done")
    assert [entry.token for entry in done.logprobs] == [entry.token for entry in entries]
    assert sum(len(e.logprobs) for e in deltas) <= len(entries)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": 5}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"metadata": {"a": 5}}, "metadata"),
        ({"previous_response_id": 5}, "previous_response_id"),
        ({"max_tokens": 5}, "max_tokens"),
    ],
)
def test_what_cannot_be_used_is_named(server: Running, change: dict, param: str) -> None:
    answer = httpx.post(f"{server.url}/v1/responses", json={"input": "x", "max_output_tokens": 1, **change})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param), error


def test_whoever_has_another_key_does_not_see_it(folder: Path) -> None:
    from ingot.serve.keys import Keys

    with running(folder, keys=Keys({"one": "first", "two": "second"})) as server:
        owner, other = (judged(server.url).with_options(api_key=key) for key in ("one", "two"))
        made = owner.responses.create(**ASK, input="Hello")
        assert owner.responses.retrieve(made.id) == made
        with pytest.raises(openai.NotFoundError):
            other.responses.retrieve(made.id)
        with pytest.raises(openai.NotFoundError):
            other.responses.create(**ASK, input="x", previous_response_id=made.id)


def test_the_shelf_is_bounded() -> None:
    shelf = Shelf(most=3, room=1000)
    for number in range(10):
        shelf.keep({"id": f"resp_{number}"}, [], "me")
    assert len(shelf) == 3
    shelf.keep({"id": "resp_large"}, [{"content": "x" * 940}], "me")
    assert len(shelf) < 3
    assert shelf.taken <= 1000
    shelf.keep({"id": "resp_huge"}, [{"content": "x" * 2000}], "me")
    with pytest.raises(ApiError):
        shelf.find("resp_huge", "me")
    shelf.drop("resp_large", "me")
    with pytest.raises(ApiError):
        shelf.find("resp_large", "me")
    assert shelf.taken < 100
