"""What an attack sends: well-formed HTTP around bodies that are wrong, enormous or strange."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"
LONGEST = 32
"""Tokens that a mutated request may ask for: a long answer that takes long is no fault."""


@dataclass(frozen=True)
class Case:
    """One request.

    Args:
        words: what is wrong with it.
        path: where it goes.
        body: what is sent there.
        headers: in place of the usual ones.
        refuse: whether it must be answered with 4xx; else any answer below 500 will do.
        head_only: whether to leave when the answer begins, because it may lawfully be long.
        may_close: whether a server may close the connection in silence.
        raw: the whole request, in place of path, body and headers.
    """

    words: str
    path: str = CHAT
    body: bytes = b""
    headers: Mapping[str, str] | None = None
    refuse: bool = False
    head_only: bool = False
    may_close: bool = False
    raw: bytes | None = None


def plain(path: str, model: str) -> dict[str, Any]:
    """Returns a small request without a fault."""
    asked: dict[str, dict[str, Any]] = {
        CHAT: {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2},
        COMPLETION: {"prompt": "Hello", "max_tokens": 2},
        "/v1/responses": {"input": "Hello", "max_output_tokens": 16},
        "/v1/embeddings": {"input": "Hello"},
        "/v1/rerank": {"query": "Hello", "documents": ["Hello", "World"]},
        "/tokenize": {"prompt": "Hello"},
        "/detokenize": {"tokens": [1, 2, 3]},
    }
    return {"model": model, **asked[path]}


PATHS = (CHAT, COMPLETION, "/v1/responses", "/v1/embeddings", "/v1/rerank", "/tokenize", "/detokenize")
"""Where requests may go; those that a server does not have are left out."""


def encoded(values: Any) -> bytes:
    """Returns plain data as JSON; `NaN` and `Infinity` stand in it as they are, which no JSON allows."""
    return json.dumps(values).encode()


BITS: tuple[bytes, ...] = (
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"null",
)
BITS += (b"true", b"NaN", b"-Infinity", b"1e999", b"-1", b"0.5", b"\xef\xbb\xbf", b"/*", b"'", b"\\u0000")


def mutated(path: str, model: str, count: int, seed: int) -> Iterator[Case]:
    """Yields requests with some bytes changed, cut out, doubled or put in.

    Args:
        path: where they go.
        model: the name of a model.
        count: how many.
        seed: the same seed yields the same requests.
    """
    chance = random.Random(f"{seed} {path}")
    rich = plain(path, model)
    if path in (CHAT, COMPLETION):
        rich |= {"temperature": 0.7, "top_p": 0.9, "stop": ["\n\n", "Ü"], "n": 1, "seed": 1, "stream": False}
    whole = encoded(rich)
    made = 0
    while made < count:
        body = _changed(whole, chance)
        if not _long(body, path):
            made += 1
            yield Case(f"mutated: {body[:200]!r}", path, body)


def _changed(whole: bytes, chance: random.Random) -> bytes:
    body = bytearray(whole)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        place = chance.randrange(len(body) + 1)
        far = min(len(body), place + chance.randrange(1, 16))
        kind = chance.randrange(6)
        if kind == 0 and place < len(body):
            body[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del body[place:far]
        elif kind == 2:
            body[place:place] = body[place:far]
        elif kind == 3:
            body[place:far] = chance.choice(BITS)
        elif kind == 4:
            body[place:place] = chance.choice(BITS)
        elif kind == 5 and chance.random() < 0.3:
            del body[place:]
    return bytes(body)


def _long(body: bytes, path: str) -> bool:
    """Whether a body is understood, and asks for an answer of any length."""
    if path not in (CHAT, COMPLETION, "/v1/responses"):
        return False
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return False
    limit = "max_output_tokens" if path == "/v1/responses" else "max_tokens"
    if not isinstance(values, dict) or limit not in values:
        return isinstance(values, dict)
    asked = values[limit]
    return isinstance(asked, int | float) and asked > LONGEST


def deep(path: str, model: str) -> Iterator[Case]:
    """Yields bodies that go deeper than any parser's stack."""
    good = encoded(plain(path, model))[:-1]
    for levels in (100, 3_000, 100_000):
        for left, right in ((b"[", b"]"), (b'{"a":', b"}")):
            nest = left * levels + b"1" + right * levels
            name = f"{levels:,} deep {left.decode()}"
            yield Case(f"{name}: the body", path, nest, refuse=True)
            yield Case(f"{name}: never closed", path, left * levels, refuse=True)
            for field in ("messages", "prompt", "input", "stop", "logit_bias", "metadata"):
                yield Case(f"{name}: {field}", path, good + b',"%s":' % field.encode() + nest + b"}")
            schema = b',"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":'
            yield Case(f"{name}: a schema", path, good + schema + nest + b"}}}")
            tool = b',"tools":[{"type":"function","function":{"name":"a","parameters":'
            yield Case(f"{name}: a tool", path, good + tool + nest + b"}}]}")


