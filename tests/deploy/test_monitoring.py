"""Queries, alerts and the dashboard: whole PromQL over vLLM's names, drawn without overlap."""

import re

import pytest

from ingot.deploy import monitoring
from ingot.deploy.monitoring import alerts, busy, dashboard
from ingot.deploy.settings import Deployment

OPENING = {")": "(", "}": "{", "]": "["}
FUNCTIONS = {"sum", "rate", "histogram_quantile", "by", "absent", "or", "up"}
KNOWN = {value for value in vars(monitoring).values() if isinstance(value, str) and value.startswith("vllm:")}


def check(query: str, job: str) -> None:
    """What `promtool check` would say of brackets, ranges and words, by hand."""
    open_: list[str] = []
    for letter in re.sub(r'"[^"]*"', "", query):
        if letter in "({[":
            open_.append(letter)
        elif letter in OPENING:
            assert open_ and open_.pop() == OPENING[letter], query
    assert not open_, query
    assert f'{{job="{job}"}}' in query
    metrics = set(re.findall(r"vllm:[a-z0-9_]+", query))
    assert {re.sub("_bucket$", "", name) for name in metrics} <= KNOWN
    for name in metrics:
        counted = name.endswith(("_total", "_bucket"))
        assert counted == (f"rate({name}" in query), query  # counters are read as rates, gauges never
        assert counted == bool(
            re.search(re.escape(name) + r"\{[^}]*\}\[(\$__rate_interval|\d+[ms])\]", query)
        )
    if "histogram_quantile" in query:
        assert "by (le)" in query
    assert set(re.findall(r"\b[a-z_]+\b(?=\s*\()", query)) <= FUNCTIONS


@pytest.fixture
def drawn(deployment: Deployment) -> dict:
    return dashboard(deployment)


def test_every_query_is_whole(drawn: dict, deployment: Deployment) -> None:
    queries = [target["expr"] for panel in drawn["panels"] for target in panel["targets"]]
    queries += [rule["expr"] for group in alerts(deployment)["groups"] for rule in group["rules"]]
    assert len(queries) > 15
    for query in [*queries, busy("demo")]:
        check(query, "demo")


def test_all_that_is_published_is_drawn(drawn: dict) -> None:
    text = str(drawn)
    assert all(name in text for name in KNOWN)


def test_panels_fill_the_page_without_overlap(drawn: dict) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in drawn["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken
        taken |= cells
    numbers = [panel["id"] for panel in drawn["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in drawn["panels"]:
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters) and panel["fieldConfig"]["defaults"]["unit"]


def test_the_dashboard_has_the_shape_that_grafana_reads(drawn: dict) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    text, number = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}
    target = {"type": "object", "required": ["refId", "expr", "datasource"], "properties": {"expr": text}}
    panel = {
        "type": "object",
        "required": ["id", "type", "title", "gridPos", "targets", "fieldConfig"],
        "properties": {
            "gridPos": {"type": "object", "required": list("hwxy"), "additionalProperties": number},
            "type": {"const": "timeseries"},
            "targets": {"type": "array", "minItems": 1, "items": target},
        },
    }
    shape = {
        "type": "object",
        "required": ["uid", "title", "schemaVersion", "panels", "time", "templating", "annotations"],
        "properties": {
            "uid": {"type": "string", "maxLength": 40},
            "schemaVersion": {"type": "integer", "minimum": 36},
            "panels": {"type": "array", "minItems": 1, "items": panel},
        },
    }
    jsonschema.validate(drawn, shape)


def test_alerts_are_labelled_and_told_in_words(deployment: Deployment) -> None:
    (group,) = alerts(deployment)["groups"]
    for rule in group["rules"]:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+m", rule["for"]) and rule["labels"]["severity"] in ("warning", "critical")
        assert "demo" in rule["annotations"]["summary"]
