"""A cluster: copies that are probed, replaced one by one, scaled by their queue, ended in good time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from ingot.config import write_yaml
from ingot.deploy.autoscaling import BEHAVIOR
from ingot.deploy.docker import CACHE
from ingot.deploy.monitoring import alerts, busy
from ingot.deploy.settings import KEY_VARIABLE, MODEL_AT, USER, Deployment

METRIC = "ingot_requests_busy"
"""What the external metric is called that the HorizontalPodAutoscaler asks for."""

PROMETHEUS = "http://prometheus-operated.monitoring.svc:9090"
"""Where KEDA finds Prometheus: the operator's own service."""

CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD_SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def kubernetes_files(deployment: Deployment) -> dict[str, str]:
    """Returns manifests by file name, for `kubectl apply --kustomize`.

    The autoscaler is `hpa.yaml` (with the Prometheus adapter) or `keda.yaml`: one of them, never both.
    """
    always = {
        "deployment.yaml": _deployment(deployment),
        "service.yaml": _service(deployment),
        "serviceaccount.yaml": _service_account(deployment),
        "networkpolicy.yaml": _network_policy(deployment),
        "pdb.yaml": _budget(deployment),
        "hpa.yaml": _autoscaler(deployment),
    }
    optional = {
        "keda.yaml": _keda(deployment),
        "servicemonitor.yaml": _service_monitor(deployment),
        "prometheusrule.yaml": _rule(deployment),
    }
    files = {name: write_yaml(manifest) for name, manifest in (always | optional).items()}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(always),
    }
    files["kustomization.yaml"] = write_yaml(kustomization)
    files["prometheus-adapter-values.yaml"] = write_yaml(_adapter(deployment))
    files["model-claim.example.yaml"] = write_yaml(_claim(deployment))
    return files


def documents(text: str) -> list[Mapping[str, Any]]:
    """Returns the manifests of a YAML file."""
    return [one for one in yaml.safe_load_all(text) if one is not None]


def container(deployment: Deployment) -> dict[str, Any]:
    """Returns the container that serves, with its probes; KServe's predictor is made of it too."""
    room: dict[str, Any] = {"cpu": str(deployment.cpus), "memory": f"{deployment.memory_gib}Gi"}
    limits = {"memory": room["memory"]}
    if deployment.device == "cuda":
        limits["nvidia.com/gpu"] = "1"
    return {
        "name": "ingot",
        "image": deployment.tag,
        "imagePullPolicy": "IfNotPresent",
        "args": deployment.arguments(),
        "env": [
            {
                "name": KEY_VARIABLE,
                "valueFrom": {"secretKeyRef": {"name": f"{deployment.name}-key", "key": "key"}},
            },
            {"name": "OMP_NUM_THREADS", "value": str(deployment.cpus)},
        ],
        "ports": [{"name": "http", "containerPort": deployment.port, "protocol": "TCP"}],
        "resources": {"requests": room, "limits": limits},
        "securityContext": CONTAINER_SECURITY,
        # Loaded; fit for traffic; still alive. Only the last one gets a copy killed while it works.
        "startupProbe": _probe("/ready", 2, max(1, deployment.load_seconds // 2)),
        "readinessProbe": _probe("/ready", 2, 2),
        "livenessProbe": _probe("/health", 10, 6),
        "volumeMounts": [
            {"name": "model", "mountPath": MODEL_AT, "readOnly": True},
            {"name": "cache", "mountPath": CACHE},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def volumes(deployment: Deployment) -> list[dict[str, Any]]:
    """Returns the volumes that `container` mounts."""
    claim = {"claimName": f"{deployment.name}-model", "readOnly": True}
    return [
        {"name": "model", "persistentVolumeClaim": claim},
        {"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
    ]


def _probe(path: str, seconds: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": seconds,
        "timeoutSeconds": 2 if seconds < 10 else 5,
        "failureThreshold": failures,
    }


def _manifest(deployment: Deployment, version: str, kind: str, **parts: Any) -> dict[str, Any]:
    metadata = {"name": deployment.name, "labels": deployment.labels}
    return {"apiVersion": version, "kind": kind, "metadata": metadata} | parts


def _deployment(deployment: Deployment) -> dict[str, Any]:
    serving = container(deployment)
    # Endpoints are taken away at the same moment as the signal is sent: go on until nobody calls any more.
    serving["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", str(deployment.settle_seconds)]}}}
    pod = {
        "serviceAccountName": deployment.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": deployment.grace_seconds,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": deployment.labels},
            }
        ],
        "containers": [serving],
        "volumes": volumes(deployment),
    }
    annotations = {"ingot/model-fingerprint": deployment.version}
    # No `replicas`: applying this again must not undo what the autoscaler did.
    spec = {
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": deployment.labels},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": deployment.labels, "annotations": annotations}, "spec": pod},
    }
    return _manifest(deployment, "apps/v1", "Deployment", spec=spec)


