"""Manifests: every name leads somewhere, nothing runs with a right too many, a copy ends in good time."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingot.deploy.kubernetes import documents, kubernetes_files
from ingot.deploy.settings import Deployment

OTHERS = ("settings", "prometheus-adapter-values", "kustomization")
CUSTOM = ("keda", "servicemonitor", "prometheusrule")


@pytest.fixture(params=["cpu", "cuda"])
def manifests(deployment: Deployment, request: pytest.FixtureRequest) -> dict[str, Any]:
    files = kubernetes_files(deployment.model_copy(update={"device": request.param}))
    return {name.split(".")[0]: documents(text)[0] for name, text in files.items()}


def pod_of(manifests: dict[str, Any]) -> dict[str, Any]:
    return manifests["deployment"]["spec"]["template"]["spec"]


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """All mappings inside one."""
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from walk(one)
    elif isinstance(value, list):
        for one in value:
            yield from walk(one)


def test_probes_ask_what_they_should(manifests: dict[str, Any], deployment: Deployment) -> None:
    (serving,) = pod_of(manifests)["containers"]
    paths = {name: serving[name]["httpGet"]["path"] for name in serving if name.endswith("Probe")}
    assert paths == {"startupProbe": "/ready", "readinessProbe": "/ready", "livenessProbe": "/health"}
    named = {port["name"]: port["containerPort"] for port in serving["ports"]}
    assert all(serving[name]["httpGet"]["port"] in named for name in paths)
    assert named["http"] == deployment.port and str(deployment.port) in serving["args"]
    starting = serving["startupProbe"]
    assert starting["periodSeconds"] * starting["failureThreshold"] >= deployment.load_seconds


def test_a_copy_has_time_to_end(manifests: dict[str, Any], deployment: Deployment) -> None:
    pod = pod_of(manifests)
    settling = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > settling + deployment.drain_seconds
    readiness = pod["containers"][0]["readinessProbe"]
    assert settling >= readiness["periodSeconds"] * readiness["failureThreshold"]


def test_nothing_runs_with_a_right_too_many(manifests: dict[str, Any]) -> None:
    """What the restricted Pod Security Standard asks for."""
    pod = pod_of(manifests)
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod["automountServiceAccountToken"] is False
    for serving in pod["containers"]:
        assert serving["securityContext"]["allowPrivilegeEscalation"] is False
        assert serving["securityContext"]["readOnlyRootFilesystem"] is True
        assert serving["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert serving["resources"]["limits"]["memory"] == serving["resources"]["requests"]["memory"]
    for mapping in walk(manifests):
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostPath", "privileged", "hostPort"} & set(mapping)


def test_every_name_leads_somewhere(manifests: dict[str, Any]) -> None:
    pod, name = pod_of(manifests), manifests["deployment"]["metadata"]["name"]
    labels = manifests["deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        manifests["service"]["spec"]["selector"],
        manifests["deployment"]["spec"]["selector"]["matchLabels"],
        manifests["pdb"]["spec"]["selector"]["matchLabels"],
        manifests["networkpolicy"]["spec"]["podSelector"]["matchLabels"],
        manifests["servicemonitor"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector and selector.items() <= labels.items()
    assert manifests["hpa"]["spec"]["scaleTargetRef"]["name"] == name
    assert manifests["keda"]["spec"]["scaleTargetRef"]["name"] == name
    assert manifests["serviceaccount"]["metadata"]["name"] == pod["serviceAccountName"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == set(volumes)
    claim = volumes["model"]["persistentVolumeClaim"]["claimName"]
    assert manifests["model-claim"]["metadata"]["name"] == claim
    served = [port["name"] for port in manifests["service"]["spec"]["ports"]]
    assert manifests["servicemonitor"]["spec"]["endpoints"][0]["port"] in served


def test_both_autoscalers_have_the_same_rules(manifests: dict[str, Any]) -> None:
    hpa, keda = manifests["hpa"]["spec"], manifests["keda"]["spec"]
    assert hpa["behavior"] == keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (keda["minReplicaCount"], keda["maxReplicaCount"])
    external, trigger = hpa["metrics"][0]["external"], keda["triggers"][0]["metadata"]
    assert external["target"]["averageValue"] == trigger["threshold"]
    adapter = manifests["prometheus-adapter-values"]["rules"]["external"][0]
    assert adapter["name"]["as"] == external["metric"]["name"]
    for metric in ("running", "waiting"):
        assert metric in trigger["query"] and metric in adapter["metricsQuery"]
    assert "replicas" not in manifests["deployment"]["spec"]  # or applying it would undo the autoscaler


def test_the_kustomization_holds_one_autoscaler(deployment: Deployment) -> None:
    files = kubernetes_files(deployment)
    resources = yaml.safe_load(files["kustomization.yaml"])["resources"]
    assert "hpa.yaml" in resources and "keda.yaml" not in resources
    assert set(resources) <= set(files)


def test_one_disruption_at_a_time_leaves_a_copy(manifests: dict[str, Any]) -> None:
    assert manifests["hpa"]["spec"]["minReplicas"] > manifests["pdb"]["spec"]["maxUnavailable"]
    assert manifests["deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_a_graphics_card_is_limited_to_one(manifests: dict[str, Any]) -> None:
    (serving,) = pod_of(manifests)["containers"]
    asked = serving["resources"]["limits"].get("nvidia.com/gpu")
    assert (asked == "1") == ("cuda" in serving["args"])


def test_manifests_fit_kubernetes_schemas(manifests: dict[str, Any]) -> None:
    checker = pytest.importorskip("kubernetes_validate")
    for name, manifest in manifests.items():
        if name not in OTHERS + CUSTOM:
            checker.validate(manifest, checker.latest_version(), strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is missing")
def test_kustomize_puts_them_together(deployment: Deployment, tmp_path: Path) -> None:
    for name, text in kubernetes_files(deployment).items():
        (tmp_path / name).write_text(text)
    ended = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    kinds = {one["kind"] for one in documents(ended.stdout)}
    assert {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"} <= kinds
