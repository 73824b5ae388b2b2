"""Bad, hostile and excessive requests: each gets a plain refusal in OpenAI's shape, never a 500."""

import http.client
import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import running

from ingot.serve.limits import Limits

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}


def refused(response: httpx.Response, status: int, words: str = "") -> dict:
    error = response.json()["error"]
    assert response.status_code == status, error
    assert set(error) == {"message", "type", "param", "code"}
    assert words.lower() in error["message"].lower()
    assert response.headers["x-request-id"]
    return error


def post(url: str, body: object, path: str = CHAT, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(url + path, content=content, headers={"content-type": "application/json", **headers})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "json"),
        (b"{", "json"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"\xff\xfe", "json"),
        (b'{"temperature": NaN, "messages": []}', "NaN"),
        (b'{"temperature": -Infinity, "messages": []}', "Infinity"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "json"),
        (b"[" * 100_000, "nested"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "json"),
    ],
)
def test_what_is_no_json_object(server, body: bytes, words: str) -> None:
    refused(post(server.url, body), 400, words)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]}, "messages"),
        ({"messages": ["x"]}, "messages"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 1e999}, "json"),
        ({"temperature": "0.5"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 2}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"n": 10_000}, "n"),
        ({"n": True}, "n"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ["x" * 1000]}, "stop"),
        ({"seed": 2**70}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options"),
        ({"model": 7}, "model"),
        ({"tools": [{}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"tools": 5}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}}, "response_format"),
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "response_format"),
        ({"structured_outputs": {"regex": "(a"}}, "structured_outputs"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs"),
        ({"guided_json": {"type": "nonsense"}}, "guided_json"),
        ({"guided_grammar": ""}, "guided_grammar"),
        ({"frequency_penalty": 2.5}, "frequency_penalty"),
        ({"presence_penalty": -3}, "presence_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"min_p": 2}, "min_p"),
        ({"typical_p": 0}, "typical_p"),
        ({"top_k": -2}, "top_k"),
        ({"min_tokens": 3}, "min_tokens"),
        ({"ignore_eos": 1}, "ignore_eos"),
        ({"priority": 2**40}, "priority"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 3}, "logprobs"),
        ({"logit_bias": {"x": 2}}, "logit_bias"),
        ({"logit_bias": {"-1": 2}}, "logit_bias"),
        ({"logit_bias": {"1": 200}}, "logit_bias"),
        ({"logit_bias": {"100000": 2}}, "logit_bias"),
        ({"logit_bias": {str(i): 1 for i in range(5000)}}, "logit_bias"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"audio": {}}, "audio"),
        ({"best_of": 2}, "best_of"),
    ],
)
def test_values_that_cannot_be_used_are_named(server, change: dict, param: str) -> None:
    error = refused(post(server.url, {**HELLO, **change}), 400, "" if param == "messages" else param)
    assert error["param"] in (param, None)
    assert error["type"] == "invalid_request_error"


def test_unknown_fields_are_named_with_the_nearest_known(server) -> None:
    error = refused(post(server.url, {**HELLO, "temprature": 1}), 400, "did you mean 'temperature'?")
    assert error["param"] == "temprature"


def test_unknown_fields_are_not_repeated_at_length(server) -> None:
    for name in ("x" * 200_000, "temperatur" * 1000):
        for body in ({**HELLO, name: 1}, {"messages": [{"role": "user", "content": "a", name: 1}]}):
            error = refused(post(server.url, body), 400, "unknown")
            assert len(error["message"]) < 400
            assert len(error["param"]) <= 100


def test_complaints_do_not_grow_with_what_was_sent(server) -> None:
    for change in (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}] * 5000}]},
        {"messages": [{"role": "user", "content": 5}] * 1000},
        {"stop": [5] * 5000},
        {"tools": [5] * 5000},
        {"temperature": "9" * 100_000},
        {"response_format": {"type": "x" * 100_000}},
    ):
        error = refused(post(server.url, {**HELLO, **change}), 400)
        assert len(error["message"]) < 700
    error = refused(post(server.url, {"prompt": [[1, "a"]] * 50_000}, "/v1/completions"), 400, "prompt")
    assert len(error["message"]) < 700


