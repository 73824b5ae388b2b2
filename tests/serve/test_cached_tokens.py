"""What `usage` says of the prompt cache, against whole pages counted by hand."""

import httpx
import openai
import pytest
from judged import judged, opinionated
from servers import Running

from ingot.inference.choosing.sampling import Sampling
from ingot.inference.computing.pages import PAGE, Layout
from ingot.inference.engine import Engine

LONG = "def add(a, b): return a + b. " * 12


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    with opinionated(folder, tmp_path_factory.mktemp("cached")) as started:
        yield started


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return judged(server.url)


def whole_pages(tokens: int) -> int:
    """Tokens of a prompt that can be found again: of whole pages, and never the last token."""
    return (tokens - 1) // PAGE * PAGE


def test_the_second_request_with_a_beginning_shows_it(client: openai.OpenAI) -> None:
    ask = {"model": "aligned@1", "messages": [{"role": "user", "content": "one " + LONG}], "max_tokens": 3}
    first, second = (client.chat.completions.create(**ask).usage for _ in range(2))
    assert first.prompt_tokens_details.cached_tokens == 0
    assert second.prompt_tokens_details.cached_tokens == whole_pages(first.prompt_tokens) > 0
    assert second.prompt_tokens == first.prompt_tokens
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage == second
    other = ask | {"messages": [{"role": "user", "content": "two " + LONG}]}
    assert client.chat.completions.create(**other).usage.prompt_tokens_details.cached_tokens < PAGE


def test_completions_and_responses_show_it_too(client: openai.OpenAI, server: Running) -> None:
    ask = {"model": "aligned@1", "prompt": ["three " + LONG, "four " + LONG], "max_tokens": 2}
    lengths = [len(server.ingot.encode(text)) for text in ask["prompt"]]
    assert client.completions.create(**ask).usage.prompt_tokens_details.cached_tokens == 0
    found = client.completions.create(**ask).usage
    assert found.prompt_tokens_details.cached_tokens == sum(map(whole_pages, lengths))
    one = ask | {"prompt": [ask["prompt"][1], "five " + LONG]}
    assert client.completions.create(**one).usage.prompt_tokens_details.cached_tokens == whole_pages(
        lengths[1]
    )
    said = {"model": "aligned@1", "input": "six " + LONG, "max_output_tokens": 3}
    first, second = (client.responses.create(**said).usage for _ in range(2))
    assert first.input_tokens_details.cached_tokens == 0
    assert second.input_tokens_details.cached_tokens == whole_pages(first.input_tokens)


@pytest.mark.parametrize("path", ["chat", "plain"])
def test_several_answers_to_a_new_prompt_have_nothing_cached(client: openai.OpenAI, path: str) -> None:
    """Those that join the first in reading it cost nothing, but somebody had to read it, once."""
    if path == "chat":
        messages = [{"role": "user", "content": "seven " + LONG}]
        used = client.chat.completions.create(model="aligned@1", messages=messages, n=4, max_tokens=3).usage
    else:
        text = "eight " + LONG
        used = client.completions.create(model="aligned@1", prompt=text, n=2, best_of=4, max_tokens=3).usage
    assert used.prompt_tokens_details.cached_tokens == 0
    assert used.completion_tokens > 3


def test_a_prompt_whose_own_probabilities_are_asked_for_is_computed_whole(client: openai.OpenAI) -> None:
    ask = {"model": "aligned@1", "prompt": "nine " + LONG, "max_tokens": 2}
    client.completions.create(**ask)
    scored = client.completions.create(**ask, echo=True, logprobs=0)
    assert scored.usage.prompt_tokens_details.cached_tokens == 0


def test_counts_along_a_stream_are_there_from_the_first_piece(server: Running) -> None:
    ask = {"prompt": "ten " + LONG, "max_tokens": 4, "stream": True}
    ask["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    seen: list[set[int]] = []
    for _ in range(2):
        lines = httpx.post(server.url + "/v1/completions", json=ask).text.split("data: ")[1:-1]
        usages = [httpx.Response(200, text=line).json()["usage"] for line in lines]
        seen.append({usage["prompt_tokens_details"]["cached_tokens"] for usage in usages})
    assert seen == [{0}, {whole_pages(len(server.ingot.encode(ask["prompt"])))}]


@pytest.mark.parametrize(
    ("path", "ask"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}),
        ("/v1/completions", {"prompt": "a", "max_tokens": 2}),
        ("/v1/responses", {"input": "a", "max_output_tokens": 2}),
    ],
)
def test_our_own_document_describes_it(server: Running, path: str, ask: dict) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    document = httpx.get(server.url + "/openapi.json").json()
    told = document["paths"][path]["post"]["responses"]["200"]["content"]
    assert set(told) == {"application/json", "text/event-stream"}
    schema = told["application/json"]["schema"]
    answer = httpx.post(server.url + path, json=ask).json()
    jsonschema.validate(answer, schema)
    details = next(key for key in answer["usage"] if key in ("prompt_tokens_details", "input_tokens_details"))
    del answer["usage"][details]["cached_tokens"]
    with pytest.raises(jsonschema.ValidationError, match="cached_tokens"):
        jsonschema.validate(answer, schema)


def test_what_a_preempted_request_computed_itself_is_not_called_cached(server: Running) -> None:
    model = server.ingot
    page_bytes = Layout.of(model.model.config).page_bytes(model.model.embedding.weight.dtype)
    engine = Engine(model.model, model.tokenizer, slots=4, memory=7 * page_bytes, wait=0)
    prompts = [list(range(first, first + 50)) for first in (1, 100)]
    sampling = Sampling(max_new_tokens=80, ignore_eos=True)
    both = [engine.submit(prompt, sampling) for prompt in prompts]
    while not all(request.finish_reason for request in both):
        engine.step()
    assert engine.usage().preemptions > 0
    assert engine.usage().prefix_hits > 0
    assert [request.cached for request in both] == [0, 0]
