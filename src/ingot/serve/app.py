"""The server: OpenAI's routes over one model, and a chat page at `/`."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from ingot.errors import IngotError
from ingot.inference.ingot import Ingot, load
from ingot.inference.locate import locate
from ingot.serve.limits import Guard, Limits
from ingot.serve.listen import LOOPBACK, listen, run, url_of
from ingot.serve.protocol import ApiError
from ingot.serve.routes import routes
from ingot.serve.worker import Worker

log = logging.getLogger("ingot.serve")

KEY_VARIABLE = "INGOT_API_KEY"
"""Environment variable that holds the key which clients must send; unset asks for none."""

PAGE = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/app.js": ("app.js", "text/javascript"),
    "/text.js": ("text.js", "text/javascript"),
}


def serve(
    folder: Path | str,
    model: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serves a model until it is told to end (Ctrl-C or SIGTERM).

    Args:
        folder: a run folder or a model folder.
        model: which model of a run folder; None takes the best one.
        host: address to listen on.
        port: 0 takes a free one.
        device: where to compute; None takes CUDA where there is one.
        say: told the address, and what is worth knowing about it.

    Raises:
        ArtifactError: nothing there that can be served.
        BusyError: the port is in use.
        RequestError: an address that cannot be listened on.
    """
    path = locate(folder, model)
    key = os.environ.get(KEY_VARIABLE) or None
    with listen(host, port) as socket:
        ingot = load(path, device=device)
        local = host in LOOPBACK
        app = create_app(ingot, key=key, local=local)
        url = url_of(socket, host)
        say(f"serving {ingot.name}: chat at {url}, OpenAI's API at {url}/v1 (Ctrl-C ends it)")
        if not local and key is None:
            say(f"anyone who reaches this machine can use it: set {KEY_VARIABLE} to ask for a key")
        run(app, socket)


def create_app(
    ingot: Ingot, limits: Limits | None = None, key: str | None = None, local: bool = False
) -> FastAPI:
    """Builds the application around a loaded model, whose engine it takes over.

    Args:
        ingot: the model.
        limits: how much to take on.
        key: that clients must send; None asks for none.
        local: whether it will listen on loopback only, and should insist on being called by that name.
    """
    limits = limits or Limits()
    worker = Worker(ingot.engine, ingot.stop_ids, limits.waiting)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        worker.stop()

    app = FastAPI(title="ingot", lifespan=lifespan, openapi_url=None)
    app.state.worker = worker
    app.add_middleware(Guard, key=key, local=local)
    app.include_router(routes(ingot, worker, limits))
    for path, (file, kind) in PAGE.items():
        content = resources.files("ingot.serve").joinpath("page", file).read_bytes()
        app.add_api_route(path, _page(content, kind), include_in_schema=False)
    app.add_exception_handler(ApiError, _refuse)
    app.add_exception_handler(IngotError, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(Exception, _fail)
    return app


def _page(content: bytes, kind: str) -> Callable[[], Response]:
    """A route that answers with one file of the chat page."""

    def page() -> Response:
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    return page


async def _refuse(request: Request, error: Exception) -> Response:
    """Words a refusal in OpenAI's shape."""
    if isinstance(error, HTTPException):
        what = f"{request.method} {request.url.path}: {error.detail}"
        error = ApiError(error.status_code, what, code="not_found", headers=error.headers)
    elif not isinstance(error, ApiError):
        error = ApiError(400, str(error), code="invalid_value")
    return JSONResponse(error.body, error.status, error.headers)


async def _fail(request: Request, error: Exception) -> Response:
    """A mistake of ours: the log gets the traceback, the client a plain word."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse(ApiError(500, "the server failed at this request").body, 500)
