"""The HTTP reader: its routes put together. `make_app` needs two object stores and settings, and no server."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi

from pipeline.jobs import Receipt
from pipeline.picture import Picture
from pipeline.settings import Settings
from pipeline.store import ObjectStore
from sink import (
    http_health,
    http_jobs,
    http_live,
    http_pages,
    http_problems,
    http_results,
    http_try,
    http_uploads,
    http_withdraw,
)
from sink.http_headers import EXPOSED
from sink.http_meter import Meter
from sink.http_reader import Reader

_PARTS = (http_results, http_uploads, http_jobs, http_live, http_try, http_health, http_pages, http_withdraw)
"""In the order in which they are shown: what most come for is first, what takes something away is last."""


def make_app(
    settings: Settings,
    uploads: ObjectStore,
    results: ObjectStore,
    reload: Callable[[], Settings | None] = lambda: None,
    trial: http_try.Trial | None = None,
    picture: Picture | None = None,
) -> FastAPI:
    """Return the reader over two buckets; `app.state.reader` is what its routes share.

    `reload` returns the settings where they have changed since it was last asked; `trial` runs what `/try` asks for;
    `picture` is what the stages tell of what runs.
    """
    app = FastAPI(
        title="Millstream",
        version=_version(),
        summary="Drop a CSV, fetch the computed CSV",
        docs_url=None,  # FastAPI's page loads its parts from a CDN; ours is in http_pages
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.reader = reader = Reader(settings, uploads, results, reload, picture=picture or Picture())
    app.state.live = http_live.Live(reader.picture, reader.catalogue, reader.settings_trouble)
    app.state.trial = trial
    routers = [part.router for part in _PARTS]
    for router in routers:
        app.include_router(router)
    http_problems.install(app, [route for router in routers for route in router.routes])
    if settings.http.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.http.cors,
            allow_methods=["GET", "HEAD", "PUT", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )
    app.add_middleware(Meter)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Describe the routes, with problems as they are in place of FastAPI's own errors."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        schemas = found["components"]["schemas"]
        for model in (http_problems.Problem, Receipt):
            schema = model.model_json_schema(
                mode="serialization", ref_template="#/components/schemas/{model}"
            )
            schemas |= schema.pop("$defs", {})
            schemas[model.__name__] = schema
        app.openapi_schema = found
    return app.openapi_schema


def _version() -> str:
    try:
        return version("millstream")
    except PackageNotFoundError:
        return "0"
