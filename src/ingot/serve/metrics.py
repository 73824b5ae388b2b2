"""Metrics: what Prometheus reads, under the names that vLLM gave the same things.

One registry per application, so that two servers in one process do not mix. Names and meanings follow
vLLM's documentation of its production metrics; dashboards made for it work here. Every metric has the
label `model_name`; none has a label that says who asked.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from ingot.inference.request import Request

CONTENT_TYPE = CONTENT_TYPE_LATEST

FIRST_TOKEN_SECONDS = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
)
TOKEN_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1,
    2.5,
    5,
)
REQUEST_SECONDS = (
    0.01,
    0.05,
    0.1,
    0.3,
    0.5,
    0.8,
    1,
    1.5,
    2,
    2.5,
    5,
    10,
    15,
    20,
    30,
    40,
    50,
    60,
    120,
    240,
    480,
    960,
)
"""Borders of the histograms' buckets; those of vLLM, with finer ones below for small models."""

GAUGES = {
    "running": ("vllm:num_requests_running", "Requests that are being answered."),
    "waiting": ("vllm:num_requests_waiting", "Requests that wait for their turn."),
    "cache": ("vllm:kv_cache_usage_perc", "Share of the key-value cache in use, from 0 to 1."),
}
COUNTERS = {
    "prefix_hits": ("vllm:prefix_cache_hits", "Prompt tokens that were found in the cache."),
    "prefix_queries": ("vllm:prefix_cache_queries", "Prompt tokens that were looked for in the cache."),
    "preemptions": ("vllm:num_preemptions", "Requests that were put back to make room for others."),
}

ENDINGS = {"cancelled": "abort"}
"""How vLLM calls an ending that has another name here."""


class Metrics:
    """What one server counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        label = ("model_name",)

        def histogram(name: str, about: str, borders: tuple[float, ...]) -> Histogram:
            return Histogram(f"vllm:{name}", about, label, buckets=borders, registry=self.registry)

        def counter(name: str, about: str, labels: tuple[str, ...] = label) -> Counter:
            return Counter(f"vllm:{name}", about, labels, registry=self.registry)

        self.first_token = histogram(
            "time_to_first_token_seconds", "From arrival to the first token.", FIRST_TOKEN_SECONDS
        )
        self.whole = histogram(
            "e2e_request_latency_seconds", "From arrival to the last token.", REQUEST_SECONDS
        )
        self.queued = histogram("request_queue_time_seconds", "Spent waiting.", REQUEST_SECONDS)
        self.ended = counter("request_success", "Requests that ended, by how.", (*label, "finished_reason"))
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens of requests that began.")
        self.new_tokens = counter("generation_tokens", "Tokens that were made.")
        self.refused = Counter(
            "ingot_requests_refused", "Requests refused, by status.", ("status",), registry=self.registry
        )
        self._state = _State()
        self.registry.register(self._state)

    def of(self, model: str, usage: Callable[[], Mapping[str, float]]) -> Meter:
        """Returns what one model's worker reports to.

        Args:
            model: the label.
            usage: asked whenever somebody reads the metrics: values by the keys of `GAUGES` and `COUNTERS`.
        """
        between = self._state.between[model] = Between()
        self._state.models[model] = usage
        return Meter(self, model, between)

    def text(self) -> bytes:
        """Returns everything in Prometheus' text format."""
        return generate_latest(self.registry)


class Meter:
    """The metrics of one model, with its label on them."""

    def __init__(self, metrics: Metrics, model: str, between: Between) -> None:
        self._first = metrics.first_token.labels(model)
        self._between = between
        self._whole = metrics.whole.labels(model)
        self._queued = metrics.queued.labels(model)
        self._prompt = metrics.prompt_tokens.labels(model)
        self._new = metrics.new_tokens.labels(model)
        self._ended = {
            reason: metrics.ended.labels(model, reason) for reason in ("stop", "length", "abort", "error")
        }

    def began(self, request: Request, submitted: float, now: float) -> None:
        """Counts a request's prompt and its first tokens. Times are of `time.perf_counter`."""
        self._prompt.inc(len(request.prompt))
        self._new.inc(len(request.tokens))
        self._queued.observe(max(0.0, request.started - submitted))
        self._first.observe(now - submitted)

    def made(self, seconds: float, rows: int, tokens: int) -> None:
        """Counts tokens that follow others, in several answers alike.

        Args:
            seconds: since the ones before.
            rows: answers.
            tokens: of each.
        """
        self._new.inc(rows * tokens)
        self._between.add(seconds / tokens, rows * tokens)

    def ended(self, reason: str, seconds: float) -> None:
        """Counts an ending: 'stop', 'length', 'cancelled' or 'error'."""
        name = ENDINGS.get(reason, reason)
        if name in self._ended:
            self._ended[name].inc()
        self._whole.observe(seconds)


class Between:
    """Times between tokens. There is one for every token of every answer, and all answers of a step have the
    same, so it counts several at once, which the library's histograms cannot.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(TOKEN_SECONDS) + 1)  # of times up to each border, and above all
        self.sum = 0.0

    def add(self, seconds: float, times: int) -> None:
        """Counts a time; called by one thread only."""
        self.counts[bisect_left(TOKEN_SECONDS, seconds)] += times
        self.sum += seconds * times

    def buckets(self) -> list[tuple[str, float]]:
        """Returns the counts up to each border, as Prometheus wants them."""
        borders = [floatToGoString(border) for border in (*TOKEN_SECONDS, float("inf"))]
        return list(zip(borders, accumulate(self.counts), strict=True))


class _State:
    """A collector that asks the workers how they are, at the moment somebody wants to know."""

    def __init__(self) -> None:
        self.models: dict[str, Callable[[], Mapping[str, float]]] = {}
        self.between: dict[str, Between] = {}

    def collect(self) -> Iterable[Metric]:
        """Yields what changes by itself, each metric once with all its models."""
        values = {model: usage() for model, usage in self.models.items()}
        families: list[tuple[type[GaugeMetricFamily] | type[CounterMetricFamily], dict[str, tuple[str, str]]]]
        families = [(GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)]
        for family, named in families:
            for key, (name, about) in named.items():
                metric = family(name, about, labels=("model_name",))
                for model, usage in values.items():
                    metric.add_metric((model,), usage.get(key, 0))
                yield metric
        name = "vllm:inter_token_latency_seconds"
        times = HistogramMetricFamily(name, "Between two tokens.", labels=("model_name",))
        for model, between in self.between.items():
            times.add_metric((model,), between.buckets(), between.sum)
        yield times
