"""Servers that run in a thread of the test's own process, on a free port."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from ingot.inference.ingot import Ingot, load
from ingot.serve.app import create_app
from ingot.serve.limits import Limits
from ingot.serve.listen import listen, url_of
from ingot.serve.worker import Worker


class Running:
    """A server, its model, and the worker between them."""

    def __init__(self, url: str, ingot: Ingot, worker: Worker) -> None:
        self.url = url
        self.ingot = ingot
        self.worker = worker


@contextlib.contextmanager
def running(folder: Path, limits: Limits | None = None, key: str | None = None) -> Iterator[Running]:
    """Serves a model folder until the block ends."""
    with listen("127.0.0.1", 0) as socket:
        ingot = load(folder)
        app = create_app(ingot, limits=limits, key=key, local=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        until(lambda: server.started)
        try:
            yield Running(url_of(socket, "127.0.0.1"), ingot, app.state.worker)
        finally:
            server.should_exit = True
            thread.join(timeout=20)


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
