"""KServe: the server as a predictor of its own, or the folder in KServe's runtime for such folders."""

from __future__ import annotations

from typing import Any

from ingot.config import write_yaml
from ingot.deploy.kubernetes import POD_SECURITY, PROMETHEUS, container, volumes
from ingot.deploy.monitoring import busy
from ingot.deploy.settings import Deployment


def kserve_files(deployment: Deployment) -> dict[str, str]:
    """Returns two InferenceServices, of which one is applied."""
    serving = container(deployment) | {"name": "kserve-container"}
    own = {
        "terminationGracePeriodSeconds": deployment.grace_seconds,
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "containers": [serving],
        "volumes": volumes(deployment),
    }
    room = serving["resources"]
    runtime = {
        "model": {
            "modelFormat": {"name": "huggingface"},
            "args": [f"--model_name={deployment.name}"]
            + ([f"--max_model_len={deployment.context}"] if deployment.context else []),
            "storageUri": f"pvc://{deployment.name}-model",
            "resources": room,
        }
    }
    return {
        "inferenceservice.yaml": write_yaml(_service(deployment, own)),
        "inferenceservice-huggingface.yaml": write_yaml(_service(deployment, runtime)),
    }


def _service(deployment: Deployment, predictor: dict[str, Any]) -> dict[str, Any]:
    metric = {
        "backend": "prometheus",
        "serverAddress": PROMETHEUS,
        "query": busy(f"{deployment.name}-predictor"),
    }
    target = {"type": "AverageValue", "averageValue": str(deployment.target)}
    scaling = {
        "minReplicas": deployment.min_replicas,
        "maxReplicas": deployment.max_replicas,
        "autoScaling": {"metrics": [{"type": "External", "external": {"metric": metric, "target": target}}]},
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": deployment.name,
            "labels": deployment.labels,
            "annotations": {
                "serving.kserve.io/deploymentMode": "RawDeployment",
                "serving.kserve.io/autoscalerClass": "keda",
            },
        },
        "spec": {"predictor": scaling | predictor},
    }
