"""One machine: no door open to the world, no right too many, everything that is named is there."""

import json
import re

import pytest
import yaml

from ingot.deploy.compose import compose_files
from ingot.deploy.settings import Deployment


@pytest.fixture
def files(deployment: Deployment) -> dict[str, str]:
    return compose_files(deployment)


def test_services_are_confined(files: dict[str, str]) -> None:
    compose = yaml.safe_load(files["compose.yaml"])
    assert set(compose["services"]) == {"demo", "prometheus", "grafana"}
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service and "mem_limit" in service, name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert ":latest" not in service["image"] and ":" in service["image"], name
    assert compose["services"]["demo"]["read_only"] and compose["services"]["grafana"]["read_only"]
    assert "ports" not in compose["services"]["prometheus"]
    assert compose["networks"]["inside"] == {"internal": True}
    assert compose["services"]["prometheus"]["networks"] == ["inside"]


def test_the_server_gets_its_model_key_and_time(files: dict[str, str], deployment: Deployment) -> None:
    server = yaml.safe_load(files["compose.yaml"])["services"]["demo"]
    mount = {"type": "bind", "source": "/srv/models/demo", "target": "/model", "read_only": True}
    assert mount in server["volumes"]
    assert server["command"] == deployment.arguments()
    assert server["environment"]["INGOT_API_KEY"].startswith("${INGOT_API_KEY:?")
    assert int(server["stop_grace_period"].rstrip("s")) > deployment.drain_seconds


def test_what_is_named_is_there(files: dict[str, str]) -> None:
    compose = yaml.safe_load(files["compose.yaml"])
    for name, service in compose["services"].items():
        for network in service["networks"]:
            assert network in compose["networks"], name
        for volume in service.get("volumes", ()):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            if source.startswith("./"):
                assert any(path.startswith(source[2:] + "/") for path in files), source
            elif not source.startswith("/"):
                assert source in compose["volumes"], source
        for other in service.get("depends_on", ()):
            assert other in compose["services"]
        for secret in service.get("secrets", ()):
            assert secret in compose["secrets"]
    assert f"{compose['services']['demo']['build']['context']}/Dockerfile" in files
    asked = set(re.findall(r"\$\{(\w+):\?", files["compose.yaml"]))
    assert asked == set(re.findall(r"^(\w+)=$", files["env.example"], re.M))


def test_prometheus_asks_the_server_with_its_key(files: dict[str, str]) -> None:
    settings = yaml.safe_load(files["prometheus/prometheus.yml"])
    (job,) = settings["scrape_configs"]
    assert job["job_name"] == "demo" and job["metrics_path"] == "/metrics"
    assert job["static_configs"] == [{"targets": ["demo:8000"]}]
    assert job["authorization"]["credentials_file"] == "/run/secrets/key"
    assert [f"prometheus/{name}" in files for name in settings["rule_files"]] == [True]


def test_grafana_finds_its_source_and_its_dashboard(files: dict[str, str]) -> None:
    compose = yaml.safe_load(files["compose.yaml"])
    (source,) = yaml.safe_load(files["grafana/provisioning/datasources/prometheus.yml"])["datasources"]
    (provider,) = yaml.safe_load(files["grafana/provisioning/dashboards/ingot.yml"])["providers"]
    mounted = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert source["url"] == "http://prometheus:9090"
    assert provider["options"]["path"] in mounted
    drawn = json.loads(files["grafana/dashboards/ingot.json"])
    used = {target["datasource"]["uid"] for panel in drawn["panels"] for target in panel["targets"]}
    assert used == {source["uid"]}


def test_a_graphics_card_is_asked_for_where_one_is_needed(deployment: Deployment) -> None:
    for device, wanted in (("cpu", False), ("cuda", True)):
        files = compose_files(deployment.model_copy(update={"device": device}))
        assert ("deploy" in yaml.safe_load(files["compose.yaml"])["services"]["demo"]) == wanted
