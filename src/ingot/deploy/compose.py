"""One machine with containers: the server, Prometheus that asks it, Grafana that draws."""

from __future__ import annotations

import json
from typing import Any

from ingot.config import write_yaml
from ingot.deploy.docker import CACHE, docker_files
from ingot.deploy.monitoring import SOURCE, alerts, dashboard
from ingot.deploy.settings import KEY_VARIABLE, MODEL_AT, Deployment

PROMETHEUS = "prom/prometheus:v3.5.0"
GRAFANA = "grafana/grafana:12.1.0"

_ENVIRONMENT = f"""\
# Copy to .env and fill in; compose refuses to start without them.
{KEY_VARIABLE}=
GRAFANA_PASSWORD=
"""


def compose_files(deployment: Deployment) -> dict[str, str]:
    """Returns a folder that `docker compose up` starts, the image's build context among it."""
    files = {f"image/{name}": text for name, text in docker_files(deployment).items()}
    files |= {
        "compose.yaml": write_yaml(_compose(deployment)),
        "env.example": _ENVIRONMENT,
        "prometheus/prometheus.yml": write_yaml(_prometheus(deployment)),
        "prometheus/alerts.yml": write_yaml(alerts(deployment)),
        "grafana/provisioning/datasources/prometheus.yml": write_yaml(
            {
                "apiVersion": 1,
                "datasources": [
                    {
                        "name": SOURCE,
                        "uid": SOURCE,
                        "type": "prometheus",
                        "access": "proxy",
                        "url": "http://prometheus:9090",
                        "isDefault": True,
                    }
                ],
            }
        ),
        "grafana/provisioning/dashboards/ingot.yml": write_yaml(
            {
                "apiVersion": 1,
                "providers": [
                    {"name": "ingot", "type": "file", "options": {"path": "/var/lib/grafana/dashboards"}}
                ],
            }
        ),
        "grafana/dashboards/ingot.json": json.dumps(dashboard(deployment), indent=2) + "\n",
    }
    return files


def _hardened(service: dict[str, Any]) -> dict[str, Any]:
    """A service that may write nowhere but where it is told, and gain no rights."""
    return service | {
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "pids_limit": 512,
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
    }


def _compose(deployment: Deployment) -> dict[str, Any]:
    server: dict[str, Any] = {
        "image": deployment.tag,
        "build": {"context": "image"},
        "command": deployment.arguments(),
        # Without a key the server would answer anybody who reaches the network: refuse to start.
        "environment": {KEY_VARIABLE: f"${{{KEY_VARIABLE}:?set it in .env}}"},
        "volumes": [
            {"type": "bind", "source": deployment.source, "target": MODEL_AT, "read_only": True},
            {"type": "volume", "source": "kernels", "target": CACHE},
        ],
        "tmpfs": ["/tmp"],
        "ports": [f"127.0.0.1:{deployment.port}:{deployment.port}"],
        "networks": ["front", "inside"],
        "stop_grace_period": f"{deployment.drain_seconds + 5}s",
        "cpus": deployment.cpus,
        "mem_limit": f"{deployment.memory_gib}g",
        "shm_size": "256m",
    }
    if deployment.device == "cuda":
        devices = [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
        server["deploy"] = {"resources": {"reservations": {"devices": devices}}}
    prometheus = {
        "image": PROMETHEUS,
        "command": [
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            "--storage.tsdb.retention.time=15d",
        ],
        "volumes": ["./prometheus:/etc/prometheus:ro", "measured:/prometheus"],
        "secrets": ["key"],
        "networks": ["inside"],
        "depends_on": {deployment.name: {"condition": "service_healthy"}},
        "mem_limit": "1g",
    }
    grafana = {
        "image": GRAFANA,
        "environment": {
            "GF_SECURITY_ADMIN_PASSWORD": "${GRAFANA_PASSWORD:?set it in .env}",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_USERS_ALLOW_SIGN_UP": "false",
        },
        "volumes": [
            "./grafana/provisioning:/etc/grafana/provisioning:ro",
            "./grafana/dashboards:/var/lib/grafana/dashboards:ro",
            "drawn:/var/lib/grafana",
        ],
        "tmpfs": ["/tmp"],
        "ports": ["127.0.0.1:3000:3000"],
        "networks": ["front", "inside"],
        "depends_on": ["prometheus"],
        "mem_limit": "512m",
    }
    return {
        "name": f"ingot-{deployment.name}",
        "services": {
            deployment.name: _hardened(server),
            # A secret out of the environment is written into the container: its root cannot be read-only.
            "prometheus": _hardened(prometheus) | {"read_only": False},
            "grafana": _hardened(grafana),
        },
        "secrets": {"key": {"environment": KEY_VARIABLE}},
        "networks": {"front": {}, "inside": {"internal": True}},
        "volumes": {"kernels": {}, "measured": {}, "drawn": {}},
    }


def _prometheus(deployment: Deployment) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": "5s", "evaluation_interval": "15s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [
            {
                "job_name": deployment.name,
                "metrics_path": "/metrics",
                "authorization": {"type": "Bearer", "credentials_file": "/run/secrets/key"},
                "static_configs": [{"targets": [f"{deployment.name}:{deployment.port}"]}],
            }
        ],
    }
