"""Embeddings, rankings and tokens over HTTP: as the engine itself makes them."""

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from judged import judged
from servers import Running, running

from ingot.inference.embedding import Embedder
from ingot.models import encoder_folder
from ingot.models.encoder import EncoderConfig
from ingot.serve.serving import Source
from ingot.tokenizer import Tokenizer

TEXTS = ["def add(a, b)", "Hello, how are you?", "Grüße! 日本語", "a"]


@pytest.fixture(scope="module")
def encoder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "reader"
    path.mkdir()
    tokenizer = Tokenizer.load(folder)
    tokenizer.save(path)
    config = EncoderConfig(
        vocabulary=tokenizer.vocab_size, width=16, layers=2, heads=2, feed_forward=32, context=64
    )
    encoder_folder.save(path, config.build(seed=0))
    return path


@pytest.fixture(scope="module")
def server(folder: Path, encoder: Path) -> Iterator[Running]:
    with running(folder, others=[Source(encoder)]) as started:
        yield started


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return judged(server.url)


def test_vectors_are_those_of_the_model(client: openai.OpenAI, encoder: Path) -> None:
    embedder = Embedder(encoder)
    expected = embedder.embed(TEXTS).numpy()
    floats = client.embeddings.create(model="reader", input=TEXTS, encoding_format="float")
    packed = client.embeddings.create(model="reader", input=TEXTS)  # base64, which the client asks for
    ids = client.embeddings.create(model="reader", input=[embedder.encode(text) for text in TEXTS])
    for answer in (floats, packed, ids):
        assert [one.index for one in answer.data] == [0, 1, 2, 3]
        np.testing.assert_allclose([one.embedding for one in answer.data], expected, atol=1e-6)
        assert answer.usage.prompt_tokens == sum(len(embedder.encode(text)) for text in TEXTS)
    one = client.embeddings.create(model="reader", input=TEXTS[0])
    np.testing.assert_allclose(one.data[0].embedding, expected[0], atol=1e-6)
    one = client.embeddings.create(model="reader", input=embedder.encode(TEXTS[0]))
    np.testing.assert_allclose(one.data[0].embedding, expected[0], atol=1e-6)


def test_base64_is_little_endian_float32(server: Running, encoder: Path) -> None:
    body = {"model": "reader", "input": "Hello", "encoding_format": "base64"}
    answer = httpx.post(f"{server.url}/v1/embeddings", json=body).json()
    vector = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(vector, Embedder(encoder).embed(["Hello"])[0].numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input": []}, "0 texts"),
        ({"input": [[]]}, "no tokens"),
        ({"input": 5}, "list of texts"),
        ({"input": [1, "a"]}, "list of texts"),
        ({"input": [10**9]}, "token id"),
        ({"input": [-1]}, "token id"),
        ({"input": "word " * 100}, "room for"),
        ({"input": ["a"] * 3000}, "3000 texts"),
        ({"dimensions": 5}, "does not give vectors of 5"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"model": "aligned@1"}, "decoder"),
        ({"quality": "high"}, "unknown field 'quality'"),
    ],
)
def test_refusals_say_why(server: Running, change: dict, words: str) -> None:
    answer = httpx.post(f"{server.url}/v1/embeddings", json={"model": "reader", "input": "Hello", **change})
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_texts_that_are_too_long_can_be_cut(server: Running) -> None:
    body = {"model": "reader", "input": "word " * 100, "truncate_prompt_tokens": -1}
    answer = httpx.post(f"{server.url}/v1/embeddings", json=body).json()
    assert answer["usage"]["prompt_tokens"] == 64


def test_documents_are_ranked(server: Running, encoder: Path) -> None:
    query = "Hello"
    scores = Embedder(encoder).score([(query, text) for text in TEXTS]).tolist()
    body = {"model": "reader", "query": query, "documents": [*TEXTS[:2], {"text": TEXTS[2]}, TEXTS[3]]}
    answer = httpx.post(f"{server.url}/v1/rerank", json=body)
    from openai_shapes import validate

    validate("/v1/rerank", answer.status_code, "application/json", answer.content)
    results = answer.json()["results"]
    assert [one["index"] for one in results] == sorted(range(4), key=lambda index: -scores[index])
    for one in results:
        assert one["relevance_score"] == pytest.approx(scores[one["index"]], abs=1e-5)
        assert one["document"]["text"] == TEXTS[one["index"]]
    body |= {"top_n": 2, "return_documents": False}
    best = httpx.post(f"{server.url}/v1/rerank", json=body).json()["results"]
    assert [set(one) for one in best] == [{"index", "relevance_score"}] * 2
    for change in ({"documents": []}, {"documents": [5]}, {"top_n": 0}, {"query": 5}, {"model": "aligned@1"}):
        assert httpx.post(f"{server.url}/v1/rerank", json=body | change).status_code == 400


def test_an_encoder_writes_no_text(client: openai.OpenAI) -> None:
    for use in (
        lambda: client.chat.completions.create(model="reader", messages=[{"role": "user", "content": "a"}]),
        lambda: client.completions.create(model="reader", prompt="a"),
        lambda: client.responses.create(model="reader", input="a"),
    ):
        with pytest.raises(openai.BadRequestError, match="its kind is 'encoder'"):
            use()


def test_tokens_and_back(server: Running) -> None:
    def post(path: str, **body: object) -> dict:
        answer = httpx.post(server.url + path, json=body)
        from openai_shapes import validate

        validate(path, answer.status_code, "application/json", answer.content)
        assert answer.status_code == 200, answer.text
        return answer.json()

    for text in (*TEXTS, "", "<|im_end|>"):
        bare = post("/tokenize", prompt=text, add_special_tokens=False, return_token_strs=True)
        assert bare["tokens"] == server.ingot.tokenizer.encode(text)
        assert bare["count"] == len(bare["tokens"]) == len(bare["token_strs"])
        assert bare["max_model_len"] == 512
        assert post("/detokenize", tokens=bare["tokens"])["prompt"] == text
        assert post("/tokenize", prompt=text)["tokens"] == server.ingot.encode(text)
    messages = [{"role": "user", "content": "Hello"}]
    assert post("/tokenize", messages=messages)["tokens"] == server.ingot.encode(messages)
    for path, body in (
        ("/tokenize", {}),
        ("/tokenize", {"prompt": "a", "messages": messages}),
        ("/tokenize", {"prompt": ["a"]}),
        ("/detokenize", {"tokens": [-1]}),
        ("/detokenize", {"tokens": [10**6]}),
        ("/detokenize", {"tokens": ["a"]}),
        ("/detokenize", {}),
    ):
        assert httpx.post(server.url + path, json=body).status_code == 400
