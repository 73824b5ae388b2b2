"""A small server of OpenAI's interface for tests, in a thread, with faults planted on purpose.

It shares no code with the product: requests are read by Python's own `http.server`.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

CHAT = "/v1/chat/completions"


class Behaviour:
    """What the server does; a sound server when nothing is said. Tests override single methods."""

    tokens = 4
    first_seconds = 0.0
    gap_seconds = 0.0
    counts_tokens = True

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seen = 0
        self.active = 0
        self.most_active = 0

    def before(self, handler: "Handler", body: bytes) -> bool:
        """Called with every body; whether to go on to the ordinary answer."""
        return True

    def refusal(self, asked: Any) -> str | None:
        """Returns why a request is refused, or None."""
        if not isinstance(asked, dict) or asked.get("model") != "fake":
            return "no such model"
        messages = asked.get("messages")
        if not isinstance(messages, list) or not messages or len(messages) > 1000:
            return "'messages' is no list"
        for one in messages:
            known = isinstance(one, dict) and one.get("role") in ("user", "system", "assistant")
            if not known or not isinstance(one.get("content"), str) or len(one["content"]) > 10_000:
                return "a message is none"
        allowed = {"model", "messages", "max_tokens", "temperature", "stream", "stream_options"}
        allowed |= {"top_p", "n", "stop", "seed"}
        if set(asked) - allowed:
            return "an unknown field"
        limits = {"max_tokens": (1, 1e6), "n": (1, 8), "temperature": (0, 2), "top_p": (0, 1)}
        for name, (low, high) in limits.items():
            value = asked.get(name, low)
            wanted = (int,) if name in ("max_tokens", "n") else (int, float)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, wanted) or not low <= value <= high:
                return f"'{name}' is out of range"
        if not isinstance(asked.get("stream"), bool | None):
            return "'stream' is no flag"
        stop = [] if asked.get("stop") is None else asked["stop"]
        if not isinstance(stop, str | list) or not all(isinstance(one, str) for one in stop):
            return "'stop' is no text"
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: ClassVar[Behaviour]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path in ("/v1/models", "/health"):
            self.reply(200, {"data": [{"id": "fake"}]})
        else:
            self.reply(404, {"error": {"message": "no such path"}})

    def do_POST(self) -> None:
        behaviour = self.behaviour
        with behaviour.lock:
            behaviour.seen += 1
        self.post()

    def post(self) -> None:
        try:
            length = int(self.headers.get("content-length", "0"))
            if length < 0:
                raise ValueError
        except ValueError:
            return self.reply(400, {"error": {"message": "no such length"}})
        if self.headers.get("transfer-encoding"):
            return self.reply(411, {"error": {"message": "give a length"}})
        if length > 10**6:
            return self.reply(413, {"error": {"message": "too large"}})
        body = self.rfile.read(length)
        if self.path != CHAT:
            return self.reply(404, {"error": {"message": "no such path"}})
        if not self.behaviour.before(self, body):
            return None
        try:
            asked = json.loads(body.decode(), parse_constant=lambda name: 1 / 0)
            json.dumps(asked).encode()
        except (ValueError, RecursionError, ArithmeticError):
            return self.reply(400, {"error": {"message": "no JSON"}})
        if (why := self.behaviour.refusal(asked)) is not None:
            return self.reply(400, {"error": {"message": why}})
        time.sleep(self.behaviour.first_seconds)
        if not asked.get("stream"):
            return self.reply(200, {"choices": [{"message": {"role": "assistant", "content": "ab"}}]})
        return self.stream(asked)

    def stream(self, asked: dict[str, Any]) -> None:
        behaviour = self.behaviour
        with behaviour.lock:
            behaviour.active += 1
            behaviour.most_active = max(behaviour.most_active, behaviour.active)
        try:
            self.pieces(asked)
        finally:
            with behaviour.lock:
                behaviour.active -= 1
        self.chunk(b"data: [DONE]\n\n")  # after which the client may be back at once
        self.chunk(b"")

    def pieces(self, asked: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        count = min(self.behaviour.tokens, asked.get("max_tokens") or 1)
        for number in range(count):
            if number:
                time.sleep(self.behaviour.gap_seconds)
            self.event({"choices": [{"delta": {"content": "x"}}]})
        words = sum(len(one["content"].split()) for one in asked["messages"])
        if asked.get("stream_options") and self.behaviour.counts_tokens:
            usage = {"prompt_tokens": 2 * words + 10, "completion_tokens": count}
            self.event({"choices": [], "usage": usage})

    def event(self, values: dict[str, Any]) -> None:
        self.chunk(b"data: " + json.dumps(values).encode() + b"\n\n")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n" % len(data) + data + b"\r\n")
        self.wfile.flush()

    def reply(self, status: int, values: Any) -> None:
        data = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if status >= 400:
            self.close_connection = True
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, *_: Any) -> None:
        pass  # clients that leave are what these tests are about


@contextlib.contextmanager
def fake(behaviour: Behaviour | None = None) -> Iterator[str]:
    """Serves until the block ends; gives the URL."""
    handler = type("Bound", (Handler,), {"behaviour": behaviour or Behaviour()})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
