"""The image: built of pinned packages, run by nobody in particular, healthy only when the server is."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement

from ingot.cli.serve import serve
from ingot.deploy.docker import docker_files
from ingot.deploy.pins import pinned
from ingot.deploy.settings import Deployment
from ingot.errors import ResourceError

HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
PINS = {"torch": "2.13.0", "nvidia-cublas": "13.0.0", "numpy": "2.0.0"}


def instructions(text: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions and their arguments, continued lines joined, comments dropped."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def last(text: str, word: str) -> str:
    return [rest for found, rest in instructions(text) if found == word][-1]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_image_is_pinned_and_unprivileged(deployment: Deployment, device: str) -> None:
    files = docker_files(deployment.model_copy(update={"device": device}), PINS)
    text = files["Dockerfile"]
    bases = [rest.split()[0] for word, rest in instructions(text) if word == "FROM"]
    assert len(bases) == 2 and all(re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm", base) for base in bases)
    assert last(text, "USER") == "10001:10001"
    after = [word for word, _ in instructions(text)]
    assert "RUN" not in after[len(after) - after[::-1].index("USER") :]
    assert ("torch==2.13.0" in text) == (device == "cpu")
    assert ("NVIDIA_VISIBLE_DEVICES" in text) == (device == "cuda")
    assert ("nvidia-cublas==13.0.0" in files["constraints.txt"]) == (device == "cuda")
    assert "torch==2.13.0" in files["constraints.txt"]
    assert "pip install ingot" not in text  # somebody else's package, should an index have one


def test_the_context_holds_nothing_else(deployment: Deployment) -> None:
    files = docker_files(deployment, PINS)
    ignored = files[".dockerignore"].split()
    copied = [rest.split()[0] for word, rest in instructions(files["Dockerfile"]) if word == "COPY"]
    assert ignored == ["*", "!constraints.txt", "!wheels/"]
    assert copied == ["constraints.txt", "wheels/", "--from=build"]


def test_the_server_takes_the_command(deployment: Deployment) -> None:
    """Every word that the image starts with is one that `ingot serve` knows."""
    words = json.loads(last(docker_files(deployment, PINS)["Dockerfile"], "CMD"))
    app = typer.Typer()
    app.command("serve")(serve)
    app.command("other")(lambda: None)
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    context = command.make_context("serve", words[1:])
    assert words[0] == "serve"
    assert (context.params["host"], context.params["port"]) == ("0.0.0.0", 8000)


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/ready" else 404)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def listening() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), _Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_tells_well_from_ill(
    deployment: Deployment, listening: HTTPServer, status: int, healthy: bool
) -> None:
    listening.status = status  # type: ignore[attr-defined]
    there = deployment.model_copy(update={"port": listening.server_address[1]})
    rest = last(docker_files(there, PINS)["Dockerfile"], "HEALTHCHECK")
    words = json.loads(rest[rest.index("[") :])
    assert words[0] == "python"
    ended = subprocess.run([sys.executable, *words[1:]], capture_output=True, timeout=120)
    assert (ended.returncode == 0) == healthy


def test_nobody_listening_is_ill(deployment: Deployment) -> None:
    gone = deployment.model_copy(update={"port": 1024})
    rest = last(docker_files(gone, PINS)["Dockerfile"], "HEALTHCHECK")
    words = json.loads(rest[rest.index("[") :])
    ended = subprocess.run([sys.executable, *words[1:]], capture_output=True, timeout=120)
    assert ended.returncode != 0


def test_pins_are_what_is_installed_and_closed() -> None:
    found = pinned("pydantic")
    assert found["pydantic-core"] == metadata.version("pydantic-core")
    assert "pydantic" not in found
    for name in found:  # whatever a pinned package needs here is pinned too
        for line in metadata.requires(name) or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                assert wanted.name.lower().replace("_", "-") in found


def test_pins_of_what_is_not_there() -> None:
    with pytest.raises(ResourceError, match="not installed"):
        pinned("no-such-package-of-ours")


def test_the_packages_fit_the_images_budget() -> None:
    """Two gigabytes for processors: 1.6 of packages, the rest for Debian, Python and the compiler."""
    sizes = {name: sum(one.size or 0 for one in metadata.files(name) or ()) for name in pinned()}
    if any(name.startswith("nvidia-") for name in sizes):
        pytest.skip("the PyTorch of this machine brings CUDA")
    assert 0.3e9 < sum(sizes.values()) < 1.6e9, sorted(sizes.items(), key=lambda one: -one[1])[:5]


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is missing")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_hadolint_finds_nothing(deployment: Deployment, device: str) -> None:
    text = docker_files(deployment.model_copy(update={"device": device}), PINS)["Dockerfile"]
    ended = subprocess.run([str(HADOLINT), "-"], input=text, text=True, capture_output=True, timeout=60)
    assert ended.returncode == 0, ended.stdout