def test_depth_is_bounded(server) -> None:
    deep: object = "x"
    for _ in range(70):
        deep = {"a": deep}
    error = refused(post(server.url, {**HELLO, "metadata": deep}), 400, "nested")
    assert error["code"] == "invalid_json"
    for depth in (3_000, 900):
        refused(post(server.url, b'{"metadata": ' + b"[" * depth + b"]" * depth + b"}"), 400, "nested")


def test_contexts_that_are_outgrown_name_both_numbers(server) -> None:
    error = refused(post(server.url, {"prompt": [5] * 600}, "/v1/completions"), 400, "600 tokens")
    assert "512" in error["message"]
    assert error["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    "prompt", [[], [[]], [["a"]], [1, "a"], [-1], [99_999], [True], ["a"] * 100, 5, None]
)
def test_prompts_of_no_known_shape(server, prompt: object) -> None:
    refused(post(server.url, {"prompt": prompt, "max_tokens": 2}, "/v1/completions"), 400)


def test_unknown_paths_and_methods(server) -> None:
    refused(httpx.get(server.url + "/v1/nothing"), 404)
    refused(httpx.get(server.url + CHAT), 405)
    refused(httpx.get(server.url + "/../../etc/passwd"), 404)


def test_other_content_types_are_refused(server) -> None:
    """A web page of another origin may send these without asking the server first."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        response = httpx.post(server.url + CHAT, content=json.dumps(HELLO), headers={"content-type": kind})
        refused(response, 415, "application/json")


def test_other_hosts_are_refused_on_loopback(server) -> None:
    refused(httpx.get(server.url + "/v1/models", headers={"host": "evil.example"}), 403)
    port = urlsplit(server.url).port
    assert httpx.get(server.url + "/health", headers={"host": f"localhost:{port}"}).status_code == 200


def test_nobody_else_is_let_in_by_cors(server) -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    response = httpx.options(server.url + CHAT, headers=headers)
    assert response.status_code == 405
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_bodies_have_a_limit_and_a_time(folder) -> None:
    with running(folder, Limits(body_bytes=1000, receive_seconds=0.5)) as server:
        refused(post(server.url, {**HELLO, "user": "x" * 1000}), 413, "1,000 bytes")
        refused(post(server.url, {**HELLO, "user": "x" * 10_000}), 413)
        place = urlsplit(server.url)
        with socket.create_connection((place.hostname, place.port)) as slow:
            head = f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            slow.sendall(f"{head}content-length: 100\r\n\r\n{{".encode())
            answer = http.client.HTTPResponse(slow)
            answer.begin()
            assert answer.status == 408
        assert post(server.url, HELLO).status_code == 200


def test_a_key_guards_everything_but_health_and_page(folder) -> None:
    with running(folder, key="geheim-ß") as server:
        for path in ("/", "/app.js", "/text.js", "/style.css", "/health"):
            assert httpx.get(server.url + path).status_code == 200
        for path in ("/v1/models", "/v1/models/aligned@1", "/anything"):
            refused(httpx.get(server.url + path), 401)
        for sent in ("", "Bearer", "Bearer wrong", "geheim-ß", "Basic geheim-ß"):
            refused(post(server.url, HELLO, authorization=sent.encode()), 401)
        assert post(server.url, HELLO, authorization="Bearer geheim-ß".encode()).status_code == 200


def test_the_page_cannot_reach_anything_else(server) -> None:
    response = httpx.get(server.url + "/")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    for path in ("/", "/style.css", "/app.js", "/text.js"):
        text = httpx.get(server.url + path).text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_subnormal=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "messages",
    "tool_choice",
    "response_format",
    "structured_outputs",
    "guided_json",
    "max_completion_tokens",
    "temperature",
    "stop",
    "n",
    "seed",
    "stream_options",
    "logit_bias",
    "tools",
    "model",
    "stop",
]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_no_json_makes_it_fail(server, change: dict) -> None:
    response = post(server.url, {**HELLO, **change})
    assert response.status_code in (200, 400, 404), response.text
    assert httpx.get(server.url + "/health").json()["status"] == "ok"
