"""How a server begins and ends: not ready before it is loaded, none while it drains, over at the deadline."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from servers import running, slow_down, until

from ingot.serve.life import GOODBYE_SECONDS, Life
from ingot.serve.limits import Limits

CHAT = "/v1/chat/completions"
LONG = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 400, "temperature": 2.0, "seed": 1}


def test_a_life() -> None:
    now = [0.0]
    life = Life(clock=lambda: now[0])
    ended: list[float] = []
    life.on_deadline = lambda: ended.append(now[0])
    assert life.state == "starting" and life.refusal().headers["retry-after"] and not life.over
    life.begin()
    assert life.state == "ready" and life.refusal() is None and not life.over
    life.busy = 2
    life.drain(10)
    assert life.state == "draining" and life.refusal().status == 503 and not life.over
    now[0] = 9
    life.drain(100)  # told twice: the first time counts
    assert not life.over and not ended
    now[0] = 11
    assert not life.over and ended == [11]
    assert not life.over and ended == [11]
    now[0] = 10 + GOODBYE_SECONDS
    assert life.over


def test_a_life_ends_as_soon_as_nothing_is_under_way() -> None:
    life = Life()
    life.begin()
    life.busy = 1
    life.drain(1000)
    assert not life.over
    life.busy = 0
    assert life.over
    life.begin()
    assert life.state == "draining"


def test_draining_lets_answers_finish_and_takes_nothing_new(folder) -> None:
    with running(folder, Limits(drain_seconds=30)) as server:
        slow_down(server)
        with httpx.stream(
            "POST", server.url + CHAT, json=LONG | {"stream": True, "max_tokens": 40}
        ) as response:
            lines = response.iter_lines()
            next(lines)
            server.life.drain(30)
            ready = httpx.get(server.url + "/ready")
            assert ready.status_code == 503 and ready.json() == {"status": "draining"}
            assert httpx.get(server.url + "/health").status_code == 200
            assert httpx.get(server.url + "/metrics").status_code == 200
            refused = httpx.post(server.url + CHAT, json=LONG)
            assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
            assert refused.json()["error"]["code"] == "draining"
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] in (
            "stop",
            "length",
        )
        until(lambda: _gone(server.url))


def test_answers_that_outlast_the_deadline_end_with_a_word(folder) -> None:
    with running(folder) as server:
        slow_down(server, 0.05)
        whole: list[httpx.Response] = []
        thread = threading.Thread(
            target=lambda: whole.append(httpx.post(server.url + CHAT, json=LONG, timeout=60))
        )
        thread.start()
        with httpx.stream("POST", server.url + CHAT, json=LONG | {"stream": True}, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            until(lambda: len(server.ingot.engine.active) == 2)
            begin = time.monotonic()
            server.life.drain(0.3)
            rest = [line for line in lines if line]
        thread.join()
        assert time.monotonic() - begin < 15  # 400 tokens would take 20 s
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2].removeprefix("data: "))["error"]["code"] == "draining"
        assert whole[0].status_code == 503
        until(lambda: _gone(server.url))


def _gone(url: str) -> bool:
    try:
        httpx.get(url + "/health", timeout=1)
    except httpx.TransportError:
        return True
    return False


def _ends(url: str) -> bool:
    """Whether a server says that it drains, or says nothing any more."""
    try:
        return httpx.get(url + "/ready", timeout=10).status_code == 503
    except httpx.TransportError:
        return True


@contextmanager
def process(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """A server process, and its address once it answers."""
    command = [
        sys.executable,
        "-m",
        "ingot",
        "serve",
        str(folder),
        "--port",
        "0",
        "--access-log",
        "none",
        *words,
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as started:
        try:
            line = started.stdout.readline()
            found = re.search(r"http://([\d.:]+)", line)
            assert found, line + started.stdout.read()
            until(lambda: httpx.get(found[0] + "/ready").status_code == 200)
            yield started, found[1]
        finally:
            started.kill()


def test_a_second_signal_ends_it_at_once(folder) -> None:
    with process(folder, "--drain", "600") as (server, address):
        connection = http.client.HTTPConnection(address, timeout=60)
        body = json.dumps({"prompt": "Hello", "max_tokens": 500, "ignore_eos": True, "n": 16, "stream": True})
        connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200
        # Nothing is read from here on, so that the answer cannot finish before the signals.
        server.send_signal(signal.SIGTERM)
        until(lambda: _ends(f"http://{address}"))  # two signals at once may count as one
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) in (0, -signal.SIGTERM)
        connection.close()


def test_a_model_that_cannot_be_loaded_ends_it_with_a_word(folder, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    command = [sys.executable, "-m", "ingot", "serve", str(broken), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words", [["--key-file", "/no/such/file"], ["--alias", "x=nothing"], ["--route", "a=b"]]
)
def test_settings_that_cannot_be_used_end_it_with_a_word(folder, words: list[str]) -> None:
    command = [sys.executable, "-m", "ingot", "serve", str(folder), "--port", "0", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
