"""Clients that send or read too slowly, and too many of them: raw sockets against a real server."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from servers import Running, running, until

from ingot.serve.limits import Limits

LIMITS = Limits(
    head_seconds=0.4, receive_seconds=0.6, send_seconds=0.5, idle_seconds=1, connections=20, drain_seconds=1
)
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
BODY = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}).encode()


PATIENT = LIMITS.model_copy(update={"head_seconds": 10})
"""For what must not be cut off on a machine that is busy with other things."""


@pytest.fixture(scope="module")
def impatient(folder) -> Iterator[Running]:
    with running(folder, LIMITS) as started:
        yield started


@pytest.fixture(scope="module")
def patient(folder) -> Iterator[Running]:
    with running(folder, PATIENT) as started:
        yield started


def connect(server: Running) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=10)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def all_of(opened: socket.socket) -> bytes:
    """Everything until the server closes."""
    parts = []
    try:
        while part := opened.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def dribble(opened: socket.socket, data: bytes, pause: float = 0.05) -> float:
    """Sends byte by byte until it is cut off; returns the seconds that took."""
    begin = time.monotonic()
    for byte in data:
        try:
            opened.sendall(bytes([byte]))
        except OSError:
            break
        time.sleep(pause)
    return time.monotonic() - begin


def test_a_head_that_comes_byte_by_byte_is_cut_off_with_a_word(impatient: Running) -> None:
    with connect(impatient) as opened:
        assert dribble(opened, HEAD * 4) < 15  # all of it would take 18 s
        answer = all_of(opened)
    if answer:  # the system may drop it together with the connection
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert json.loads(body)["error"]["code"] == "timeout"


def test_a_client_that_says_nothing_is_let_go(impatient: Running) -> None:
    with connect(impatient) as opened:
        assert all_of(opened) == b""  # within the 10 s that the socket waits


def test_a_client_that_stops_in_its_head_is_told(impatient: Running) -> None:
    with connect(impatient) as opened:
        opened.sendall(HEAD)
        assert all_of(opened).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_comes_byte_by_byte_is_cut_off(impatient: Running) -> None:
    with connect(impatient) as opened:
        opened.sendall(HEAD + b"content-length: 1000\r\n\r\n")
        assert dribble(opened, b" " * 400) < 15  # all of it would take 20 s
        assert b"408" in all_of(opened).split(b"\r\n")[0]


def test_a_body_nobody_reads_is_cut_off_too(impatient: Running) -> None:
    """The answer (404) is sent at once, without reading the body; the connection must not live on it."""
    with connect(impatient) as opened:
        opened.sendall(HEAD.replace(b"/v1/chat/completions", b"/nothing") + b"content-length: 1000\r\n\r\n")
        assert dribble(opened, b" " * 400) < 15
        assert all_of(opened).startswith(b"HTTP/1.1 404 ")


def test_connections_are_kept_between_requests_and_for_pipelined_ones(patient: Running) -> None:
    request = HEAD + f"content-length: {len(BODY)}\r\n\r\n".encode() + BODY
    with connect(patient) as opened:
        opened.sendall(request * 3 + request[:20])  # three, and the beginning of a fourth
        time.sleep(0.2)
        opened.sendall(request[20:])
        answers = all_of(opened)  # until the idle connection is closed
    assert answers.count(b"HTTP/1.1 200 ") == 4
    assert b"HTTP/1.1 408" not in answers


def test_a_request_begun_behind_another_has_to_end_as_well(impatient: Running) -> None:
    request = HEAD + f"content-length: {len(BODY)}\r\n\r\n".encode() + BODY
    with connect(impatient) as opened:
        opened.sendall(request + HEAD)
        answers = all_of(opened)
    assert answers.count(b"HTTP/1.1 200 ") == 1
    assert answers.count(b"HTTP/1.1 408 ") == 1


def test_more_connections_than_allowed_are_refused_and_come_back_later(patient: Running) -> None:
    until(lambda: httpx.get(patient.url + "/health").status_code == 200)
    opened = [connect(patient) for _ in range(LIMITS.connections)]
    try:
        with connect(patient) as extra:
            answer = all_of(extra)
        assert answer.startswith(b"HTTP/1.1 503 ") and b"retry-after" in answer
    finally:
        for one in opened:
            one.close()
    until(lambda: httpx.get(patient.url + "/health").status_code == 200)


def test_a_client_that_does_not_read_is_let_go(impatient: Running) -> None:
    asked = 4000
    size = len(httpx.get(impatient.url + "/openapi.json").content)
    assert size * asked > 30_000_000  # more than the system keeps for a connection
    with connect(impatient) as opened:
        opened.settimeout(5)
        with contextlib.suppress(OSError):  # let go while still asking
            opened.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" * asked)
        time.sleep(LIMITS.send_seconds * 3)
        until(lambda: impatient.life.busy == 0)  # a crowded machine may look at its clock late
        got = len(all_of(opened))
    assert got < size * asked / 2
    until(lambda: impatient.life.busy == 0)


def test_heads_that_are_too_large_or_no_http_are_refused(impatient: Running) -> None:
    for bad in (b"\x16\x03\x01\x00\xff" * 10, b"GET\r\n\r\n", HEAD + b"x: " + b"y" * 70_000):
        with connect(impatient) as opened:
            opened.sendall(bad)
            assert all_of(opened)[:12] in (b"HTTP/1.1 400", b"")
    assert httpx.get(impatient.url + "/health").status_code == 200
