"""Counts and times every answer, and puts the headers on it that all of them have."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.metrics import HTTP_IN_FLIGHT, HTTP_RECEIVED, HTTP_REQUESTS, HTTP_SECONDS, HTTP_SENT
from sink.http_headers import ANSWER_HEADERS

_METHODS = {"GET", "HEAD", "PUT", "OPTIONS", "POST", "DELETE", "PATCH"}


class Meter:
    """Wraps the whole app: it sees what the client gets, answers to faults included."""

    def __init__(self, app: ASGIApp) -> None:
        """`app` is what is wrapped."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI; a client that left before an answer is counted as status 499, as nginx does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status, sent, received = 499, 0, 0

        async def counted_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
            return message

        HTTP_IN_FLIGHT.inc()
        try:
            await self._app(scope, counted_receive, counted_send)
        finally:
            HTTP_IN_FLIGHT.dec()
            # A template, never an address, and no method that a client made up: both would be labels without end.
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            HTTP_REQUESTS.labels(method, route, str(status)).inc()
            HTTP_SECONDS.labels(method, route).observe(time.perf_counter() - started)
            HTTP_SENT.labels(route).inc(0 if method == "HEAD" else sent)
            HTTP_RECEIVED.labels(route).inc(received)


_HEADERS = [(name.lower().encode(), value.encode()) for name, value in ANSWER_HEADERS.items()]
