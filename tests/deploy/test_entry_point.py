"""What a container would do, done here: its words, its variables, its health check, its signal."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ingot.deploy import monitoring
from ingot.deploy.docker import docker_files
from ingot.deploy.settings import Deployment

KEY = "secret"


class Started(NamedTuple):
    process: subprocess.Popen[bytes]
    url: str


def instruction(text: str, word: str) -> str:
    """The rest of the last instruction of that name, its lines joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return re.findall(rf"^\s*{word} (.*)$", joined, re.M)[-1]


@pytest.fixture(scope="module")
def started(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """The server as the image starts it, once its own health check finds it ready."""
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = docker_files(Deployment(name="demo", source=str(tiny), port=port), {})["Dockerfile"]
    words = [str(tiny) if word == "/model" else word for word in json.loads(instruction(text, "CMD"))]
    given = dict(re.findall(r"(\w+)=(\S+)", instruction(text, "ENV")))
    given |= {"PATH": "/usr/bin:/bin", "HOME": str(home), "XDG_CACHE_HOME": str(home)}
    given |= {"INGOT_API_KEY": KEY, "OMP_NUM_THREADS": "1"}
    rest = re.sub(r"\\\n\s*", " ", text).split("HEALTHCHECK", 1)[1]
    check = [sys.executable, *json.loads(rest[rest.index("[") : rest.index("]") + 1])[1:]]
    command = [sys.executable, "-m", "ingot", *words]
    with subprocess.Popen(command, env=given, cwd=home, stdout=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 240
            while subprocess.run(check, env=given, capture_output=True, timeout=120).returncode != 0:
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.2)
            yield Started(process, f"http://127.0.0.1:{port}")
        finally:
            process.kill()


def status_of(url: str, key: str | None = None) -> int:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def test_it_is_healthy_and_asks_for_the_key(started: Started) -> None:
    assert status_of(f"{started.url}/health") == 200
    assert status_of(f"{started.url}/v1/models") == 401
    assert status_of(f"{started.url}/v1/models", KEY) == 200


def test_probes_and_prometheus_get_what_the_files_ask_for(started: Started) -> None:
    """What manifests, dashboards and autoscalers name is what the server has."""
    assert status_of(f"{started.url}/ready") == 200
    assert status_of(f"{started.url}/metrics") == 401
    request = urllib.request.Request(f"{started.url}/metrics", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=60) as response:
        published = response.read().decode()
    named = [one for one in vars(monitoring).values() if isinstance(one, str) and one.startswith("vllm:")]
    assert [one for one in named if one not in published] == []


def test_it_ends_when_told(started: Started) -> None:
    """The last of this file: nothing answers after it."""
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(timeout=300) == 0
