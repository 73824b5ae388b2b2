"""Load, disconnection, failure, and how a server process begins and ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from servers import running, slow_down, until

from ingot.errors import BusyError, RequestError
from ingot.serve.limits import Limits
from ingot.serve.listen import listen

CHAT = "/v1/chat/completions"
LONG = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 400, "temperature": 2.0, "seed": 1}


def test_too_much_at_once_is_refused_with_a_time_to_come_back(folder) -> None:
    with running(folder, Limits(waiting=0)) as server:
        slow_down(server)
        server.worker.capacity = 2
        threads = [
            threading.Thread(target=httpx.post, args=(server.url + CHAT,), kwargs={"json": LONG})
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        until(lambda: server.worker.taken == 2)
        response = httpx.post(server.url + CHAT, json=LONG)
        assert response.status_code == 429
        assert response.headers["retry-after"] == "1"
        assert response.json()["error"]["code"] == "overloaded"
        for thread in threads:
            thread.join()
        assert httpx.post(server.url + CHAT, json=LONG | {"max_tokens": 2}).status_code == 200
        assert server.worker.taken == 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(folder, stream: bool) -> None:
    with running(folder) as server:
        slow_down(server, 0.05)
        with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as connection:
            body = json.dumps({**LONG, "stream": stream, "n": 3}).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: len(server.ingot.engine.active) == 3)
        # 400 tokens would take 20 s
        until(lambda: server.worker.taken == 0 and not server.ingot.engine.active, seconds=15)


def test_an_engine_that_fails_fails_its_clients_only(folder) -> None:
    with running(folder) as server:
        step = server.ingot.engine.step

        def broken():
            if len(server.ingot.engine.active) == 1 and len(server.ingot.engine.active[0].tokens) == 3:
                raise MemoryError("no memory")
            return step()

        server.ingot.engine.step = broken
        whole = httpx.post(server.url + CHAT, json=LONG)
        assert whole.status_code == 503
        assert whole.json()["error"]["code"] == "engine_failed"
        streamed = httpx.post(server.url + CHAT, json=LONG | {"stream": True})
        events = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line]
        assert json.loads(events[-2])["error"]["code"] == "engine_failed"
        assert events[-1] == "[DONE]"
        server.ingot.engine.step = step
        assert httpx.post(server.url + CHAT, json=LONG).status_code == 200
        assert server.worker.taken == 0


def test_many_at_once_all_get_what_they_would_get_alone(server) -> None:
    asks = [{**LONG, "max_tokens": 20, "seed": i, "temperature": 1.0} for i in range(40)]
    answers: dict[int, str] = {}

    def ask(i: int) -> None:
        response = httpx.post(server.url + CHAT, json=asks[i], timeout=60)
        answers[i] = response.json()["choices"][0]["message"]["content"]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(asks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = [answers[i] for i in range(len(asks))]
    assert len(set(together)) > 30
    for i in (0, 17, 39):
        ask(i)
        assert answers[i] == together[i]


def test_a_port_in_use_is_found_at_once() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(BusyError, match="in use"), listen("127.0.0.1", port):
            pass
    with listen("127.0.0.1", port):
        pass


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 70_000), ("no.such.host.invalid", 0), ("203.0.113.1", 0)]
)
def test_addresses_that_cannot_be_listened_on(host: str, port: int) -> None:
    with pytest.raises(RequestError), listen(host, port):
        pass


def start(folder: Path) -> tuple[subprocess.Popen, str, list[str]]:
    """Starts a server process on a free port; returns it, its address, and what it prints."""
    code = (
        "from pathlib import Path; from ingot.serve.serving import Source, serve; "
        f"serve([Source(Path({str(folder)!r}))], port=0)"
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    found = re.search(r"http://[\d.:]+", lines[0])
    assert found, lines[0] + process.stdout.read()
    return process, found[0], lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_finishes_what_it_is_at_and_exits_with_zero(folder, number: signal.Signals) -> None:
    process, url, lines = start(folder)
    try:
        secret = "a prompt that no log should hold"
        ask = LONG | {"messages": [{"role": "user", "content": secret}], "stream": True}
        with httpx.stream("POST", url + CHAT, json=ask, timeout=60) as response:
            events = response.iter_lines()
            next(events)
            process.send_signal(number)
            rest = list(events)
        assert rest[-2] == "data: [DONE]" or rest[-1] == "data: [DONE]"
        httpx_refused = httpx.ConnectError
        assert process.wait(timeout=60) == 0
        with pytest.raises(httpx_refused):
            httpx.get(url + "/health")
        output = "".join(lines) + process.stdout.read()
        assert secret not in output
        assert "Traceback" not in output
    finally:
        process.kill()
