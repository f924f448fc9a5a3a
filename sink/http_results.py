"""GET and HEAD of a file's result, its rejects and its receipt: always what one receipt names, never a mixture."""

import csv
import hashlib
import io
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from anyio import sleep
from fastapi import APIRouter, Query, Request, Response

from pipeline import layout
from pipeline.errors import NameRefused, NotFound
from pipeline.jobs import Job, Receipt, Stored
from pipeline.names import check_name, name_of
from pipeline.records import read
from pipeline.states import State
from sink.http_access import BEARER, MayRead
from sink.http_conditional import evaluate, http_date, range_holds
from sink.http_headers import attachment, path
from sink.http_problems import Answers, Trouble, documented, reference
from sink.http_ranges import Unsatisfiable, stretch
from sink.http_reader import Reader, TheReader
from sink.http_stream import Download, Stretch
from sink.http_views import JobView, job_view

LONGEST_WAIT = 300.0
"""Seconds that `?wait=` may last; more is taken for this much."""

_POLLS = (0.1, 0.2, 0.4, 0.7, 1.0)
"""Seconds between looks at S3 while a client waits; the last one is repeated."""

_REPLACED = 3
"""Times that a receipt is read, where the object it named is gone: each time a newer result was published meanwhile."""

CSV = "text/csv; charset=utf-8; header=present"

Wait = Annotated[
    float,
    Query(
        ge=0,
        allow_inf_nan=False,
        description="Seconds to wait for the newest upload to end, however; 300 at most",
    ),
]

router = APIRouter(dependencies=[MayRead, BEARER])


@dataclass(frozen=True, slots=True)
class Content:
    """What can be sent: an object on S3, or, where `data` is there, these bytes."""

    sha256: str
    size: int
    media_type: str
    file_name: str | None = None
    key: str | None = None
    data: bytes | None = None


_HEADERS: dict[str, Any] = {
    "ETag": {"description": "The SHA-256 of the content", "schema": {"type": "string"}},
    "Last-Modified": {"description": "When it was published", "schema": {"type": "string"}},
    "Millstream-State": {
        "description": "`published`, or what is with the newest upload while an older result is sent: `recomputing`, "
        "`failed`, `cancelled`, `superseded` or `refused`",
        "schema": {"type": "string"},
    },
    "Millstream-Generation": {
        "description": "How many times the file was taken on",
        "schema": {"type": "integer"},
    },
    "Millstream-File-Id": {"description": "The job that made it", "schema": {"type": "string"}},
}


_BYTES = {"type": "string", "format": "binary"}


def _answers(media_type: str, what: str, schema: Any = _BYTES) -> Answers:
    whole: dict[str, Any] = {
        "description": what,
        "headers": _HEADERS,
        "content": {media_type: {"schema": schema}},
    }
    found: Answers = {
        200: whole,
        202: {
            "description": "Not there yet; ask again after Retry-After seconds",
            "headers": {"Retry-After": {"schema": {"type": "integer"}}},
            "model": JobView,
        },
        206: whole | {"description": f"A range of it: {what}"},
        304: {"description": "The client has it already", "headers": _HEADERS},
    }
    return found | documented(401, 404, 409, 412, 416, 422, 500, 502, 503)


_RESULT: dict[str, Any] = {
    "response_class": Response,
    "responses": _answers("text/csv", "The computed CSV"),
    "summary": "The computed CSV",
}
_REJECTS: dict[str, Any] = {
    "response_class": Response,
    "responses": _answers("text/csv", "The rejected rows: the input's columns, `_row` and `_error`"),
    "summary": "The rejected rows, with the reason of each",
}
_RECEIPT: dict[str, Any] = {
    "response_class": Response,
    "responses": _answers("application/json", "The account of the result", reference(Receipt)),
    "summary": "The receipt: rows in, rows out, rows rejected, hashes",
}


@router.head("/results/{name:path}", operation_id="head_result", tags=["results"], **_RESULT)
@router.get("/results/{name:path}", operation_id="get_result", tags=["results"], **_RESULT)
async def result(request: Request, reader: TheReader, name: str, wait: Wait = 0) -> Response:
    """Send the newest result there is, with `Millstream-State: recomputing` while a newer one is on its way."""

    async def content(receipt: Receipt) -> Content:
        assert receipt.output is not None
        return _stored(receipt.output, name.rpartition("/")[2])

    return await _answer(request, reader, name, wait, content)


@router.head("/rejects/{name:path}", operation_id="head_rejects", tags=["results"], **_REJECTS)
@router.get("/rejects/{name:path}", operation_id="get_rejects", tags=["results"], **_REJECTS)
async def rejects(request: Request, reader: TheReader, name: str, wait: Wait = 0) -> Response:
    """Send the rows that have no result, with the reason of each. Where none was rejected, there is but a header."""

    async def content(receipt: Receipt) -> Content:
        file_name = _beside(name, ".rejects.csv")
        if receipt.rejects is not None:
            return _stored(receipt.rejects, file_name)
        job = await reader.call(lambda: read(reader.results, layout.job(receipt.file_id), Job))
        if job is None:
            raise NotFound(f"the job of {name} is gone")
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([*job.columns, "_row", "_error"])
        return _inline(text.getvalue().encode(), CSV, file_name)

    return await _answer(request, reader, name, wait, content)


@router.head("/receipts/{name:path}", operation_id="head_receipt", tags=["results"], **_RECEIPT)
@router.get("/receipts/{name:path}", operation_id="get_receipt", tags=["results"], **_RECEIPT)
async def receipt(request: Request, reader: TheReader, name: str, wait: Wait = 0) -> Response:
    """Send the account of the result: its rows add up, rows in = rows out + rows rejected."""

    async def content(receipt: Receipt) -> Content:
        return _inline(receipt.dump() + b"\n", "application/json")

    return await _answer(request, reader, name, wait, content)


async def _answer(
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


def _beside(name: str, suffix: str) -> str:
    return name.rpartition("/")[2].removesuffix(".csv") + suffix


def _stored(there: Stored, file_name: str) -> Content:
    return Content(there.sha256, there.size, CSV, file_name, key=there.key)


def _inline(data: bytes, media_type: str, file_name: str | None = None) -> Content:
    return Content(hashlib.sha256(data).hexdigest(), len(data), media_type, file_name, data=data)
