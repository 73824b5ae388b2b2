"""The attack: it finds planted faults, passes a sound server, and ours stands it."""

import http.client
import io
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import CHAT, Behaviour, Handler, fake
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.bench.attack import attack
from ingot.bench.attack_cases import COMPLETION, LONGEST, deep, mutated, plain, strange
from ingot.bench.attack_fields import numbers, wrong
from ingot.bench.attack_report import AttackConfig, Group, Report
from ingot.bench.wire import BrokenAnswer, Dropped, Head, Server, pieces, read_head
from ingot.errors import ConfigError, ResourceError
from ingot.progress import Progress

TINY = AttackConfig(
    mutants=10,
    every=23,
    megabytes=2,
    noise=2,
    disconnects=10,
    together=5,
    held=3,
    held_seconds=0.5,
    examples=1,
    deadline=60,  # only tests that wait for it make it short
    strict=True,
)


def attacked(behaviour: Behaviour | None = None, pid: int | None = None, **changes: object) -> Report:
    with fake(behaviour) as url:
        config = TINY.model_copy(update=changes)
        return attack(Server.at(url), config, Progress(), pid=pid)


def told(report: Report) -> dict[str, list[str]]:
    """Returns faults and remarks of the groups that have some."""
    groups = [one for one in report.groups if one.name != "own document"]  # the fake has none
    return {one.name: one.faults + sorted(one.remarks) for one in groups if one.faults or one.remarks}


HELD = [f"a {part} that dribbles is still open after 0.5 s" for part in ("body", "head")]
"""What every server lets pass for half a second."""


def group(report: Report, name: str) -> Group:
    return next(one for one in report.groups if one.name == name)


def test_a_sound_server_passes_even_a_strict_attack() -> None:
    report = attacked()
    assert report.paths == [CHAT]
    assert told(report) == {"slow clients": HELD}
    assert report.passed()
    assert len(report.groups) == 14
    assert all(one.sent > 0 for one in report.groups if one.name != "own document")
    assert "left out" in group(report, "own document").remarks[0]


class Raises(Behaviour):
    """Fails inside where the text is no UTF-8."""

    def before(self, handler: Handler, body: bytes) -> bool:
        try:
            body.decode()
        except UnicodeDecodeError:
            handler.reply(500, {"error": {"message": "internal"}})
            return False
        return True


def test_an_error_of_the_server_is_found_and_named() -> None:
    report = attacked(Raises(), every=1, mutants=0)
    assert not report.passed()
    found = group(report, "strange text")
    assert found.outcomes["5xx"] >= 6
    assert any("bad UTF-8" in words and words.endswith("500") for words in found.faults)
    assert group(report, "wrong types").passed(strict=False)


class Hangs(Behaviour):
    """Never answers what holds a number that is none."""

    def before(self, handler: Handler, body: bytes) -> bool:
        if b"NaN" in body:
            handler.rfile.read(1)  # until the client leaves
            return False
        return True


def test_a_server_that_hangs_is_found() -> None:
    report = attacked(Hangs(), every=11, deadline=2)
    assert not report.passed()
    assert group(report, "numbers").outcomes["hung"] > 0
    assert any("no answer within 2 s" in words for words in group(report, "numbers").faults)
    assert group(report, "numbers").alive


class Leaks(Behaviour):
    """Keeps the place of every stream whose client has left; it has five."""

    lost = 0

    def before(self, handler: Handler, body: bytes) -> bool:
        if self.lost >= 5:
            handler.rfile.read(1)
            return False
        if b'"stream": true' in body and b'"max_tokens": 64' in body:
            with self.lock:
                self.lost += 1
        return True


def test_places_that_are_never_freed_are_found_and_the_rest_is_left_out() -> None:
    report = attacked(Leaks(), disconnects=60, deadline=3)
    assert not report.passed()
    assert report.groups[-1].name == "disconnects"
    assert not report.groups[-1].alive
    assert len(report.groups) == 12


