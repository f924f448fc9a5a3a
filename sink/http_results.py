"""GET and HEAD of a file's result, its rejects and its receipt: always what one receipt names, never a mixture."""

import csv
import hashlib
import io
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from pipeline import layout
from pipeline.errors import NotFound
from pipeline.jobs import Job, Receipt, Stored
from pipeline.records import read
from pipeline.states import State
from sink.http_access import BEARER, MayRead
from sink.http_answer import answer
from sink.http_headers import beside
from sink.http_negotiation import MEDIA_TYPES, Format
from sink.http_partial import so_far
from sink.http_problems import Answers, Trouble, documented, reference
from sink.http_reader import Reader, TheReader
from sink.http_send import Content
from sink.http_views import JobView

CSV = "text/csv; charset=utf-8; header=present"

Wait = Annotated[
    float,
    Query(
        ge=0,
        allow_inf_nan=False,
        description="Seconds to wait for the newest upload to end, however; 300 at most",
    ),
]

Wanted = Annotated[
    Format | None, Query(alias="format", description="The format of the answer; without it, by Accept")
]

Partial = Annotated[
    bool,
    Query(
        alias="partial",
        description="While the newest is computed: the rows from its start that are on S3 already, as CSV; "
        "`Millstream-Rows` says which",
    ),
]

router = APIRouter(dependencies=[MayRead, BEARER])


_HEADERS: dict[str, Any] = {
    "ETag": {
        "description": "The SHA-256 of the content, with format and coding where it isn't sent as it lies",
        "schema": {"type": "string"},
    },
    "Vary": {"description": "Which headers choose format and coding", "schema": {"type": "string"}},
    "Content-Encoding": {"description": "`gzip` or `zstd`, by Accept-Encoding", "schema": {"type": "string"}},
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
    "Millstream-Rows": {
        "description": "With `?partial=true` while the job runs: the rows of the file, counted from 0, that this is of, "
        "as `0-8191`; rejected ones are among them, and not in it",
        "schema": {"type": "string"},
    },
    "Millstream-File-Id": {"description": "The job that made it", "schema": {"type": "string"}},
}


_BYTES = {"type": "string", "format": "binary"}


_ROWS = {"type": "array", "items": {"type": "object"}}


def _answers(media_type: str, what: str, schema: Any = _BYTES, **others: Any) -> Answers:
    whole: dict[str, Any] = {
        "description": what,
        "headers": _HEADERS,
        "content": {media_type: {"schema": schema}} | {kind: {"schema": s} for kind, s in others.items()},
    }
    partial_content = {media_type: {"schema": schema}, "multipart/byteranges": {"schema": _BYTES}}
    found: Answers = {
        200: whole,
        202: {
            "description": "Not there yet; ask again after Retry-After seconds",
            "headers": {"Retry-After": {"schema": {"type": "integer"}}},
            "model": JobView,
        },
        206: whole | {"description": f"Ranges of it: {what}", "content": partial_content},
        304: {"description": "The client has it already", "headers": _HEADERS},
    }
    return found | documented(401, 404, 406, 409, 412, 416, 422, 500, 502, 503)


_RESULT: dict[str, Any] = {
    "response_class": Response,
    "responses": _answers(
        "text/csv",
        "The computed CSV",
        **{kind: _ROWS if name == "json" else _BYTES for name, kind in MEDIA_TYPES.items() if name != "csv"},
    ),
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
async def result(
    request: Request,
    reader: TheReader,
    name: str,
    wait: Wait = 0,
    wanted: Wanted = None,
    partial_: Partial = False,
) -> Response:
    """Send the newest result there is, with `Millstream-State: recomputing` while a newer one is on its way.

    In another format than CSV values have the types of the calculation. JSON is an array of objects, one on a line.
    With `?partial=true` a file that is computed is answered for with the rows that there are so far, 202 where there are none,
    and whatever is there of older results is left out of it. They are CSV, as they will stand at the result's beginning.
    """
    if partial_ and wanted not in (None, "csv"):
        raise Trouble(422, f"partial = true, format = {wanted!r}: rows so far are sent as csv alone")

    async def content(receipt: Receipt) -> Content:
        assert receipt.output is not None
        there = _stored(receipt.output, beside(name, "results.csv"))
        return replace(there, job=partial(_job, reader, receipt), format=wanted)

    async def running(state: State) -> Response | None:
        return await so_far(request, reader, state, CSV)

    return await answer(request, reader, name, wait, content, running if partial_ else None)


@router.head("/rejects/{name:path}", operation_id="head_rejects", tags=["results"], **_REJECTS)
@router.get("/rejects/{name:path}", operation_id="get_rejects", tags=["results"], **_REJECTS)
async def rejects(request: Request, reader: TheReader, name: str, wait: Wait = 0) -> Response:
    """Send the rows that have no result, with the reason of each. Where none was rejected, there is but a header."""

    async def content(receipt: Receipt) -> Content:
        file_name = beside(name, "rejects.csv")
        if receipt.rejects is not None:
            return _stored(receipt.rejects, file_name)
        job = await _job(reader, receipt)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([*job.columns, "_row", "_error"])
        return _inline(text.getvalue().encode(), CSV, file_name)

    return await answer(request, reader, name, wait, content)


@router.head("/receipts/{name:path}", operation_id="head_receipt", tags=["results"], **_RECEIPT)
@router.get("/receipts/{name:path}", operation_id="get_receipt", tags=["results"], **_RECEIPT)
async def receipt(request: Request, reader: TheReader, name: str, wait: Wait = 0) -> Response:
    """Send the account of the result: its rows add up, rows in = rows out + rows rejected."""

    async def content(receipt: Receipt) -> Content:
        found = _inline(receipt.dump() + b"\n", "application/json", beside(name, "receipt.json"))
        return replace(found, shown=True)

    return await answer(request, reader, name, wait, content)


async def _job(reader: Reader, receipt: Receipt) -> Job:
    job = await reader.call(lambda: read(reader.results, layout.job(receipt.file_id), Job))
    if job is None:
        raise NotFound(f"the job of {receipt.name} is gone")
    return job


def _stored(there: Stored, file_name: str) -> Content:
    return Content(there.sha256, there.size, CSV, file_name, key=there.key)


def _inline(data: bytes, media_type: str, file_name: str) -> Content:
    return Content(hashlib.sha256(data).hexdigest(), len(data), media_type, file_name, data=data)
