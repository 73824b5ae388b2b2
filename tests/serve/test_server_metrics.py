"""`/metrics`: parsed as Prometheus would, counted against what the answers themselves say."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from servers import Running, running, slow_down, until

from ingot.serve.keys import Keys
from ingot.serve.serving import Source

CHAT = "/v1/chat/completions"
ASK = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 6, "ignore_eos": True}

VLLM = {
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:prefix_cache_hits_total",
    "vllm:prefix_cache_queries_total",
    "vllm:time_to_first_token_seconds_bucket",
    "vllm:inter_token_latency_seconds_bucket",
    "vllm:e2e_request_latency_seconds_bucket",
    "vllm:request_queue_time_seconds_bucket",
    "vllm:request_success_total",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:num_preemptions_total",
}
"""As vLLM's documentation of production metrics lists them."""


def scrape(server: Running, **headers: str) -> dict[tuple[str, tuple], float]:
    text = httpx.get(server.url + "/metrics", headers=headers).text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(values: dict, name: str, model: str = "aligned@1", **labels: str) -> float:
    return values.get((name, tuple(sorted({"model_name": model, **labels}.items()))), 0.0)


def test_counts_are_what_the_answers_say(folder) -> None:
    with running(folder) as server:
        before = scrape(server)
        assert {name for name, _ in before} >= VLLM
        prompt = new = 0
        for change in ({}, {"n": 2}, {"stream": False, "max_tokens": 1}):
            usage = httpx.post(server.url + CHAT, json=ASK | change).json()["usage"]
            prompt += usage["prompt_tokens"] * change.get("n", 1)
            new += usage["completion_tokens"]
        httpx.post(server.url + CHAT, json=ASK | {"stream": True})
        prompt, new = prompt + usage["prompt_tokens"], new + 6
        after = scrape(server)
        assert of(after, "vllm:prompt_tokens_total") == prompt
        assert of(after, "vllm:generation_tokens_total") == new
        assert of(after, "vllm:request_success_total", finished_reason="length") == 5
        assert of(after, "vllm:time_to_first_token_seconds_count") == 5
        assert of(after, "vllm:e2e_request_latency_seconds_count") == 5
        assert of(after, "vllm:request_queue_time_seconds_count") == 5
        assert of(after, "vllm:inter_token_latency_seconds_count") == new - 5
        whole = of(after, "vllm:e2e_request_latency_seconds_sum")
        first = of(after, "vllm:time_to_first_token_seconds_sum")
        between = of(after, "vllm:inter_token_latency_seconds_sum")
        assert abs(whole - first - between) < 0.02 * whole + 1e-3
        assert 0 <= of(after, "vllm:request_queue_time_seconds_sum") <= first
        assert of(after, "vllm:num_requests_running") == of(after, "vllm:num_requests_waiting") == 0


def test_what_is_under_way_shows_and_what_is_left_counts_as_abort(folder) -> None:
    with running(folder) as server:
        slow_down(server)
        with httpx.stream(
            "POST", server.url + CHAT, json=ASK | {"stream": True, "n": 3, "max_tokens": 450}
        ) as answer:
            lines = answer.iter_lines()  # kept: when it goes, the connection is closed
            next(lines)
            until(lambda: of(scrape(server), "vllm:num_requests_running") == 3)
            assert 0 <= of(scrape(server), "vllm:kv_cache_usage_perc") <= 1
        until(lambda: of(scrape(server), "vllm:num_requests_running") == 0)
        assert of(scrape(server), "vllm:request_success_total", finished_reason="abort") == 3


def test_two_models_share_each_metric(folder) -> None:
    with running(folder, others=[Source(folder, "other")]) as server:
        httpx.post(server.url + CHAT, json=ASK | {"model": "other"})
        text = httpx.get(server.url + "/metrics").text
        heads = [line for line in text.splitlines() if line.startswith("# TYPE ")]
        assert len(heads) == len(set(heads)) and "vllm:" in heads[0]
        values = scrape(server)
        assert of(values, "vllm:generation_tokens_total", "other") == 6
        assert of(values, "vllm:generation_tokens_total") == 0


def test_refusals_are_counted_and_the_key_is_asked_for(folder) -> None:
    key = "anne-0123456789abcdef"
    with running(folder, keys=Keys({key: "anne"})) as server:
        assert httpx.get(server.url + "/metrics").status_code == 401
        header = {"authorization": f"Bearer {key}"}
        assert httpx.post(server.url + CHAT, json={}, headers=header).status_code == 400
        values = scrape(server, **header)
        assert values[("ingot_requests_refused_total", (("status", "401"),))] == 1
        assert values[("ingot_requests_refused_total", (("status", "400"),))] == 1
        assert "anne" not in httpx.get(server.url + "/metrics", headers=header).text


@pytest.mark.parametrize("path", ["/metrics", "/health", "/ready"])
def test_probes_say_nothing_about_who_asks(server: Running, path: str) -> None:
    assert "127.0.0.1" not in httpx.get(server.url + path).text