class Grows(Behaviour):
    """Keeps half a mebibyte of each request."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[bytes] = []

    def before(self, handler: Handler, body: bytes) -> bool:
        self.kept.append(os.urandom(2**19))
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="another process's memory is read from /proc")
def test_growing_memory_is_found_in_the_second_round() -> None:
    behaviour = Grows()
    report = attacked(behaviour, pid=os.getpid(), rounds=2, memory_mib=20, strict=False)
    kept = len(behaviour.kept) / 2
    assert report.growth_mib is not None
    assert 20 < report.growth_mib < kept  # the first round is no growth
    assert not report.passed()
    assert all(one.passed(strict=False) for one in report.groups)
    assert report.groups[14].name.startswith("2: ")


class Careless(Behaviour):
    """Takes anything that is JSON."""

    def before(self, handler: Handler, body: bytes) -> bool:
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            return True
        if isinstance(asked, dict):
            handler.reply(200, {})
        return not isinstance(asked, dict)


def test_a_lenient_server_passes_unless_the_attack_is_strict() -> None:
    report = attacked(Careless(), every=5, strict=False)
    sound = [one for one in report.groups if one.name in ("wrong types", "numbers")]
    assert all(one.passed(strict=False) and not one.passed(strict=True) for one in sound)
    assert any("temperature" in words for one in sound for words in one.remarks)


class NoNumber(Behaviour):
    """Answers text with lone surrogates by `NaN`, which is no JSON."""

    def before(self, handler: Handler, body: bytes) -> bool:
        if b"\\u0000" in body:
            handler.reply(200, {"logprob": float("nan")})
            return False
        return True


def test_an_answer_that_is_no_json_is_found() -> None:
    report = attacked(NoNumber(), every=1, mutants=0)
    assert any("no JSON" in words for words in group(report, "strange text").faults)
    assert not report.passed()


def test_overload_is_lawful_and_other_unavailability_is_not() -> None:
    found = Group("a", alive=True)
    found.count("answered", Head(503, {"retry-after": "1"}), "full")
    assert found.passed(strict=True)
    found.count("answered", Head(503, {}), "broken")
    assert not found.passed(strict=False)
    assert found.faults == ["broken: 503"]


def test_no_server_and_a_wrong_url_are_told() -> None:
    with pytest.raises(ResourceError, match="no server answers"):
        attack(Server.at("http://127.0.0.1:9"), TINY, Progress())
    for url in ("localhost:8000", "ftp://a", "http://", "http://a:port"):
        with pytest.raises(ConfigError, match="URL"):
            Server.at(url)
    with pytest.raises(ConfigError, match="header"):
        Server.at("http://a", key="a\r\nb")
    with fake() as url, pytest.raises(ResourceError, match="process"):
        attack(Server.at(url), TINY, Progress(), pid=2**22 + 1)


def test_a_url_may_end_in_v1_and_the_key_stays_hidden() -> None:
    server = Server.at("https://example.org/api/v1/", key="secret")
    assert (server.host, server.port, server.path, server.secure) == ("example.org", 443, "/api", True)
    assert b"POST /api/v1/x HTTP/1.1\r\n" in server.request("/v1/x", b"{}")
    assert b"Authorization: Bearer secret\r\n" in server.request("/v1/x")
    assert "secret" not in repr(server)


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_mutants_repeat_by_seed_and_never_ask_for_long_answers(path: str) -> None:
    first, again = (list(mutated(path, "fake", 300, seed=3)) for _ in range(2))
    assert first == again
    assert first != list(mutated(path, "fake", 300, seed=4))
    read = []
    for case in first:
        try:
            read.append(json.loads(case.body))
        except ValueError:
            continue
    asked = [one["max_tokens"] for one in read if isinstance(one, dict)]
    assert asked
    assert all(not isinstance(one, int | float) or one <= LONGEST for one in asked)
    assert 50 < len({case.body for case in first if case.body not in (b"",)}) <= 300


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_what_must_be_refused_is_wrong_indeed(path: str) -> None:
    """The fake's own strict reading, or a strict JSON parser, refuses each such case."""
    behaviour, good = Behaviour(), plain(path, "fake")
    for case in (*wrong(path, "fake"), *numbers(path, "fake"), *strange(path, "fake"), *deep(path, "fake")):
        if not case.refuse:
            continue
        try:
            asked = json.loads(case.body.decode(), parse_constant=lambda name: 1 / 0)
        except (ValueError, RecursionError, ArithmeticError):
            continue
        if path == COMPLETION and isinstance(asked, dict):
            if asked.get("prompt", good["prompt"]) != good["prompt"]:
                continue  # the fake knows no prompts
            asked = {key: value for key, value in asked.items() if key != "prompt"}
            asked["messages"] = [{"role": "user", "content": "a"}]
        assert behaviour.refusal(asked) is not None, case.words


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=50), max_size=6), st.sampled_from(["chunks", "length", "close"])
)
def test_answers_are_read_as_the_standard_library_reads_them(parts: list[bytes], how: str) -> None:
    body = b"".join(parts)
    if how == "chunks":
        head = b"Transfer-Encoding: chunked\r\n"
        raw = b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        head = b"" if how == "close" else b"Content-Length: %d\r\n" % len(body)
        raw = body
    whole = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 418 I'm a teapot\r\nX-A: b: c\r\n" + head + b"\r\n" + raw

    class Wire:
        def makefile(self, mode: str) -> io.BytesIO:
            return io.BytesIO(whole)

    theirs = http.client.HTTPResponse(Wire())  # type: ignore[arg-type]
    theirs.begin()
    ours = read(whole)
    assert ours == (theirs.status, theirs.headers["x-a"], theirs.read()) == (418, "b: c", body)
    cut = random.Random(len(whole)).randrange(len(whole) - len(raw), len(whole)) if raw else 0
    if how != "close" and cut:
        with pytest.raises(BrokenAnswer):
            read(whole[:cut])


