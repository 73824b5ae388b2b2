"""The application: OpenAI's routes over one or several models, a chat page at `/`, probes and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from ingot.errors import IngotError
from ingot.serve.guard import Guard
from ingot.serve.keys import Keys
from ingot.serve.life import Life
from ingot.serve.limits import Limits
from ingot.serve.metrics import CONTENT_TYPE, Metrics
from ingot.serve.models import Models
from ingot.serve.page_files import page_files
from ingot.serve.protocol import ApiError
from ingot.serve.routes import routes
from ingot.serve.visits import LONGEST


def create_app(
    models: Models,
    *,
    metrics: Metrics,
    limits: Limits | None = None,
    keys: Keys | None = None,
    life: Life | None = None,
    load: Callable[[], None] | None = None,
    local: bool = False,
) -> FastAPI:
    """Builds the application.

    Args:
        models: what answers; their engines are taken over.
        metrics: that the models report to.
        limits: how much to take on.
        keys: who may ask; None lets everyone in.
        life: what the server is at; None makes one that never ends.
        load: fills `models`; called in a thread when the server is up, which says until then that it is
            starting. None where they are filled.
        local: whether it will listen on loopback only, and should insist on being called by that name.
    """
    limits, keys, life = limits or Limits(), keys or Keys(), life or Life()
    life.on_deadline = lambda: models.fail(ApiError(503, "the server is ending", code="draining"))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if load is None:
            models.start()
            life.begin()
        else:
            life.load(load, models.start)
        yield
        models.stop()

    app = FastAPI(title="ingot", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.models, app.state.life, app.state.metrics = models, life, metrics
    app.add_middleware(Guard, keys=keys, life=life, metrics=metrics, local=local)
    app.include_router(_own_routes(models, life, metrics))
    app.include_router(routes(models, limits))
    for path, file in page_files().items():
        app.add_api_route(path, _page(file.content, file.kind), include_in_schema=False)
    app.add_exception_handler(ApiError, _refuse)
    app.add_exception_handler(IngotError, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    return app


def _own_routes(models: Models, life: Life, metrics: Metrics) -> APIRouter:
    """Routes about the server itself."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> dict[str, Any]:
        """The process is well, whatever it is at."""
        workers = [loaded.worker for loaded in models.loaded.values()]
        return {
            "status": "ok",
            "state": life.state,
            "model": models.first.name if models.loaded else None,
            "answers": sum(worker.taken for worker in workers),
            "capacity": sum(worker.capacity for worker in workers),
        }

    @router.get("/ready")
    async def ready() -> Response:
        """Whether requests should be sent here."""
        return JSONResponse({"status": life.state}, 200 if life.state == "ready" else 503)

    @router.get("/metrics")
    async def read_metrics() -> Response:
        """What Prometheus reads."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @router.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """Everything that can be asked for."""
        return {"object": "list", "data": models.cards()}

    @router.get("/v1/models/{wanted:path}")
    async def one_model(wanted: str) -> dict[str, Any]:
        """One of them."""
        return models.card(wanted)

    return router


def _page(content: bytes, kind: str) -> Callable[[], Response]:
    """A route that answers with one file of the chat page."""

    def page() -> Response:
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    return page


async def _refuse(request: Request, error: Exception) -> Response:
    """Words a refusal in OpenAI's shape."""
    if isinstance(error, HTTPException):
        what = f"{request.method[:LONGEST]} {request.url.path[:LONGEST]}: {error.detail}"
        error = ApiError(error.status_code, what, code="not_found", headers=error.headers)
    elif not isinstance(error, ApiError):
        error = ApiError(400, str(error)[:1000], code="invalid_value")
    return JSONResponse(error.body, error.status, error.headers)
