"""A container image: pinned packages, an ordinary user, a health check, nothing that builds left inside."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping

from ingot import __version__
from ingot.deploy.pins import pinned
from ingot.deploy.settings import MODEL_AT, USER, Deployment

CPU_INDEX = "https://download.pytorch.org/whl/cpu"

CACHE = "/cache"
"""The one folder beside /tmp that the server writes to: kernels it compiled."""

HEALTH = (
    "import sys, urllib.request; "
    "sys.exit(urllib.request.urlopen('http://127.0.0.1:{port}/ready', timeout=3).status != 200)"
)
"""A health check without curl: the image has no other program that speaks HTTP."""

_DOCKERFILE = """\
# syntax=docker/dockerfile:1
# Serves a model folder that is mounted at {model}. Build it where this file is, after
#   python -m pip wheel --no-deps --wheel-dir wheels PATH-OF-INGOT
FROM {base} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
COPY constraints.txt /build/
COPY wheels/ /build/wheels/
# The wheel by its file name: an index is never asked for a package of that name.
RUN python -m venv /opt/ingot \\
 && {torch}/opt/ingot/bin/pip install --no-cache-dir --constraint /build/constraints.txt \\
    /build/wheels/ingot-*.whl

FROM {base}
LABEL org.opencontainers.image.title="{name}" \\
      org.opencontainers.image.version="{version}" \\
      org.opencontainers.image.licenses="Apache-2.0"
# A compiler, for kernels that are built on first use; which version makes no difference to answers.
# hadolint ignore=DL3008
RUN apt-get update \\
 && apt-get install --yes --no-install-recommends g++ \\
 && rm -rf /var/lib/apt/lists/* \\
 && groupadd --gid {user} ingot \\
 && useradd --uid {user} --gid {user} --no-create-home --home-dir {cache} --shell /usr/sbin/nologin ingot \\
 && install --directory --owner={user} --group={user} {cache}
COPY --from=build /opt/ingot /opt/ingot
ENV PATH=/opt/ingot/bin:$PATH \\
    HOME={cache} \\
    XDG_CACHE_HOME={cache} \\
    HF_HUB_OFFLINE=1 \\
    PYTHONUNBUFFERED=1 \\
    PYTHONDONTWRITEBYTECODE=1{gpu}
USER {user}:{user}
VOLUME ["{cache}"]
EXPOSE {port}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period={load}s --retries=3 \\
  CMD {health}
ENTRYPOINT ["ingot"]
CMD {command}
"""

_GPU = " \\\n    NVIDIA_VISIBLE_DEVICES=all \\\n    NVIDIA_DRIVER_CAPABILITIES=compute,utility"
"""What NVIDIA's container runtime looks for; CUDA's own libraries come with the wheels."""

_WHEELS = f"""\
Put ingot's wheel here before the image is built:

    python -m pip wheel --no-deps --wheel-dir wheels PATH-OF-INGOT

It is expected to be ingot {__version__}.
"""


def health_check(port: int) -> list[str]:
    """Returns the command that succeeds when the server on this machine says that it is ready."""
    return ["python", "-c", HEALTH.format(port=port)]


def docker_files(deployment: Deployment, pins: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns a build context by file name: Dockerfile, constraints, and a place for the wheel.

    Args:
        deployment: what is served.
        pins: package versions; None takes those that are installed here.

    Returns:
        File name to text.
    """
    versions = pinned() if pins is None else pins
    torch = ""
    if deployment.device == "cpu" and "torch" in versions:
        # Without what it requires: PyTorch's index has other packages too, in fewer versions.
        install = "/opt/ingot/bin/pip install --no-cache-dir --no-deps"
        torch = f"{install} --index-url {CPU_INDEX} torch=={versions['torch']} \\\n && "
    text = _DOCKERFILE.format(
        base=f"python:{platform.python_version()}-slim-bookworm",
        model=MODEL_AT,
        torch=torch,
        name=deployment.name,
        version=deployment.version,
        user=USER,
        cache=CACHE,
        gpu=_GPU if deployment.device == "cuda" else "",
        port=deployment.port,
        load=deployment.load_seconds,
        health=json.dumps(health_check(deployment.port)),
        command=json.dumps(deployment.arguments()),
    )
    # A build for processors takes PyTorch from its own index, where CUDA's packages do not exist.
    kept = {
        name: version
        for name, version in versions.items()
        if deployment.device == "cuda" or not name.startswith("nvidia-")
    }
    return {
        "Dockerfile": text,
        "constraints.txt": "".join(f"{name}=={version}\n" for name, version in kept.items()),
        "wheels/README.txt": _WHEELS,
        ".dockerignore": "*\n!constraints.txt\n!wheels/\n",
    }