def large(path: str, model: str, size: int) -> Iterator[Case]:
    """Yields bodies that hold too much; a server may read no further and close.

    Args:
        path: where they go.
        model: the name of a model.
        size: of each, about, in bytes.
    """
    good, count, much = plain(path, model), size // 50, f"{size / 10**6:g} MB"
    message = {"role": "user", "content": "a"}
    long: dict[str, dict[str, Any]] = {
        "a text of {}": {name: "word " * (size // 5) for name in ("prompt", "input", "query") if name in good}
        or {"messages": [{"role": "user", "content": "word " * (size // 5)}]},
        "a text of one letter, {}": {"prompt": "a" * size, "messages": [{**message, "content": "a" * size}]},
        "messages, {}": {"messages": [message] * count},
        "a list of prompts, {}": {"prompt": ["a"] * (size // 5), "input": ["a"] * (size // 5)},
        "token ids, {}": {"prompt": [1] * (size // 3), "input": [1] * (size // 3)},
        "a key of {}": {"k" * size: 1},
        "keys, {}": {f"key{number}": number for number in range(size // 20)},
        "a model's name of {}": {"model": "m" * size},
        "stop strings, {}": {"stop": [f"stop{number}" for number in range(size // 12)]},
        "one stop string of {}": {"stop": "s" * size},
        "logit_bias, {}": {"logit_bias": {str(number): 1 for number in range(size // 12)}},
        "tools, {}": {"tools": [{"type": "function", "function": {"name": "a"}}] * count},
        "a user's name of {}": {"user": "u" * size},
    }
    for words, change in long.items():
        kept = {
            key: value for key, value in change.items() if key in good or len(change) == 1 or key[:3] == "key"
        }
        if kept:
            body = encoded(good | kept)
            yield Case(words.format(much), path, body, may_close=True)
    yield Case(f"{much} of spaces", path, b" " * size + encoded(good), may_close=True)
    digits = b',"seed":' + b"9" * min(size, 200_000) + b"}"
    yield Case(
        "a seed of 200,000 digits", path, encoded(good)[:-1] + digits, refuse=path in (CHAT, COMPLETION)
    )


def strange(path: str, model: str) -> Iterator[Case]:
    """Yields text that is hard to read: broken UTF-8, lone surrogates, NUL, other encodings, doubled keys."""
    good = encoded(plain(path, model))
    broken: tuple[bytes, ...] = (
        b"\xff\xfe",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf5\x80\x80\x80",
        b"\xe2\x82",
        b"\x80" * 50,
    )
    for raw in broken:
        yield Case(
            f"bad UTF-8 {raw[:4]!r}", path, good.replace(b"Hello", raw).replace(b"[1,", raw), refuse=True
        )
    texts: tuple[bytes, ...] = (
        b"\\ud800",
        b"\\udfff\\ud800",
        b"\\u0000",
        b"a\\u0000b",
        b"\\uffff\\ufffe",
        "‮abc‬".encode(),
    )
    texts += (
        b"a" + "\u0301".encode() * 1_000,
        "👩‍👩‍👧‍👦".encode() * 50,
        b"<|endoftext|><|im_start|>system",
        b"{{ 7*7 }}",
    )
    texts += (
        b"%s%n%x",
        b"\\u202e\\u0007\\u001b[31m",
        b"",
        b" ",
        b"\\n" * 500,
        b"{% raw %}",
        b"'; DROP TABLE x;--",
    )
    for raw in texts:
        yield Case(f"text {raw[:24]!r}", path, good.replace(b"Hello", raw))
    for raw in (
        b"\\ud800",
        b"\\u0000",
        b"../../etc/passwd",
        b"a" * 10_000,
        "模型".encode(),
        b"\\r\\nX-Evil: 1",
    ):
        name = good.replace(json.dumps(model).encode(), b'"' + raw + b'"')
        yield Case(f"model {raw[:24]!r}", path, name)
        yield Case(f"field {raw[:24]!r}", path, good[:-1] + b',"' + raw + b'":1}')
    for encoding in ("utf-16", "utf-32", "utf-8-sig", "utf-7"):
        yield Case(f"a body in {encoding}", path, good.decode().encode(encoding))
    yield Case(
        "a raw NUL in a string",
        path,
        good.replace(b"Hello", b"a\x00b").replace(b"[1,", b"[\x00,"),
        refuse=True,
    )
    yield Case("doubled keys", path, good[:-1] + b"," + good[1:])
    for raw in (b"", b" ", b"null", b"true", b"1", b'"text"', b"[]", b"[[]]", b"{", b"{}{}", b"nul", b"\x00"):
        yield Case(f"the body {raw!r}", path, raw, refuse=True)
    yield Case("JSON and more", path, good + b"garbage", refuse=True)
    yield Case("a comment", path, good[:-1] + b"/* */}", refuse=True)
    yield Case("a trailing comma", path, good[:-1] + b",}", refuse=True)
