"""BentoML and Ray Serve: a service in Python that loads the model here and answers in batches."""

from __future__ import annotations

from typing import Any

from ingot.config import write_yaml
from ingot.deploy.autoscaling import BEHAVIOR
from ingot.deploy.docker import docker_files
from ingot.deploy.settings import Deployment
from ingot.deploy.triton import template


def bentoml_files(deployment: Deployment) -> dict[str, str]:
    """Returns a BentoML project: the service, how it is packed, and the versions that it is packed with."""
    context = docker_files(deployment)
    packed = {
        "service": "service:Served",
        "description": f"{deployment.name} ({deployment.version})",
        "labels": {"model": deployment.name, "fingerprint": deployment.version},
        "include": ["service.py", "settings.yaml"],
        "python": {
            "requirements_txt": "requirements.txt",
            "wheels": ["wheels/*.whl"],
            "lock_packages": False,
        },
    }
    return {
        "service.py": template("bentoml_service"),
        "bentofile.yaml": write_yaml(packed),
        "requirements.txt": context["constraints.txt"],
        "wheels/README.txt": context["wheels/README.txt"],
    }


def ray_files(deployment: Deployment) -> dict[str, str]:
    """Returns a Ray Serve application and its configuration, scaled by requests under way per copy."""
    actor: dict[str, Any] = {"num_cpus": deployment.cpus, "memory": deployment.memory_gib * 2**30}
    if deployment.device == "cuda":
        actor["num_gpus"] = 1
    served = {
        "name": "Served",
        "max_ongoing_requests": 2 * deployment.slots,
        "max_queued_requests": 4 * deployment.slots,
        "graceful_shutdown_timeout_s": deployment.drain_seconds,
        "autoscaling_config": {
            "min_replicas": deployment.min_replicas,
            "max_replicas": deployment.max_replicas,
            "target_ongoing_requests": deployment.target,
            "metrics_interval_s": 5,
            "look_back_period_s": 10,
            "upscale_delay_s": 10,
            "downscale_delay_s": BEHAVIOR["scaleDown"]["stabilizationWindowSeconds"],
        },
        "ray_actor_options": actor,
    }
    settings = {
        "proxy_location": "EveryNode",
        "http_options": {"host": "127.0.0.1", "port": deployment.port},
        "applications": [
            {
                "name": deployment.name,
                "route_prefix": "/",
                "import_path": "service:app",
                "deployments": [served],
            }
        ],
    }
    return {"service.py": template("ray_service"), "serve.yaml": write_yaml(settings)}