def read(raw: bytes) -> tuple[int, str, bytes]:
    import asyncio

    async def reading() -> tuple[int, str, bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(raw)
        reader.feed_eof()
        head = await read_head(reader)
        return head.status, head.headers["x-a"], b"".join([one async for one in pieces(reader, head)])

    return asyncio.run(reading())


@pytest.mark.parametrize("raw", [b"wizard\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200", b"\x00" * 50])
def test_what_is_no_answer_is_told(raw: bytes) -> None:
    with pytest.raises(BrokenAnswer):
        read(raw)


def test_silence_is_told_from_a_broken_answer() -> None:
    with pytest.raises(Dropped):
        read(b"")


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """`ingot serve` over a tiny random model, as a process of its own: URL and process id."""
    from ingot.models import huggingface
    from ingot.models.decoder import DecoderConfig
    from ingot.tokenizer import Tokenizer

    folder = tmp_path / "aligned@1"
    folder.mkdir()
    tokenizer = Tokenizer.train(
        ["Hello, how are you? def add(a, b):\n    return a + b\n" * 20], vocabulary=300
    )
    tokenizer.save(folder)
    sizes = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "head_width": 8, "feed_forward": 64}
    model = DecoderConfig(vocabulary=tokenizer.vocab_size, context=256, **sizes).build(seed=0)
    huggingface.save(folder, model)
    command = [sys.executable, "-m", "ingot", "serve", str(folder), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    log = tmp_path / "log"
    with (
        open(log, "wb") as file,
        subprocess.Popen(command, stdout=file, stderr=file, env=environment) as process,
    ):
        try:
            yield _url(log, process), process.pid
        finally:
            process.terminate()
            process.wait(timeout=300)


def _url(log: Path, process: subprocess.Popen) -> str:
    import time

    for _ in range(1_200):
        if (
            found := re.search(r"http://[\d.]+:\d+", log.read_text(errors="replace"))
        ) and process.poll() is None:
            return found[0]
        assert process.poll() is None, log.read_text(errors="replace")
        time.sleep(0.05)
    raise AssertionError(log.read_text(errors="replace"))


@pytest.mark.parametrize(
    "size",
    [{"every": 40}, pytest.param({"every": 5, "mutants": 50, "disconnects": 40}, marks=pytest.mark.slow)],
)
def test_our_server_stands_a_strict_attack(ours: tuple[str, int], size: dict[str, int]) -> None:
    url, pid = ours
    config = TINY.model_copy(update={"deadline": 30, **size})
    report = attack(Server.at(url), config, Progress(), pid=pid if sys.platform == "linux" else None)
    assert told(report) == {"slow clients": HELD}
    assert report.passed()
    assert {CHAT, COMPLETION} <= set(report.paths)
    assert min(one.sent for one in report.groups) > 0


def test_the_command_ends_with_one_where_the_server_does_not_stand_it() -> None:
    with fake(Raises()) as url:
        command = [
            sys.executable,
            "-m",
            "ingot",
            "bench",
            "attack",
            url + "/v1",
            "--quick",
            "--deadline",
            "2",
        ]
        done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=300)
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["passed"] is False
    assert sum(one["5xx"] for one in report["groups"]) > 0
    assert report["machine"]