def _service(deployment: Deployment) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    spec = {"type": "ClusterIP", "selector": deployment.labels, "ports": ports}
    return _manifest(deployment, "v1", "Service", spec=spec)


def _service_account(deployment: Deployment) -> dict[str, Any]:
    return _manifest(deployment, "v1", "ServiceAccount", automountServiceAccountToken=False)


def _network_policy(deployment: Deployment) -> dict[str, Any]:
    """Callers are this namespace and the monitoring one; the server itself calls nobody."""
    monitoring = {"kubernetes.io/metadata.name": "monitoring"}
    spec = {
        "podSelector": {"matchLabels": deployment.labels},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {
                "from": [{"podSelector": {}}, {"namespaceSelector": {"matchLabels": monitoring}}],
                "ports": [{"port": "http", "protocol": "TCP"}],
            }
        ],
        "egress": [],
    }
    return _manifest(deployment, "networking.k8s.io/v1", "NetworkPolicy", spec=spec)


def _budget(deployment: Deployment) -> dict[str, Any]:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": deployment.labels}}
    return _manifest(deployment, "policy/v1", "PodDisruptionBudget", spec=spec)


def _target(deployment: Deployment) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment.name}


def _autoscaler(deployment: Deployment) -> dict[str, Any]:
    metric = {
        "type": "External",
        "external": {
            "metric": {"name": METRIC, "selector": {"matchLabels": {"job": deployment.name}}},
            "target": {"type": "AverageValue", "averageValue": str(deployment.target)},
        },
    }
    spec = {
        "scaleTargetRef": _target(deployment),
        "minReplicas": deployment.min_replicas,
        "maxReplicas": deployment.max_replicas,
        "metrics": [metric],
        "behavior": BEHAVIOR,
    }
    return _manifest(deployment, "autoscaling/v2", "HorizontalPodAutoscaler", spec=spec)


def _adapter(deployment: Deployment) -> dict[str, Any]:
    """Values of the Prometheus adapter's chart: the metric is what is under way and what waits."""
    rule = {
        "seriesQuery": '{__name__="vllm:num_requests_running"}',
        "resources": {"overrides": {"namespace": {"resource": "namespace"}}},
        "name": {"as": METRIC},
        "metricsQuery": (
            "sum({__name__=~'vllm:num_requests_(running|waiting)',<<.LabelMatchers>>}) by (<<.GroupBy>>)"
        ),
    }
    return {"prometheus": {"url": PROMETHEUS.rpartition(":")[0], "port": 9090}, "rules": {"external": [rule]}}


def _keda(deployment: Deployment) -> dict[str, Any]:
    trigger = {
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": PROMETHEUS,
            "query": busy(deployment.name),
            "threshold": str(deployment.target),
        },
    }
    spec = {
        "scaleTargetRef": _target(deployment),
        "pollingInterval": 5,
        "minReplicaCount": deployment.min_replicas,
        "maxReplicaCount": deployment.max_replicas,
        # While Prometheus cannot be asked nothing is known of the load: take no copy away.
        "fallback": {
            "failureThreshold": 3,
            "replicas": deployment.min_replicas,
            "behavior": "currentReplicasIfHigher",
        },
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": BEHAVIOR}},
        "triggers": [trigger],
    }
    return _manifest(deployment, "keda.sh/v1alpha1", "ScaledObject", spec=spec)


def _service_monitor(deployment: Deployment) -> dict[str, Any]:
    endpoint = {
        "port": "http",
        "path": "/metrics",
        "interval": "5s",
        "authorization": {
            "type": "Bearer",
            "credentials": {"name": f"{deployment.name}-key", "key": "key"},
        },
    }
    spec = {"selector": {"matchLabels": deployment.labels}, "endpoints": [endpoint]}
    return _manifest(deployment, "monitoring.coreos.com/v1", "ServiceMonitor", spec=spec)


def _rule(deployment: Deployment) -> dict[str, Any]:
    return _manifest(deployment, "monitoring.coreos.com/v1", "PrometheusRule", spec=alerts(deployment))


def _claim(deployment: Deployment) -> dict[str, Any]:
    spec = {
        "accessModes": ["ReadOnlyMany"],
        "resources": {"requests": {"storage": f"{deployment.memory_gib}Gi"}},
    }
    made = _manifest(deployment, "v1", "PersistentVolumeClaim", spec=spec)
    made["metadata"] = made["metadata"] | {"name": f"{deployment.name}-model"}
    return made
