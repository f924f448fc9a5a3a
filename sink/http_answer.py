"""How a file is answered for: which receipt is the newest, and what it comes to where there is none."""

import time
from collections.abc import Awaitable, Callable

from anyio import sleep
from fastapi import Request, Response

from pipeline.errors import NameRefused, NotFound
from pipeline.jobs import Receipt
from pipeline.names import check_name, name_of
from pipeline.states import State
from sink.http_headers import path
from sink.http_problems import Trouble
from sink.http_reader import Reader
from sink.http_send import Content, send
from sink.http_views import job_view

LONGEST_WAIT = 300.0
"""Seconds that `?wait=` may last; more is taken for this much."""

_POLLS = (0.1, 0.2, 0.4, 0.7, 1.0)
"""Seconds between looks at S3 while a client waits; the last one is repeated."""

_REPLACED = 3
"""Times that a receipt is read, where the object it named is gone: each time a newer result was published meanwhile."""


async def answer(
    request: Request,
    reader: Reader,
    name: str,
    wait: float,
    content: Callable[[Receipt], Awaitable[Content]],
    running: Callable[[State], Awaitable[Response | None]] | None = None,
) -> Response:
    """Find the newest result and send what `content` makes of its receipt.

    Where it is still on its way, the answer is what `running` makes of that, if it is given, whatever older result there is.
    """
    existing(name)
    for _ in range(_REPLACED):
        state = await _newest(request, reader, name, wait)
        try:
            if running is not None and state.pending:
                return await running(state) or _nothing(state)
            if state.served is None:
                return _nothing(state)
            return await send(request, reader, state, state.served, await content(state.served))
        except NotFound:
            continue
    raise Trouble(503, f"the result of {name} is being replaced: ask again", {"Retry-After": "1"})


async def _newest(request: Request, reader: Reader, name: str, wait: float) -> State:
    """Return where the file is, not before it has ended where the client waits for that."""
    until = time.monotonic() + min(wait, LONGEST_WAIT)
    polls = iter(_POLLS)
    while True:
        state = await reader.look(name)
        left = until - time.monotonic()
        if not state.pending or left <= 0 or reader.stopping() or await request.is_disconnected():
            return state
        await sleep(min(next(polls, _POLLS[-1]), left))


def _nothing(state: State) -> Response:
    """Answer for a file without a result that could be sent."""
    if state.pending:
        headers = {"Retry-After": "1", "Cache-Control": "no-store", "Millstream-State": state.state}
        headers["Location"] = path("jobs", state.name)
        return Response(job_view(state).model_dump_json(), 202, headers, "application/json")
    status = 404 if state.state in ("deleted", "unknown") else 409
    headers = {"Millstream-State": state.state}
    raise Trouble(
        status, f"no result of {state.name}: {state.reason or state.state}", headers, state=state.state
    )


def existing(name: str) -> None:
    """Raise a 404 that says why, for what can't be the name of a file."""
    try:
        check_name(name)
        if (other := name_of(name)) != name:
            raise NameRefused(f"an upload {name!r} is called {other!r} here")
    except NameRefused as error:
        raise Trouble(404, str(error), state="unknown") from None
