"""The files of one target, as a folder that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ingot.atomic import publish
from ingot.config import write_yaml
from ingot.deploy.compose import compose_files
from ingot.deploy.docker import docker_files
from ingot.deploy.kserve import kserve_files
from ingot.deploy.kubernetes import kubernetes_files
from ingot.deploy.services import bentoml_files, ray_files
from ingot.deploy.settings import Deployment, describe
from ingot.deploy.systemd import systemd_files
from ingot.deploy.triton import triton_files
from ingot.deploy.vllm import vllm_files
from ingot.errors import ConfigError, did_you_mean

TARGETS: dict[str, Callable[[Deployment], dict[str, str]]] = {
    "docker": docker_files,
    "compose": compose_files,
    "k8s": kubernetes_files,
    "systemd": systemd_files,
    "vllm": vllm_files,
    "triton": triton_files,
    "bentoml": bentoml_files,
    "ray": ray_files,
    "kserve": kserve_files,
}
"""What can be deployed to, each with what writes its files."""


def deploy_folder(folder: Path, to: str, out: Path, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Writes what a target needs to serve a model folder.

    Args:
        folder: a model folder.
        to: one of `TARGETS`.
        out: a folder that does not exist yet.
        changes: settings of `Deployment` by name.

    Returns:
        `files` (their names, sorted) and `settings`.

    Raises:
        ConfigError: an unknown target or setting, or a value that cannot be used.
        ArtifactError: `out` exists, or `folder` is no model folder.
        ResourceError: versions to pin are not known, because ingot itself is not installed.
    """
    if to not in TARGETS:
        raise ConfigError(f"unknown target '{to}'", where="--to", fix=did_you_mean(to, TARGETS))
    deployment = describe(folder, changes)
    files = {"settings.yaml": write_yaml(deployment.plain())} | TARGETS[to](deployment)
    with publish(out) as aside:
        for name, text in files.items():
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            if name.endswith(".sh"):
                path.chmod(0o755)
    return {"files": sorted(files), "settings": deployment.plain()}
