"""A client of the reader without a server; every answer it gets has to be one that OpenAPI promises."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from pydantic import SecretStr

from pipeline.calculations import Calculation
from pipeline.settings import HttpSettings, Settings
from sink.http_app import make_app
from tests.files import Files

CALCULATION = Calculation(label="orders", match="orders*.csv", id="order_id", outputs={"total": "quantity"})


def settings(
    *,
    token: str | None = None,
    read_token: str | None = None,
    cors: tuple[str, ...] = (),
    watchers: int = 1000,
    **more: Any,
) -> Settings:
    """Settings with one calculation, for orders*.csv."""
    http = HttpSettings(
        token=None if token is None else SecretStr(token),
        read_token=None if read_token is None else SecretStr(read_token),
        cors=cors,
        watchers=watchers,
    )
    return Settings(http=http, calculations={"orders": CALCULATION.model_dump()}, **more)


class Client:
    """Sends requests to the app itself, and waits for each; for any thread."""

    def __init__(self, app: FastAPI, portal: BlockingPortal) -> None:
        self.app = app
        self._portal = portal
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://reader")

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request; the answer has been compared with what OpenAPI says."""
        answer = self._portal.call(partial(self._client.request, method, path, **more))
        _check(self.app, answer)
        return answer

    def call(self, function: Callable[[], object]) -> None:
        """Do something on the reader's event loop."""
        self._portal.call(function)

    def get(self, path: str, **more: Any) -> httpx.Response:
        """GET."""
        return self.request("GET", path, **more)

    def head(self, path: str, **more: Any) -> httpx.Response:
        """HEAD."""
        return self.request("HEAD", path, **more)

    def put(self, path: str, **more: Any) -> httpx.Response:
        """PUT."""
        return self.request("PUT", path, **more)


@contextmanager
def reader(files: Files, wanted: Settings | None = None) -> Iterator[Client]:
    """A client of a reader over these files."""
    with start_blocking_portal() as portal:
        yield Client(make_app(wanted or settings(), files.uploads, files.results), portal)


def _check(app: FastAPI, answer: httpx.Response) -> None:
    assert answer.headers["x-content-type-options"] == "nosniff"
    if answer.status_code >= 400:
        kinds = {"application/problem+json"}
        if re.match(r"/($|files/|static/)", answer.request.url.path):
            kinds |= {"text/html; charset=utf-8"}  # the pages say it to people
        assert answer.headers["content-type"] in kinds
        assert answer.headers["cache-control"] == "no-store"
    for route, methods in app.openapi()["paths"].items():
        pattern = re.escape(route).replace(r"\{name\}", ".+")
        if re.fullmatch(pattern, answer.request.url.path) and (
            operation := methods.get(answer.request.method.lower())
        ):
            promised = operation["responses"]
            assert str(answer.status_code) in promised, (
                f"{route} answers {answer.status_code}, promises {list(promised)}"
            )
            if answer.content and "content-type" in answer.headers:
                kinds = promised[str(answer.status_code)]["content"]
                assert answer.headers["content-type"].partition(";")[0] in kinds
            return
