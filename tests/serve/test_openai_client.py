"""The official client as the judge of the protocol; what it gets is also checked field by field."""

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from judged import judged, opinionated
from servers import Running

CONVERSATION = [{"role": "user", "content": "Hello, how are you?"}]


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with opinionated(folder, tmp_path_factory.mktemp("opinions")) as started:
        yield started


@pytest.fixture(scope="module")
def client(server) -> openai.OpenAI:
    return judged(server.url)


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
    with pytest.raises(openai.BadRequestError, match="'audio' is not supported") as caught:
        client.chat.completions.create(
            model="aligned@1", messages=CONVERSATION, audio={"voice": "ash", "format": "wav"}
        )
    assert caught.value.param == "audio"


def test_the_asynchronous_client_gets_the_same(client: openai.OpenAI, server) -> None:
    ask = {"model": "aligned@1", "messages": CONVERSATION, "max_tokens": 12, "temperature": 0}
    expected = client.chat.completions.create(**ask).choices[0].message.content

    async def several() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as other:
            whole = await asyncio.gather(*(other.chat.completions.create(**ask) for _ in range(4)))
            stream = await other.chat.completions.create(**ask, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            async with other.chat.completions.stream(
                **ask, stop=expected[6:8]
            ) as helper:  # it insists on answers that end by themselves
                final = await helper.get_final_completion()
        assert final.choices[0].message.content == expected[: expected.index(expected[6:8])]
        return [answer.choices[0].message.content for answer in whole] + ["".join(pieces)]

    assert asyncio.run(several()) == [expected] * 5


def test_likeliest_tokens_are_reported(client: openai.OpenAI, server) -> None:
    answer = client.chat.completions.create(
        model="aligned@1", messages=CONVERSATION, max_tokens=8, temperature=0, logprobs=True, top_logprobs=5
    )
    for entry in answer.choices[0].logprobs.content:
        likeliest = [other.logprob for other in entry.top_logprobs]
        assert len(likeliest) == 5
        assert likeliest == sorted(likeliest, reverse=True)
        assert entry.logprob == pytest.approx(likeliest[0], abs=1e-5)
        assert sum(map(math.exp, likeliest)) <= 1 + 1e-4
    whole = client.completions.create(
        model="aligned@1", prompt="def add", max_tokens=8, temperature=1, seed=3, logprobs=3
    )
    logprobs = whole.choices[0].logprobs
    for token, value, others in zip(
        logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True
    ):
        assert others[token] == value
        assert len(others) in (3, 4)


def test_logit_bias_and_penalties_are_obeyed(client: openai.OpenAI, server) -> None:
    ask = {"model": "aligned@1", "prompt": "def add", "max_tokens": 6, "temperature": 0}
    token = server.ingot.tokenizer.encode("+")[-1]
    said = server.ingot.tokenizer.decode([token])
    assert client.completions.create(**ask, logit_bias={str(token): 100}).choices[0].text == said * 6
    free = client.completions.create(**ask, logprobs=0).choices[0].logprobs.tokens
    banned = server.ingot.tokenizer.encode(free[0])[-1]
    other = client.completions.create(**ask, logprobs=0, logit_bias={str(banned): -100})
    assert free[0] not in other.choices[0].logprobs.tokens
    repeated = client.completions.create(
        **ask | {"max_tokens": 40}, logit_bias={str(token): 9}, presence_penalty=2, frequency_penalty=2
    )
    assert repeated.choices[0].text.count(said) < 40


def test_extensions_come_by_extra_body(client: openai.OpenAI) -> None:
    ask = {"model": "aligned@1", "prompt": "def add", "max_tokens": 9}
    greedy = client.completions.create(**ask, temperature=0).choices[0].text
    for extra in ({"top_k": 1}, {"min_p": 1.0}, {"top_k": 1, "typical_p": 0.9, "priority": 3}):
        assert client.completions.create(**ask, temperature=1, extra_body=extra).choices[0].text == greedy
    long = client.completions.create(**ask, extra_body={"ignore_eos": True, "min_tokens": 9})
    assert long.usage.completion_tokens == 9
    assert long.choices[0].finish_reason == "length"


def test_streams_can_count_all_the_way(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="aligned@1",
        messages=CONVERSATION,
        max_tokens=9,
        stream=True,
        stream_options={"include_usage": True, "continuous_usage_stats": True},
    )
    counts = [chunk.usage.completion_tokens for chunk in stream]
    assert counts == sorted(counts)
    assert counts[-1] == 9


def test_echo_gives_the_prompt_back_with_its_logprobs(client: openai.OpenAI, server) -> None:
    """What evaluation harnesses ask for: `token_logprobs[ctxlen:-1]` and the best of `top_logprobs`."""
    tokens = server.ingot.encode("def add(a, b):\n    return Grüße")
    for budget in (1, 0):
        answer = client.completions.create(
            model="aligned@1", prompt=[tokens], max_tokens=budget, echo=True, logprobs=1, temperature=0
        )
        choice = answer.choices[0]
        assert choice.text.startswith("def add(a, b):\n    return Grüße")
        lists = choice.logprobs
        assert len(lists.tokens) == len(tokens) + budget == len(lists.text_offset)
        assert answer.usage.completion_tokens == budget
        assert lists.token_logprobs[0] is None
        assert lists.top_logprobs[0] is None
        expected = judge(server, tokens)
        assert lists.token_logprobs[1 : len(tokens)] == pytest.approx(expected, abs=0.1)  # bf16
        for value, others in zip(lists.token_logprobs[1:], lists.top_logprobs[1:], strict=True):
            assert value <= max(others.values())
        for name, place in zip(lists.tokens[1:], lists.text_offset[1:], strict=True):
            assert name.startswith("bytes:") or choice.text.startswith(name, place) or not budget


def judge(server, tokens: list[int]) -> list[float]:
    """The tokens' log-probabilities by the model's plain forward pass."""
    import torch

    with torch.inference_mode():
        scores = server.ingot.model(torch.tensor([tokens])).logits[0].float().log_softmax(-1)
    return [scores[place, token].item() for place, token in enumerate(tokens[1:])]


def test_echo_and_streams_go_together(client: openai.OpenAI) -> None:
    ask = {"model": "aligned@1", "prompt": "def add", "max_tokens": 5, "echo": True, "temperature": 0}
    whole = client.completions.create(**ask).choices[0].text
    assert whole.startswith("def add")
    assert "".join(chunk.choices[0].text for chunk in client.completions.create(**ask, stream=True)) == whole


def test_the_best_of_several_is_sent(client: openai.OpenAI) -> None:
    ask = {"model": "aligned@1", "prompt": "def add", "max_tokens": 7, "temperature": 1.5, "seed": 2}
    made = client.completions.create(**ask, n=5, logprobs=0)
    means = [sum(c.logprobs.token_logprobs) / len(c.logprobs.token_logprobs) for c in made.choices]
    best = client.completions.create(**ask, n=2, best_of=5)
    order = sorted(range(5), key=lambda index: -means[index])
    assert [choice.text for choice in best.choices] == [made.choices[index].text for index in order[:2]]
    assert [choice.index for choice in best.choices] == [0, 1]
    assert best.usage == made.usage
