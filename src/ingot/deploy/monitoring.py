"""Watching: the metrics that the server publishes under vLLM's names, as queries, alerts and a dashboard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ingot.deploy.settings import Deployment

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
CACHE_USED = "vllm:kv_cache_usage_perc"
FIRST_TOKEN = "vllm:time_to_first_token_seconds"
BETWEEN_TOKENS = "vllm:inter_token_latency_seconds"
WHOLE = "vllm:e2e_request_latency_seconds"
QUEUED = "vllm:request_queue_time_seconds"
FINISHED = "vllm:request_success_total"
PROMPT_TOKENS = "vllm:prompt_tokens_total"
NEW_TOKENS = "vllm:generation_tokens_total"

SOURCE = "prometheus"
"""The name (and uid) of Grafana's data source."""


@dataclass(frozen=True)
class Panel:
    """One drawing of the dashboard.

    Args:
        title: what it shows, in words.
        queries: PromQL by the name of its line.
        unit: as Grafana calls it.
        about: a sentence for whoever points at it.
    """

    title: str
    queries: dict[str, str]
    unit: str
    about: str


def busy(job: str) -> str:
    """Returns the query that copies are scaled by: requests under way or waiting, of all copies together.

    Requests under way count, because a queue that has just become empty is no sign of idleness.

    Args:
        job: what Prometheus calls the copies together.
    """
    only = f'{{job="{job}"}}'
    return f"sum({RUNNING}{only}) + sum({WAITING}{only})"


def panels(deployment: Deployment) -> list[Panel]:
    """Returns what the dashboard shows, most telling first."""
    only = f'{{job="{deployment.name}"}}'

    def quantiles(histogram: str) -> dict[str, str]:
        rates = f"sum by (le) (rate({histogram}_bucket{only}[$__rate_interval]))"
        return {f"p{share}": f"histogram_quantile(0.{share}, {rates})" for share in (50, 95, 99)}

    def rate(counter: str) -> str:
        return f"sum(rate({counter}{only}[$__rate_interval]))"

    return [
        Panel(
            "Requests",
            {"answering": f"sum({RUNNING}{only})", "waiting": f"sum({WAITING}{only})"},
            "short",
            "Under way, and in the queue. The autoscaler looks at their sum.",
        ),
        Panel(
            "Time to the first token",
            quantiles(FIRST_TOKEN),
            "s",
            "From the request's arrival, queue included.",
        ),
        Panel("Time between tokens", quantiles(BETWEEN_TOKENS), "s", "What a reader of a stream sees."),
        Panel("Time of a whole answer", quantiles(WHOLE), "s", "Depends on how long answers are."),
        Panel("Time in the queue", quantiles(QUEUED), "s", "Grows first when copies are too few."),
        Panel(
            "Tokens a second",
            {"prompt": rate(PROMPT_TOKENS), "generated": rate(NEW_TOKENS)},
            "short",
            "Of all copies together.",
        ),
        Panel(
            "Answers by how they ended",
            {"{{finished_reason}}": f"sum by (finished_reason) (rate({FINISHED}{only}[$__rate_interval]))"},
            "reqps",
            "'stop' is the model's own end, 'length' a limit, 'abort' a client that left.",
        ),
        Panel(
            "Cache in use",
            {"{{instance}}": f"{CACHE_USED}{only}"},
            "percentunit",
            "Share of the key-value cache that holds requests.",
        ),
    ]


def dashboard(deployment: Deployment) -> dict[str, Any]:
    """Returns a dashboard that Grafana reads: two panels to a row."""
    drawn = []
    for index, panel in enumerate(panels(deployment)):
        drawn.append(
            {
                "id": index + 1,
                "type": "timeseries",
                "title": panel.title,
                "description": panel.about,
                "datasource": {"type": "prometheus", "uid": SOURCE},
                "gridPos": {"h": 8, "w": 12, "x": 12 * (index % 2), "y": 8 * (index // 2)},
                "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
                "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}},
                "targets": [
                    {
                        "refId": chr(ord("A") + place),
                        "expr": query,
                        "legendFormat": line,
                        "datasource": {"type": "prometheus", "uid": SOURCE},
                    }
                    for place, (line, query) in enumerate(panel.queries.items())
                ],
            }
        )
    return {
        "uid": f"ingot-{deployment.name}"[:40],
        "title": f"ingot: {deployment.name}",
        "tags": ["ingot"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "templating": {"list": []},
        "annotations": {"list": []},
        "panels": drawn,
    }


def alerts(deployment: Deployment) -> dict[str, Any]:
    """Returns Prometheus rules: nobody answers, the queue stays, first tokens are slow."""
    only = f'{{job="{deployment.name}"}}'
    rates = f"sum by (le) (rate({FIRST_TOKEN}_bucket{only}[5m]))"

    def rule(name: str, query: str, minutes: int, severity: str, summary: str) -> dict[str, Any]:
        return {
            "alert": name,
            "expr": query,
            "for": f"{minutes}m",
            "labels": {"severity": severity},
            "annotations": {"summary": summary},
        }

    return {
        "groups": [
            {
                "name": f"ingot-{deployment.name}",
                "rules": [
                    rule(
                        "IngotDown",
                        f"sum(up{only}) < 1 or absent(up{only})",
                        1,
                        "critical",
                        f"No copy of {deployment.name} answers.",
                    ),
                    rule(
                        "IngotQueue",
                        f"sum({WAITING}{only}) > {deployment.slots}",
                        5,
                        "warning",
                        f"Requests to {deployment.name} have waited in line for five minutes.",
                    ),
                    rule(
                        "IngotSlowFirstToken",
                        f"histogram_quantile(0.95, {rates}) > 5",
                        10,
                        "warning",
                        f"One in twenty requests to {deployment.name} waits 5 s for its first token.",
                    ),
                ],
            }
        ]
    }
