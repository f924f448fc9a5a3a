"""Errors as HTTP says them: problem details (RFC 9457), the same shape for every error of every route."""

import asyncio
import http
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.errors import (
    CalculationError,
    InputError,
    MillstreamError,
    NotFound,
    PreconditionFailed,
    Throttled,
    Transient,
    UsageError,
)

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER = 2
"""Seconds after which a client may ask again where S3 doesn't answer."""

_log = structlog.get_logger()


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it; other members tell more, such as `state` for a file that has no result."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str | None = None


class ProblemResponse(Response):
    """An error as it is sent."""

    media_type = MEDIA_TYPE


class Trouble(Exception):
    """Raised by a route to answer with a problem; `members` are added to it."""

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        """`detail` is a sentence for a person: what, where, what would be right."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members


def problem(
    request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any
) -> ProblemResponse:
    """Return the answer that tells of one problem; nothing may be cached of it."""
    body = Problem(
        title=http.HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        **members,
    )
    return ProblemResponse(
        body.model_dump_json(exclude_none=True), status, {"Cache-Control": "no-store"} | dict(headers or {})
    )


Answers = dict[int | str, dict[str, Any]]
"""What FastAPI takes for OpenAPI's description of a route's answers."""


def documented(*statuses: int) -> Answers:
    """Return OpenAPI's description of the problems that a route may answer with."""
    content = {MEDIA_TYPE: {"schema": reference(Problem)}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


def reference(model: type[BaseModel]) -> dict[str, str]:
    """Return OpenAPI's reference to a model; `http_app` describes those that no route returns as such."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


_MEANINGS = {
    400: "The request contradicts itself",
    401: "A token is needed, as `Authorization: Bearer …`",
    403: "A page of another origin sent it, and `http.cors` doesn't list that",
    404: "No such file",
    406: "Accept-Encoding forbids every coding that there is",
    408: "The body stopped coming",
    409: "The newest upload has no result, and says why: `state` and `detail`",
    412: "A condition of the request doesn't hold: If-Match, If-Unmodified-Since, or of an upload If-None-Match",
    413: "The body is larger than anything of this kind can be",
    415: "The Content-Encoding is none that is understood",
    416: "The range lies outside the file",
    422: "A name, a parameter or the upload isn't acceptable",
    500: "A fault of Millstream",
    502: "S3 refuses",
    503: "S3 doesn't answer, or there is too much to do: try again after Retry-After seconds",
}


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Make every error of the app a problem; a method that a path doesn't take is told those that its `routes` do."""
    app.state.routes = routes
    app.add_exception_handler(Trouble, _trouble)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(MillstreamError, _ours)
    app.add_middleware(Faults)


def status_of(error: MillstreamError) -> int:
    """Return the HTTP status that says the same as one of our errors."""
    match error:
        case Transient():
            return 503
        case NotFound():
            return 404
        case PreconditionFailed():
            return 409
        case UsageError() | InputError() | CalculationError():
            return 422
        case _:
            return 502


def _trouble(request: Request, error: Exception) -> Response:
    assert isinstance(error, Trouble)
    return problem(request, error.status, error.detail, error.headers, **error.members)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    details = {
        404: f"there is nothing at {path}: see /docs for the routes there are",
        405: f"{request.method} is not for {path}: see /docs for the methods there are",
    }
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_methods(request))) or headers.get("Allow", "GET, HEAD")
    return problem(request, error.status_code, details.get(error.status_code, str(error.detail)), headers)


def _methods(request: Request) -> set[str]:
    """Return what the path takes: it may be several routes', each with a method of its own."""
    return {
        method
        for route in request.app.state.routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in getattr(route, "methods", None) or ()
    }


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = [
        f"{'.'.join(str(part) for part in item['loc'][1:])} = {item.get('input')!r}: {item['msg']}"
        for item in error.errors()
    ]
    return problem(request, 422, "; ".join(wrong))


def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, MillstreamError)
    status = status_of(error)
    if status >= 500:
        _log.warning("request failed", route=request.url.path, error=str(error))
    wait = {"Retry-After": str(RETRY_AFTER)} if isinstance(error, Transient | Throttled) else {}
    return problem(request, status, str(error), wait)


class Faults:
    """Answers 500 where a route raises what no handler knows, and logs it; an answer under way is broken off."""

    def __init__(self, app: ASGIApp) -> None:
        """`app` is what is wrapped."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            # The server ends, and has waited as long as it does. An answer under way is broken off by returning.
            if not started:
                detail = "the server is ending: ask again"
                await problem(Request(scope), 503, detail, {"Retry-After": "5", "Connection": "close"})(
                    scope, receive, send
                )
        except Exception as error:
            path = scope.get("path", "")
            # Starlette puts an error of its own around what it can't answer any more.
            why = error.__cause__ if isinstance(error, RuntimeError) else error
            if started and isinstance(why, MillstreamError):
                # Returning now makes the server close the connection: the client sees that bytes are missing.
                _log.warning("answer broken off", path=path, error=str(why))
                return
            _log.exception("fault", path=path)
            if started:
                raise
            detail = f"a fault of Millstream ({type(error).__name__}); its log tells more"
            await problem(Request(scope), 500, detail)(scope, receive, send)
