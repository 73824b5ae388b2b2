"""Requests that are broken as HTTP: heads, lengths, encodings, methods, paths, and bytes that are no HTTP."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator

from ingot.bench.attack_cases import CHAT, Case, encoded, plain
from ingot.bench.wire import Server


def kinds(server: Server, model: str, path: str) -> Iterator[Case]:
    """Yields good bodies under content types and encodings that they do not have."""
    good = encoded(plain(path, model))
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/xml",
        "",
    ):
        yield Case(f"content-type '{kind}'", path, good, {"Content-Type": kind})
    for kind in ("application/json; charset=utf-16", "a" * 5_000, "application/json\tapplication/xml", "é"):
        yield Case(f"content-type '{kind[:40]}'", path, good, {"Content-Type": kind})
    yield Case("no such encoding", path, good, {"Content-Encoding": "wizard"})
    yield Case("not gzip, said to be", path, good, {"Content-Encoding": "gzip"})
    bomb = gzip.compress(b" " * 50_000_000)
    sized = {"Content-Encoding": "gzip", "Content-Length": str(len(bomb))}
    yield Case("50 MB in 50 kB of gzip", path, bomb, sized, refuse=True, may_close=True)
    for name, value in (
        ("Authorization", "Bearer " + "x" * 10_000),
        ("Authorization", "Bearer ÿþ"),
        ("Authorization", "Basic :::"),
        ("Authorization", "Bearer"),
        ("Authorization", ""),
        ("X-Request-Id", "a" * 5_000),
        ("X-Request-Id", "a%0d%0aX-Evil: 1"),
        ("X-Request-Id", "ÿ\x01"),
        ("Accept", "text/html;q=wizard"),
        ("Origin", "http://evil.example"),
        ("Host", "evil.example"),
        ("Expect", "100-continue"),
        ("Expect", "wizard"),
        ("Connection", "upgrade"),
        ("Range", "bytes=0-0,-1"),
        ("Cookie", "a=b;" * 2_000),
        ("X-Forwarded-For", "127.0.0.1, " * 500),
        ("Forwarded", "for=_wizard;proto=file"),
    ):
        yield Case(f"{name}: {value[:32]!r}", path, good, {name: value}, may_close=True)


def heads(server: Server, model: str) -> Iterator[Case]:
    """Yields requests whose head is abused."""
    good = encoded(plain(CHAT, model))
    usual = server.request(CHAT, good).split(b"\r\n\r\n")[0].split(b"\r\n")
    line = usual[0]

    def broken(
        words: str, *extra: bytes, first: bytes = line, body: bytes = good, drop: bytes = b"\x00"
    ) -> Case:
        rest = [one for one in usual[1:] if not one.lower().startswith(drop)]
        raw = b"\r\n".join([first, *rest, *extra, b"", b""]) + body
        return Case(words, raw=raw, may_close=True)

    yield broken("a header of 100 kB", b"X-Long: " + b"a" * 100_000)
    yield broken("a header of 2 MB", b"X-Long: " + b"a" * 2_000_000)
    yield broken("a header's name of 100 kB", b"a" * 100_000 + b": 1")
    yield broken("2,000 headers", *(b"X-%d: 1" % number for number in range(2_000)))
    yield broken("a header without a colon", b"wizard")
    yield broken("a NUL in a header", b"X-A: a\x00b")
    yield broken("a NUL in a header's name", b"X\x00A: a")
    yield broken("a folded header", b"X-A: a\r\n b")
    yield broken("a space before the colon", b"X-A : a")
    yield broken("a header without a name", b": a")
    yield broken("two lengths", b"Content-Length: 5")
    length = b"content-length"
    for value in (b"-1", b"+5", b"0x10", b"1e3", b"wizard", b"", b"9" * 30, b"5, 5", b"0", b"1 1"):
        yield broken(f"content-length {value.decode()!r}", b"Content-Length: " + value, drop=length)
    yield broken("no length", drop=length)
    yield broken("a length and chunks", b"Transfer-Encoding: chunked")
    chunked = b"Transfer-Encoding: chunked"
    for body in (
        b"wizard\r\n",
        b"-1\r\n\r\n",
        b"FFFFFFFFFFFFFFFFFF\r\na",
        b"5\r\nabc\r\n0\r\n\r\n",
        b"5;" + b"a" * 100_000,
    ):
        yield broken(f"chunks {body[:20]!r}", chunked, drop=length, body=body)
    yield broken("a transfer-encoding of none", b"Transfer-Encoding: wizard")
    yield broken("chunks twice", chunked, chunked, drop=length, body=b"0\r\n\r\n")
    yield broken("no host", drop=b"host")
    yield broken("two hosts", b"Host: evil.example")
    yield broken("an upgrade", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 99")
    yield broken("an upgrade to HTTP/2", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")
    target = line.split(b" ")[1]
    for method in (
        b"GET",
        b"DELETE",
        b"PUT",
        b"TRACE",
        b"OPTIONS",
        b"HEAD",
        b"PATCH",
        b"CONNECT",
        b"WIZARD",
        b"post",
    ):
        yield broken(f"method {method.decode()}", first=method + b" " + target + b" HTTP/1.1")
    yield broken("a method of 10 kB", first=b"A" * 10_000 + b" / HTTP/1.1")
    for version in (b"HTTP/9.9", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.1.1", b"wizard", b""):
        yield broken(f"version {version.decode()!r}", first=b"POST " + target + b" " + version)
    for path in _PATHS:
        yield broken(f"path {path[:30]!r}", first=b"GET " + path + b" HTTP/1.1", drop=length, body=b"")


_PATHS = (
    b"/../../../../etc/passwd",
    b"/%2e%2e/%2e%2e/etc/passwd",
    b"/static/..%5c..%5cboot.ini",
    b"/v1/models/..%2f..%2f..%2fetc%2fpasswd",
    b"/v1/models/%00",
    b"/v1/models/%ff%fe",
    b"/v1/models/" + b"a" * 5_000,
    b"/" + b"a" * 100_000,
    b"/v1/models/%",
    b"/%zz",
    b"//evil.example/v1/models",
    b"http://evil.example/v1/models",
    b"/v1//models",
    b"/v1/models?" + b"a=1&" * 2_000,
    b"/v1/models#a",
    b"/\xff\xfe",
    b"/a\x00b",
    b"*",
    b"",
    b"/v1/chat/completions/",
    b"/docs/../v1/models",
)


def garbage(server: Server, model: str, seed: int, count: int) -> Iterator[Case]:
    """Yields bytes that are no HTTP, and pipelines that go wrong halfway."""
    chance = random.Random(f"{seed} garbage")
    for _ in range(count):
        raw = chance.randbytes(chance.choice((1, 16, 300, 5_000, 70_000)))
        yield Case(f"noise {raw[:12]!r}", raw=raw + b"\r\n\r\n", may_close=True)
    fixed = (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 300,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        b"\r\n" * 5_000,
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1 HTTP/1.1\r\n\r\n",
        b"\x00" * 10_000,
        b"SSH-2.0-wizard\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    )
    for raw in fixed:
        yield Case(f"no HTTP: {raw[:20]!r}", raw=raw, may_close=True)
    good = server.request(CHAT, encoded(plain(CHAT, model)), headers={"Connection": "keep-alive"})
    small = server.request("/v1/models", headers={"Connection": "keep-alive"})
    yield Case("a pipeline of 100", raw=small * 100)
    yield Case("a pipeline of 20 that write", raw=good * 20)
    yield Case("a request, then noise", raw=good + chance.randbytes(3_000))
    yield Case("a request smuggled behind another", raw=small + b"GET /v1/models HTTP/1.1\r\nX: " + good)
    yield Case("a request and a half", raw=good + good[: len(good) // 2])
