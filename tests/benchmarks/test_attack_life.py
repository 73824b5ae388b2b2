"""The attack on a server's life: killed, restarted, asked to end; and by its own OpenAPI document."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path

import pytest
from fakes import Behaviour, Handler, fake

from ingot.bench.attack_cases import CHAT, plain
from ingot.bench.attack_life import Program, drained, killed
from ingot.bench.attack_report import Group
from ingot.bench.attack_schema import by_document
from ingot.bench.wire import Server
from ingot.errors import ResourceError

SOURCE = """
import os, signal, sys, threading, time
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGTERM}})  # waited for below, without a handler
sys.path.insert(0, {folder!r})
import fakes
class Slow(fakes.Behaviour):
    tokens, gap_seconds = 40, 0.02
behaviour = Slow()
handler = type("Bound", (fakes.Handler,), {{"behaviour": behaviour}})
server = fakes._Server(("127.0.0.1", {port}), handler)
threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
signal.sigwait({{signal.SIGTERM}})
{end}
"""
DRAINS = """
time.sleep(0.2)
while behaviour.active: time.sleep(0.02)
time.sleep(0.2)
"""
LEAVES = "os._exit({})"  # without Python's last steps, in which threads that still answer may hang


def command(folder: Path, end: str) -> tuple[str, str]:
    """Returns a command that starts the fake, and its address."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = opened.getsockname()[1]
    file = folder / "server.py"
    file.write_text(SOURCE.format(folder=str(Path(__file__).parent), port=port, end=end))
    return f"{sys.executable} {file}", f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        (DRAINS + LEAVES.format(0), ""),
        (LEAVES.format(0), "a stream broke off when the server was asked to end"),
        (DRAINS + LEAVES.format(3), "SIGTERM: the exit status is 3"),
    ],
)
def test_a_server_is_killed_started_again_and_asked_to_end(tmp_path: Path, end: str, fault: str) -> None:
    start, url = command(tmp_path, end)
    program, asked = Program(start, Server.at(url), 20), plain(CHAT, "fake")
    first, last = Group("killed under load", alive=True), Group("asked to end", alive=True)

    async def both() -> None:
        await program.start()
        await killed(program, CHAT, asked, 2, first.count)
        await drained(program, CHAT, asked, last.count)

    try:
        asyncio.run(both())
    finally:
        program.kill()
    assert first.outcomes["cut"] > 0
    assert first.outcomes["left"] == 2
    assert "answers again" in first.remarks[0]
    assert first.passed(strict=True)
    assert last.passed(strict=True) == (not fault)
    assert not fault or fault in last.faults


def test_a_program_that_does_not_serve_is_said(tmp_path: Path) -> None:
    server = Server.at("http://127.0.0.1:9")
    for words, what in (("/no/such/program", "cannot be started"), ("false", "ended at once with 1")):
        with pytest.raises(ResourceError, match=what):
            asyncio.run(Program(words, server, 5).start())
    with pytest.raises(ResourceError, match=r"no answer within 0\.3 s"):
        asyncio.run(Program("sleep 20", server, 0.3).start())


class Documented(Behaviour):
    """Has a document of one route, and fails where what it forbids comes."""

    status = 400


class Described(Handler):
    def do_GET(self) -> None:
        if self.path != "/openapi.json":
            return super().do_GET()
        body = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
        content = {"application/json": {"schema": body}}
        operation = {
            "requestBody": {"required": True, "content": content},
            "responses": {"200": {"description": ""}},
        }
        document = {"openapi": "3.1.0", "info": {"title": "a", "version": "1"}}
        return self.reply(200, document | {"paths": {"/x": {"post": operation}}})

    def post(self) -> None:
        try:
            asked = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))))
            good = type(asked["x"]) is int
        except (ValueError, KeyError, TypeError):
            good = False
        self.reply(200 if good else self.behaviour.status, {})  # type: ignore[attr-defined]


@pytest.mark.parametrize(("status", "outcome"), [(400, "4xx"), (500, "5xx"), (200, "accepted")])
def test_schemathesis_finds_what_it_should(
    monkeypatch: pytest.MonkeyPatch, status: int, outcome: str
) -> None:
    pytest.importorskip("schemathesis")
    monkeypatch.setattr("fakes.Handler", Described)
    behaviour = Documented()
    behaviour.status = status
    found = Group("own document", alive=True)
    with fake(behaviour) as url:
        asyncio.run(by_document(Server.at(url), found, 5, 0, 10))
    assert found.outcomes["2xx"] > 0  # allowed data comes, too
    assert found.outcomes[outcome] > 5
    assert found.passed(strict=True) == (status == 400)
