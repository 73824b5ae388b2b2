"""Downloads from a server on this machine that breaks off, refuses, changes its mind and lies."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ingot.data.document import Document
from ingot.data.download import _WebOnly, cache_folder, download
from ingot.data.sources import open_place, read
from ingot.errors import BusyError, DataError, ResourceError
from ingot.lock import lock

CONTENT = os.urandom(400_000).hex().encode()
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """A server with a script: what to do with the first request, the second, and so on; then all is well."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.tag = '"one"'
        self.script: list[str] = []
        self.ranges: list[str | None] = []
        self.sent = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.ranges.append(self.headers.get("Range"))
        act, _, argument = (server.script.pop(0) if server.script else "").partition(" ")
        if act == "answer":
            self.send_response(int(argument.split()[0]))
            if "wait" in argument:
                self.send_header("Retry-After", argument.rpartition(" ")[2])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if act == "redirect":
            self.send_response(302)
            self.send_header("Location", argument)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body, start = server.content, 0
        asked = self.headers.get("Range")
        if asked and self.headers.get("If-Range") == server.tag and act != "ignore":
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            shown = start + 1 if act == "shift" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("ETag", server.tag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = start + int(argument) if act == "break" else len(body)
        server.sent += len(body[start:end])
        self.wfile.write(body[start:end])
        self.close_connection = True

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def fetched(server: Server, cache: Path, rest: str = "/a/corpus.txt") -> tuple[bytes, list[float]]:
    pauses: list[float] = []
    path = download(server.address + rest, cache, sleep=pauses.append)
    assert path.name == "corpus.txt"
    return path.read_bytes(), pauses


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    content, pauses = fetched(server, tmp_path)
    assert (content, pauses) == (CONTENT, [])
    assert fetched(server, tmp_path) == (CONTENT, [])
    assert server.ranges == [None]
    (origin,) = tmp_path.rglob("origin.json")
    noted = json.loads(origin.read_text())
    assert (noted["sha256"], noted["bytes"], noted["validator"]) == (SHA, len(CONTENT), '"one"')
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name]
    origin.with_name("corpus.txt").write_bytes(b"cut")
    assert fetched(server, tmp_path)[0] == CONTENT


def test_what_breaks_off_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.script = ["break 300000", "break 200000"]
    content, pauses = fetched(server, tmp_path)
    assert content == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=500000-"]
    assert server.sent == len(CONTENT)
    assert pauses == [1.0, 1.0]  # something came each time


def test_a_later_call_goes_on_too(server: Server, tmp_path: Path) -> None:
    server.script = ["break 300000"] + ["answer 503"] * 5
    with pytest.raises(ResourceError, match=r"503 .*what has come is kept") as caught:
        fetched(server, tmp_path)
    assert "\n" not in str(caught.value)
    assert fetched(server, tmp_path)[0] == CONTENT
    assert server.ranges[-1] == "bytes=300000-"


def test_a_file_that_has_changed_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.script = ["break 300000"] + ["answer 500"] * 5
    with pytest.raises(ResourceError):
        fetched(server, tmp_path)
    server.content, server.tag = b"new " + CONTENT, '"two"'
    assert fetched(server, tmp_path)[0] == server.content
    server.script = ["break 300000", "ignore"]
    assert fetched(server, tmp_path / "b")[0] == server.content
    server.script = ["break 300000", "shift"]
    assert fetched(server, tmp_path / "c")[0] == server.content
    server.script = ["break 300000", "answer 416"]
    assert fetched(server, tmp_path / "d")[0] == server.content


def test_pauses_grow_and_the_server_may_set_them(server: Server, tmp_path: Path) -> None:
    server.script = ["answer 500", "answer 502", "answer 429 wait 7", "answer 503"]
    assert fetched(server, tmp_path) == (CONTENT, [1.0, 2.0, 7.0, 8.0])


def test_refusals_are_final(server: Server, tmp_path: Path) -> None:
    for code in (403, 404, 410):
        server.script = [f"answer {code}"]
        with pytest.raises(DataError, match=f"the server answers {code}"):
            fetched(server, tmp_path)
    assert len(server.ranges) == 3


def test_the_checksum_is_checked(server: Server, tmp_path: Path) -> None:
    wrong = "0" * 64
    with pytest.raises(DataError, match="its sha256 is"):
        fetched(server, tmp_path, f"/corpus.txt#sha256={wrong}")
    assert not list(tmp_path.rglob("corpus.txt*"))
    assert fetched(server, tmp_path, f"/corpus.txt#sha256={SHA.upper()}")[0] == CONTENT
    with pytest.raises(DataError, match="its sha256 is"):  # of what is there already
        fetched(server, tmp_path, f"/corpus.txt#sha256={wrong}")
    with pytest.raises(DataError, match="is no checksum"):
        fetched(server, tmp_path, "/corpus.txt#md5=1")


def test_redirects_are_followed_within_the_web(server: Server, tmp_path: Path) -> None:
    server.script = [f"redirect {server.address}/elsewhere"]
    assert fetched(server, tmp_path)[0] == CONTENT
    server.script = ["redirect file:///etc/passwd"]
    with pytest.raises(DataError, match="file:///etc/passwd"):
        fetched(server, tmp_path / "b")
    secure = urllib.request.Request("https://example.org/a")
    with pytest.raises(DataError, match="is redirected to http:"):
        _WebOnly().redirect_request(secure, None, 302, "Found", {}, "http://example.org/a")
    with pytest.raises(DataError, match="are not downloaded"):
        download("file:///etc/passwd", tmp_path)


def test_no_server_is_one_clear_line(tmp_path: Path) -> None:
    with Server() as gone:
        address = gone.address
    pauses: list[float] = []
    with pytest.raises(ResourceError, match=r"cannot be downloaded .*6 tries") as caught:
        download(f"{address}/corpus.txt", tmp_path, sleep=pauses.append)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert "check the network" in str(caught.value)


def test_a_disk_that_is_too_small_is_noticed_first(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(ResourceError, match="800,000 bytes are to come, 1,000 are free"):
        fetched(server, tmp_path)


def test_two_processes_do_not_fetch_the_same_file(server: Server, tmp_path: Path) -> None:
    fetched(server, tmp_path)
    (origin,) = tmp_path.rglob("origin.json")
    origin.unlink()
    with lock(origin.parent), pytest.raises(BusyError):
        fetched(server, tmp_path)


def test_names_stay_inside_the_cache(server: Server, tmp_path: Path) -> None:
    for name in ("/a/..%2F..%2Fevil.txt", "/.hidden.txt", "/", "/a%00b.txt", "/" + "x" * 400 + ".txt"):
        path = download(server.address + name, tmp_path)
        assert path.parent.parent == tmp_path
        assert not path.name.startswith(".")


def test_a_url_is_a_place(server: Server, tmp_path: Path) -> None:
    server.content = b'{"text": "one"}\n'
    (source,) = open_place(f"{server.address}/rows.jsonl", tmp_path).sources
    assert list(read(source)) == [Document("rows.jsonl:1", "rows.jsonl", "one", "text")]
    with pytest.raises(DataError, match="are not read"):
        open_place(f"{server.address}/picture.png", tmp_path)


def test_the_cache_is_where_caches_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ingot"
