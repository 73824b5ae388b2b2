"""Servers that run in a thread of the test's own process, on a free port."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fastapi import FastAPI

from ingot.inference.request import Request
from ingot.serve.app import create_app
from ingot.serve.keys import Keys
from ingot.serve.life import Life
from ingot.serve.limits import Limits
from ingot.serve.listen import listen, make_server, url_of
from ingot.serve.metrics import Metrics
from ingot.serve.models import Models
from ingot.serve.prompt_log import PromptLog
from ingot.serve.routing import Routing
from ingot.serve.serving import AdapterSource, Source, fill


class Running:
    """A server, its models, and the worker of the first."""

    def __init__(self, url: str, app: FastAPI) -> None:
        models: Models = app.state.models
        self.url = url
        self.routes = list(app.routes)
        self.models = models
        self.life: Life = app.state.life
        assert models.first.ingot is not None
        self.ingot = models.first.ingot
        self.worker = models.first.worker


@contextlib.contextmanager
def running(
    folder: Path,
    limits: Limits | None = None,
    key: str | None = None,
    *,
    keys: Keys | None = None,
    others: Sequence[Source] = (),
    adapters: Sequence[AdapterSource] = (),
    routing: Routing | None = None,
    prompts: Path | None = None,
) -> Iterator[Running]:
    """Serves a model folder, and others, until the block ends."""
    limits, life, metrics = limits or Limits(drain_seconds=2), Life(), Metrics()
    models = Models(routing, None if prompts is None else PromptLog(prompts))
    keys = keys or Keys({} if key is None else {key: "tester"})
    with listen("127.0.0.1", 0) as socket:
        fill(models, metrics, [Source(folder), *others], adapters, limits, routing)
        app = create_app(models, metrics=metrics, limits=limits, keys=keys, life=life, local=True)
        server = make_server(app, limits, life)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        until(lambda: server.started)
        try:
            yield Running(url_of(socket, "127.0.0.1"), app)
        finally:
            server.should_exit = True
            thread.join(timeout=60)


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def slow_down(server: Running, seconds: float = 0.02) -> None:
    """Makes every step of the engine take a while, as a larger model would."""
    step = server.ingot.engine.step

    def slow() -> list[Request]:
        time.sleep(seconds)
        return step()

    server.ingot.engine.step = slow  # type: ignore[method-assign]
