"""How a file is answered for: which receipt is the newest, and the content it names, whole, in part, or not again."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from anyio import sleep
from fastapi import Request, Response

from pipeline.errors import NameRefused, NotFound
from pipeline.jobs import Receipt
from pipeline.names import check_name, name_of
from pipeline.states import State
from sink.http_conditional import evaluate, http_date, range_holds
from sink.http_headers import attachment, path
from sink.http_problems import Trouble
from sink.http_ranges import Unsatisfiable, stretch
from sink.http_reader import Reader
from sink.http_stream import Download, Stretch
from sink.http_views import job_view

LONGEST_WAIT = 300.0
"""Seconds that `?wait=` may last; more is taken for this much."""

_POLLS = (0.1, 0.2, 0.4, 0.7, 1.0)
"""Seconds between looks at S3 while a client waits; the last one is repeated."""

_REPLACED = 3
"""Times that a receipt is read, where the object it named is gone: each time a newer result was published meanwhile."""


@dataclass(frozen=True, slots=True)
class Content:
    """What can be sent: an object on S3, or, where `data` is there, these bytes."""

    sha256: str
    size: int
    media_type: str
    file_name: str | None = None
    key: str | None = None
    data: bytes | None = None


async def answer(
    request: Request, reader: Reader, name: str, wait: float, content: Callable[[Receipt], Awaitable[Content]]
) -> Response:
    """Find the newest result and send what `content` makes of its receipt."""
    existing(name)
    for _ in range(_REPLACED):
        state = await _newest(request, reader, name, wait)
        if state.served is None:
            return _nothing(state)
        try:
            return await _send(request, reader, state, state.served, await content(state.served))
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


async def _send(
    request: Request, reader: Reader, state: State, receipt: Receipt, content: Content
) -> Response:
    """Answer with the content, a range of it, or the news that the client has it already."""
    headers = _headers(reader, state, receipt, content)
    verdict = evaluate(request.headers, content.sha256, receipt.published)
    if verdict == "not modified":
        return Response(None, 304, headers)
    if verdict == "precondition failed":
        raise Trouble(
            412, f"{receipt.name} is generation {receipt.generation} by now", {"ETag": headers["ETag"]}
        )
    status, start, length = 200, 0, content.size
    only_version = receipt.generation == 1
    if request.method == "GET" and range_holds(
        request.headers.get("if-range"), content.sha256, receipt.published, only_version=only_version
    ):
        try:
            wanted = stretch(request.headers.get("range"), content.size)
        except Unsatisfiable:
            whole = {"Content-Range": f"bytes */{content.size}", "ETag": headers["ETag"]}
            raise Trouble(416, f"{receipt.name} has {content.size} bytes", whole) from None
        if wanted is not None:
            status, (start, length) = 206, wanted
            headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{content.size}"
    headers |= {"Content-Type": content.media_type, "Content-Length": str(length)}
    if request.method == "HEAD":
        return Response(None, status, headers)
    if content.data is not None:
        return Response(content.data[start : start + length], status, headers)
    assert content.key is not None
    piece = Stretch(reader, content.key, content.size, start, length)
    await piece.open()
    return Download(piece, status, headers)


def _headers(reader: Reader, state: State, receipt: Receipt, content: Content) -> dict[str, str]:
    headers = {
        "ETag": f'"{content.sha256}"',
        "Last-Modified": http_date(receipt.published),
        "Accept-Ranges": "bytes",
        # Whoever keeps a copy asks whether it is still the newest; only the reader knows.
        "Cache-Control": "no-cache" if reader.settings.http.read_token is None else "private, no-cache",
        "Millstream-State": state.headline,
        "Millstream-Generation": str(receipt.generation),
        "Millstream-File-Id": receipt.file_id,
    }
    if content.file_name is not None:
        headers["Content-Disposition"] = attachment(content.file_name)
    return headers


def existing(name: str) -> None:
    """Raise a 404 that says why, for what can't be the name of a file."""
    try:
        check_name(name)
        if (other := name_of(name)) != name:
            raise NameRefused(f"an upload {name!r} is called {other!r} here")
    except NameRefused as error:
        raise Trouble(404, str(error), state="unknown") from None
