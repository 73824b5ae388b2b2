"""A server that answers the chat page by a script: two models, and whatever a question asks for.

`slow` answers word by word for ten seconds, `refuse` is refused, `break` ends in the middle, `outgrown` is
too long while more than two messages come; anything else is answered by a fixed text.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ingot.serve.page_files import page_files

ANSWER = (("A ", 0.9), ("caf", 0.5), ("é", 0.25), (" in\n", 0.125), ("Rome", 0.01), (".", 1.0))
MODELS = [
    {"id": name, "object": "model", "context": 512, "parameters": 2_800_000} for name in ("first", "second")
]


class Script:
    """What came, and what is to be asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.models = MODELS
        self.key: str | None = None
        self.bodies: list[dict[str, Any]] = []
        self.left = threading.Event()  # a client went away in the middle of an answer


@contextlib.contextmanager
def scripted() -> Iterator[Script]:
    """Runs the server until the block ends."""
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            file = page_files().get(self.path.partition("?")[0])
            if file is not None:
                self.answer(200, file.content, file.kind)
            elif script.key and self.headers.get("authorization") != f"Bearer {script.key}":
                self.refuse(401, "the API key is missing or wrong", "invalid_api_key")
            else:
                self.answer(200, json.dumps({"data": script.models}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            script.bodies.append(body)
            question = body["messages"][-1]["content"]
            if question == "refuse":
                self.refuse(400, "the field 'seed' is no seed", "invalid_value")
            elif question == "outgrown" and len(body["messages"]) > 2:
                self.refuse(400, "600 tokens do not fit into 512", "context_length_exceeded")
            elif body.get("stream"):
                self.stream(question, body["model"])
            else:
                self.answer(200, json.dumps(whole(body["model"])).encode())

        def stream(self, question: str, model: str) -> None:
            self.head(200, "text/event-stream")
            tokens = (("word ", 0.5),) * 200 if question == "slow" else ANSWER
            try:
                for number, (text, share) in enumerate(tokens):
                    self.event({"delta": {"content": text}, "logprobs": logprobs([(text, share)])})
                    if question == "slow":
                        time.sleep(0.05)
                    if question == "break" and number == 2:
                        return
                self.event({"delta": {}, "finish_reason": "stop"})
                self.event(None)
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                script.left.set()

        def event(self, choice: dict[str, Any] | None) -> None:
            usage = {"prompt_tokens": 9, "completion_tokens": len(ANSWER), "total_tokens": 9 + len(ANSWER)}
            said = {"choices": [choice] if choice else [], "usage": None if choice else usage}
            self.wfile.write(f"data: {json.dumps(said)}\n\n".encode())
            self.wfile.flush()

        def refuse(self, status: int, message: str, code: str) -> None:
            self.answer(status, json.dumps({"error": {"message": message, "code": code}}).encode())

        def answer(self, status: int, content: bytes, kind: str = "application/json") -> None:
            self.head(status, kind)
            self.wfile.write(content)

        def head(self, status: int, kind: str) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()


def logprobs(tokens: list[tuple[str, float]]) -> dict[str, Any]:
    """Words tokens with their probabilities, each with one that might have stood there."""
    return {
        "content": [
            {
                "token": text,
                "logprob": math.log(share),
                "bytes": list(text.encode()),
                "top_logprobs": [
                    {"token": text, "logprob": math.log(share), "bytes": list(text.encode())},
                    {"token": "other", "logprob": math.log(max(1e-9, 1 - share)), "bytes": list(b"other")},
                ],
            }
            for text, share in tokens
        ]
    }


def whole(model: str) -> dict[str, Any]:
    """Words the fixed answer in one piece."""
    text = "".join(part for part, _ in ANSWER)
    choice = {"message": {"content": text}, "finish_reason": "stop", "logprobs": logprobs(list(ANSWER))}
    usage = {"prompt_tokens": 9, "completion_tokens": len(ANSWER), "total_tokens": 9 + len(ANSWER)}
    return {"model": model, "choices": [choice], "usage": usage}
