"""The official client as the judge of the protocol."""

import openai
import pytest

CONVERSATION = [{"role": "user", "content": "Hello, how are you?"}]


@pytest.fixture(scope="module")
def client(server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=30)


def test_models_are_listed(client: openai.OpenAI) -> None:
    models = client.models.list().data
    assert [model.id for model in models] == ["aligned@1"]
    assert client.models.retrieve("aligned@1").owned_by == "ingot"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_a_chat_is_answered(client: openai.OpenAI, server) -> None:
    answer = client.chat.completions.create(
        model="aligned@1", messages=CONVERSATION, max_tokens=20, temperature=0, logprobs=True
    )
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens == len(server.ingot.encode(CONVERSATION))
    assert answer.usage.completion_tokens == len(choice.logprobs.content) <= 20
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert all(entry.logprob <= 0 for entry in choice.logprobs.content)
    joined = b"".join(bytes(entry.bytes) for entry in choice.logprobs.content)
    assert joined.decode("utf-8", "replace") == choice.message.content


def test_a_stream_says_the_same(client: openai.OpenAI) -> None:
    ask = {"model": "aligned@1", "messages": CONVERSATION, "max_tokens": 30, "seed": 5, "temperature": 1.0}
    whole = client.chat.completions.create(**ask)
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    finished = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert finished[-1] == whole.choices[0].finish_reason
    assert set(finished[:-1]) == {None}


def test_the_clients_own_stream_helper_accepts_it(client: openai.OpenAI) -> None:
    """It insists on answers that end by themselves."""
    ask = {"model": "aligned@1", "messages": CONVERSATION, "max_tokens": 20, "temperature": 0}
    free = client.chat.completions.create(**ask).choices[0].message.content
    with client.chat.completions.stream(**ask, stop=free[6:8]) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion().choices[0]
    assert final.message.content == free[: free.index(free[6:8])]


def test_several_choices_differ_and_repeat_with_their_seed(client: openai.OpenAI) -> None:
    ask = {"model": "aligned@1", "messages": CONVERSATION, "max_tokens": 12, "seed": 1, "n": 3}
    first, second = (client.chat.completions.create(**ask) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts == [choice.message.content for choice in second.choices]
    streamed = ["", "", ""]
    for chunk in client.chat.completions.create(**ask, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts


def test_completions_take_every_shape_of_prompt(client: openai.OpenAI, server) -> None:
    tokens = server.ingot.encode("def add")
    texts = []
    for prompt in ("def add", ["def add"], tokens, [tokens]):
        answer = client.completions.create(
            model="aligned@1", prompt=prompt, max_tokens=9, temperature=0, logprobs=0
        )
        texts.append(answer.choices[0].text)
        assert len(answer.choices[0].logprobs.token_logprobs) == answer.usage.completion_tokens
    assert len(set(texts)) == 1
    two = client.completions.create(model="aligned@1", prompt=["def add", "Hello"], max_tokens=9, n=2, seed=3)
    assert [choice.index for choice in two.choices] == [0, 1, 2, 3]
    assert two.usage.prompt_tokens == len(tokens) + len(server.ingot.encode("Hello"))
    streamed = client.completions.create(
        model="aligned@1", prompt="def add", max_tokens=9, temperature=0, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in streamed) == texts[0]


def test_text_parts_and_developer_and_echoed_answers_are_understood(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="aligned@1", messages=CONVERSATION, max_tokens=5, temperature=0
    )
    messages = [
        {
            "role": "developer",
            "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}],
        },
        *CONVERSATION,
        answer.choices[0].message.model_dump(),
        {"role": "user", "content": [{"type": "text", "text": "And you?"}]},
    ]
    plain = [
        {"role": "system", "content": "Be\nbrief."},
        *CONVERSATION,
        {"role": "assistant", "content": answer.choices[0].message.content},
        {"role": "user", "content": "And you?"},
    ]
    texts = [
        client.chat.completions.create(model="aligned@1", messages=one, max_tokens=9, temperature=0)
        .choices[0]
        .message.content
        for one in (messages, plain)
    ]
    assert texts[0] == texts[1]


def test_stop_texts_are_obeyed(client: openai.OpenAI) -> None:
    ask = {"model": "aligned@1", "messages": CONVERSATION, "max_tokens": 40, "temperature": 0}
    free = client.chat.completions.create(**ask).choices[0].message.content
    stop = free[5:8]
    cut = client.chat.completions.create(**ask, stop=[stop]).choices[0]
    assert cut.message.content == free[: free.index(stop)]
    assert cut.finish_reason == "stop"


def test_ignored_and_neutral_fields_are_accepted(client: openai.OpenAI) -> None:
    client.chat.completions.create(
        model="aligned",
        messages=CONVERSATION,
        max_completion_tokens=2,
        user="me",
        metadata={"a": "b"},
        store=False,
        frequency_penalty=0,
        presence_penalty=0.0,
        response_format={"type": "text"},
        extra_body={"top_k": 5},
    )


def test_mistakes_arrive_as_the_clients_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="aligned@1"):
        client.chat.completions.create(model="gpt-5", messages=CONVERSATION)
    with pytest.raises(openai.BadRequestError, match=r"\d{3,} tokens.*512") as caught:
        client.chat.completions.create(
            model="aligned@1", messages=[{"role": "user", "content": "word " * 2000}], stream=True
        )
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with pytest.raises(openai.BadRequestError, match="'tools' is not supported") as caught:
        client.chat.completions.create(model="aligned@1", messages=CONVERSATION, tools=[tool])
    assert caught.value.param == "tools"
