"""What is deployed and how much of it: the one description that every target's files are made of."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ingot.config import Config
from ingot.errors import ArtifactError
from ingot.record import read

MODEL_AT = "/model"
"""Where containers find the model's folder, mounted read-only."""

USER = 10001
"""The user and group that containers run as: nobody who exists on the host."""

KEY_VARIABLE = "INGOT_API_KEY"
"""The environment variable that the server takes its key from."""

GIB = 2**30


class Deployment(Config):
    """A model as it is to be served.

    Args:
        name: of services, images and files: lower case letters, digits and '-', at most 40.
        source: the model's folder on this machine.
        version: the model's fingerprint (the first 12 digits), or 'unrecorded'.
        context: tokens that prompt and answer may have together; None where the folder does not say.
        device: what the server computes on.
        port: where it listens inside its container or unit.
        image: the container image, with its tag; None names it after the model and its version.
        program: the `ingot` program, for targets that run on this machine.
        min_replicas: copies that always run.
        max_replicas: copies at most.
        slots: requests that one copy answers at the same time.
        target: requests under way or waiting per copy that the autoscaler aims at.
        cpus: cores of one copy.
        memory_gib: memory of one copy, GiB.
        drain_seconds: how long answers under way may go on once a copy was told to end.
        settle_seconds: how long a copy goes on accepting after that, until nothing sends to it any more.
        load_seconds: the longest that loading the model may take before the copy is started anew.
    """

    name: str = Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")
    source: str
    version: str = "unrecorded"
    context: int | None = Field(default=None, gt=0)
    device: Literal["cpu", "cuda"] = "cpu"
    port: int = Field(default=8000, ge=1024, le=65535)
    image: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$")
    program: str = Field(default_factory=lambda: str(Path(sys.executable).parent / "ingot"))
    min_replicas: int = Field(default=2, ge=1)
    max_replicas: int = Field(default=20, ge=1)
    slots: int = Field(default=16, ge=1)
    target: int = Field(default=12, ge=1)
    cpus: int = Field(default=2, ge=1)
    memory_gib: int = Field(default=4, ge=1)
    drain_seconds: int = Field(default=60, ge=1)
    settle_seconds: int = Field(default=5, ge=0)
    load_seconds: int = Field(default=300, ge=1)

    @field_validator("source", "program")
    @classmethod
    def _one_line(cls, value: str) -> str:
        """These words end up in unit files and YAML: nothing in them may end a line or be expanded."""
        if re.search(r"[\x00-\x1f\x7f\"'\\%$`]", value):
            raise ValueError("a path with quotes, '%', '$', '\\' or control characters")
        return value

    @model_validator(mode="after")
    def _in_order(self) -> Deployment:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below min_replicas {self.min_replicas}")
        return self

    @property
    def tag(self) -> str:
        """The image that containers are made of."""
        return self.image or f"ingot-{self.name}:{self.version}"

    @property
    def grace_seconds(self) -> int:
        """From 'please end' to the kill: settling, draining, and five seconds to put things away."""
        return self.settle_seconds + self.drain_seconds + 5

    @property
    def labels(self) -> dict[str, str]:
        """What marks everything of this deployment."""
        return {"app.kubernetes.io/name": "ingot", "app.kubernetes.io/instance": self.name}

    def arguments(self, model: str = MODEL_AT, host: str = "0.0.0.0") -> list[str]:
        """Returns the words after `ingot` that start the server."""
        words = ["serve", model, "--host", host, "--port", str(self.port)]
        return [
            *words,
            "--device",
            self.device,
            "--drain",
            str(self.drain_seconds),
            "--slots",
            str(self.slots),
        ]


def slug(text: str) -> str:
    """Returns a name that image registries and clusters take.

    Example:
        >>> slug("Aligned@1")
        'aligned-1'
    """
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    plain = plain if plain[:1].isalpha() else f"model-{plain}"
    return plain[:40].strip("-")


def describe(folder: Path, changes: dict[str, Any] | None = None) -> Deployment:
    """Returns how a model folder is deployed where nothing else is asked for.

    Args:
        folder: a model folder.
        changes: settings of `Deployment` by name, instead of what the folder suggests.

    Raises:
        ArtifactError: no model folder, or its config.json cannot be read.
        ConfigError: a setting that does not exist or cannot be used.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError("is no model folder (no config.json)", where=folder) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"not readable as JSON ({error})", where=path, fix="make the model anew"
        ) from None
    if not isinstance(config, dict):
        raise ArtifactError("holds no keys", where=path, fix="make the model anew")
    weights = sum(one.stat().st_size for one in folder.glob("*.safetensors"))
    whole = folder.resolve()
    try:
        version = read(folder).record.fingerprint[:12]
    except ArtifactError:
        version = "unrecorded"
    suggested: dict[str, Any] = {
        "name": slug(whole.name),
        "source": str(whole),
        "version": version,
        "context": config.get("max_position_embeddings") or config.get("n_positions"),
        # Weights, as much again for caches and copies while loading, and what Python and PyTorch take.
        "memory_gib": 2 + math.ceil(2 * weights / GIB),
    }
    return Deployment.parse(suggested | (changes or {}), where="deploy")
